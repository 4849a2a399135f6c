"""API clients, and the endpoint where they fetch their tokens (contract section 4)."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import hdrs, web
from pydantic import AfterValidator, Field

from waybridge import limits
from waybridge.api import answers
from waybridge.api.bodies import Body, Paging, keepable
from waybridge.api.operations import SMALL_BODY, Call, Operation, read_body
from waybridge.api.problems import problem_of
from waybridge.auth import SCOPES, Clients, Principal, TokenRequest, new_client_secret, secret_digest
from waybridge.errors import NotFound, RequestError, TooMany
from waybridge.limits import Limiter
from waybridge.model import iso_us
from waybridge.store import clients as rows
from waybridge.store.clients import ClientRow
from waybridge.store.engine import Store, Tx

ABSENT = "there is no such client"
_WORDS = "|".join(SCOPES)


def _one_line(text: str) -> str:
    if not keepable(text):
        raise ValueError("must not hold control characters")
    return text


def _scope(text: str) -> str:
    words = list(dict.fromkeys(text.split(" ")))
    if not text or any(word not in SCOPES for word in words):
        raise ValueError(f"must be words of {', '.join(SCOPES)}, separated by single spaces")
    return " ".join(words)


class ClientBody(Body):
    """A new client. `instances` may be ["*"], for all, where the caller's token covers all."""

    name: Annotated[str, AfterValidator(_one_line), Field(min_length=1, max_length=200)]
    instances: Annotated[
        list[Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]{1,64}|\*)$")]], Field(min_length=1, max_length=100)
    ]
    scope: Annotated[
        str,
        AfterValidator(_scope),
        Field(max_length=100, json_schema_extra={"pattern": f"^({_WORDS})( ({_WORDS}))*$"}, examples=["read write"]),
    ]


class ClientApi:
    """The operations on clients, and `POST /oauth/token` at the site's root."""

    def __init__(self, store: Store, tokens: Clients, limiter: Limiter) -> None:
        self._store = store
        self._tokens = tokens
        self._limiter = limiter

    def operations(self) -> list[Operation]:
        common: dict[str, Any] = {"tag": "Clients", "scope": "admin", "instance": "none", "absent": ABSENT}
        return [
            Operation(
                method="GET", path="/clients", handler=self.page, summary="List API clients", query=Paging,
                answers={200: answers.ClientPage}, **common,
            ),
            Operation(
                method="POST", path="/clients", handler=self.create, summary="Make an API client", body=ClientBody,
                answers={201: answers.NewClient}, **common,
            ),
            Operation(
                method="DELETE", path="/clients/{client_id}", handler=self.remove, summary="Remove an API client",
                answers={204: None}, **common,
            ),
        ]  # fmt: skip

    async def page(self, call: Call) -> web.StreamResponse:
        query: Paging = call.query
        async with self._store.read() as conn:
            every = await rows.every_client(conn)
        found = [each for each in every if _covers(call.principal, each.instances)]
        some = found[query.offset : query.offset + query.limit]
        return call.json(
            {
                "clients": [_shown(each) for each in some],
                "total": len(found),
                "limit": query.limit,
                "offset": query.offset,
            }
        )

    async def create(self, call: Call) -> web.StreamResponse:
        body: ClientBody = call.body
        if not _covers(call.principal, body.instances):
            raise NotFound("there is no such instance")
        secret = new_client_secret()

        async def unit(tx: Tx) -> ClientRow:
            made = ClientRow(
                client_id="client_" + secrets.token_hex(12),
                name=body.name,
                instances=tuple(dict.fromkeys(body.instances)),
                scope=body.scope,
                created_us=tx.now_us,
                secret_hash=secret_digest(secret),
            )
            await rows.add_client(tx, made)
            return made

        made = await self._store.write(unit)
        return call.json({**_shown(made), "client_secret": secret}, status=201)

    async def remove(self, call: Call) -> web.StreamResponse:
        client_id = call.path["client_id"]
        async with self._store.read() as conn:
            found = await rows.client_by_id(conn, client_id)
        if found is None or not _covers(call.principal, found.instances):
            raise call.absent()
        if not await self._store.write(lambda tx: rows.remove_client(tx, client_id)):
            raise call.absent()
        return call.empty()

    def root_operations(self) -> list[Operation]:
        """Those at the site's root."""
        return [
            Operation(
                method="POST", path="/oauth/token", handler=self._token, summary="A token for an API client",
                scope=None, instance="none", tag="Clients", reads_body=True,
                answers={
                    200: answers.Token, 400: answers.TokenRefusal, 401: answers.TokenRefusal, 429: None, 503: None,
                },
                description="Client credentials (RFC 6749, 4.4): `grant_type=client_credentials` in the form or the "
                "query, the client by HTTP Basic or in the form, `scope` optional.",
            )
        ]  # fmt: skip

    async def _token(self, call: Call) -> web.StreamResponse:
        """Errors are RFC 6749's, but for those of HTTP itself."""
        request = call.request
        try:
            verdict = await self._limiter.hit(limits.TOKEN, call.client)
            if not verdict.allowed:
                raise TooMany("too many tokens are asked for", retry_after=int(verdict.retry_after + 1))
            raw = await read_body(request, SMALL_BODY)
            answer = await self._tokens.answer(
                TokenRequest(
                    headers=request.headers,
                    query=[*request.query.items()],
                    form=_form(raw) if request.content_type == "application/x-www-form-urlencoded" else (),
                )
            )
        except (RequestError, ValueError) as error:
            return problem_of(error) if isinstance(error, RequestError) else _malformed()
        body = msgspec.json.encode(dict(answer.body))
        return web.Response(status=answer.status, body=body, headers=answer.headers)


async def find_client(store: Store, client_id: str) -> ClientRow | None:
    """A client for the token endpoint."""
    async with store.read() as conn:
        return await rows.client_by_id(conn, client_id)


def _form(raw: bytes) -> list[tuple[str, str]]:
    """Raises ValueError for what is no form."""
    return parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), max_num_fields=50)


def _malformed() -> web.Response:
    body = msgspec.json.encode({"error": "invalid_request", "error_description": "the form cannot be read"})
    headers = {hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store", "Pragma": "no-cache"}
    return web.Response(status=400, body=body, headers=headers)


def _covers(principal: Principal | None, instances: Collection[str]) -> bool:
    return principal is not None and all(principal.covers(each) for each in instances)


def _shown(client: ClientRow) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "instances": list(client.instances),
        "scope": client.scope,
        "created_at": iso_us(client.created_us),
    }
