"""Inbound positions: every push over HTTP, and the native live WebSocket (contract section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import unquote

from aiohttp import hdrs, web

from waybridge.api.bodies import keepable
from waybridge.api.operations import PRINCIPAL, Proofs, Verifier, read_body
from waybridge.api.problems import BASE_HEADERS, problem_of
from waybridge.auth import Principal, basic_credentials, bearer
from waybridge.errors import Forbidden, NotFound, PushRejected, Unauthorized
from waybridge.model import now_utc
from waybridge.provider import Answer, Capabilities, Push, Sender

NO_CONNECTION = "there is no such connection"
SCOPE = "ingest"


class Ingest(Protocol):
    """Who takes pushes in (waybridge.pushing)."""

    def capabilities(self, connection_id: str) -> Capabilities | None: ...

    async def push(self, connection_id: str, push: Push, principal: Principal | None) -> Answer:
        """Raises RequestError, PushRejected, StoreUnavailable."""
        ...


class IngestApi:
    """`/ingest/{connection_id}/...` at the site's root. `most` limits bodies beside each provider's own limit."""

    def __init__(self, ingest: Ingest, auth: Verifier, *, most: int = 1_048_576) -> None:
        self._ingest = ingest
        self._proofs = Proofs(auth)
        self._most = most

    def mount(self, app: web.Application) -> None:
        app.router.add_route("*", "/ingest/{connection_id:[^/]+}/{tail:.*}", self.handle)
        app.router.add_route("*", "/ingest/{connection_id:[^/]+}", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One inbound request: who sent it, its body, what became of it."""
        try:
            return await self._handle(request)
        except PushRejected as refused:
            return _response(refused.status, refused.body, "application/json", refused.headers)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever happened is answered in the API's form
            return problem_of(error)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        connection_id = request.match_info["connection_id"]
        can = self._ingest.capabilities(connection_id)
        if can is None:
            await self._principal(request, Capabilities())
            raise NotFound(NO_CONNECTION)
        principal = await self._sender(request, can)
        segments = _segments(request.rel_url.raw_path)
        body = await read_body(request, min(can.max_body, self._most)) if request.can_read_body else b""
        push = Push(
            method=request.method,
            path="/".join(segments),
            segments=segments,
            query=_query(request, can),
            headers=_headers(request, can),
            body=body,
            received_at=now_utc(),
            sender=sender_of(principal) if principal is not None else None,
        )
        answer = await self._ingest.push(connection_id, push, principal)
        return _response(answer.status, answer.body, answer.content_type, answer.headers)

    async def _sender(self, request: web.Request, can: Capabilities) -> Principal | None:
        """Who sent it, where the gateway proves it. Raises Unauthorized, Forbidden, or the dialect's answer."""
        if can.verifies == "provider":
            return None
        try:
            principal = await self._principal(request, can)
            if hdrs.ORIGIN in request.headers:
                request[PRINCIPAL] = principal
            principal.require(SCOPE)
        except (Unauthorized, Forbidden) as error:
            if can.unauthorized is None:
                raise
            told = can.unauthorized
            headers = dict(told.headers)
            if told.content_type is not None:
                headers[hdrs.CONTENT_TYPE] = told.content_type
            raise PushRejected(told.status, told.body, headers=headers) from error
        return principal

    async def _principal(self, request: web.Request, can: Capabilities) -> Principal:
        token = token_of(request, can)
        return self._proofs.recent(token) or await self._proofs.prove(token)


def token_of(request: web.Request, can: Capabilities) -> str:
    """The token, from wherever the provider's senders can put one. Raises Unauthorized."""
    if "query" in can.token_in and "token" in request.query:
        given = request.query.getall("token")
        if len(given) == 1 and given[0]:
            return given[0]
        raise Unauthorized("a token is required")
    if "basic" in can.token_in:
        credentials = basic_credentials(request.headers)
        if credentials is not None:
            return credentials[1]
    if "header" in can.token_in:
        return bearer(request.headers, bare=True)
    raise Unauthorized("a token is required", headers={"WWW-Authenticate": 'Basic realm="waybridge"'})


def sender_of(principal: Principal) -> Sender:
    return Sender(subject=principal.subject, instances=principal.instances, device_token=principal.device_token)


def _segments(raw_path: str) -> list[str]:
    """What follows the connection, decoded one by one. Raises NotFound for what is no text."""
    tail = raw_path.split("/", 3)[3:]
    if not tail or not tail[0]:
        return []
    segments = [unquote(part, errors="surrogateescape") for part in tail[0].split("/")]
    if not all(keepable(segment) for segment in segments):
        raise NotFound("there is nothing at this address")
    return segments


def _query(request: web.Request, can: Capabilities) -> Mapping[str, str]:
    if not request.query_string:
        return {}
    query = dict(reversed([*request.query.items()]))
    if "query" in can.token_in:
        query.pop("token", None)
    return query


def _headers(request: web.Request, can: Capabilities) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        name = name.lower()  # noqa: PLW2901
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if can.verifies == "gateway":
        headers.pop("authorization", None)
    return headers


def _response(status: int, body: bytes, content_type: str | None, headers: Mapping[str, str]) -> web.Response:
    sent = dict(BASE_HEADERS)
    if content_type is not None and (body or status == 200):
        sent[hdrs.CONTENT_TYPE] = content_type
    sent.update(headers)
    return web.Response(status=status, body=body, headers=sent)
