"""The manners of Linq's API: the Bearer key, the error envelope, trace ids, and which refusals are final.

The vendor's clients send 409, 429 and 5xx twice more, unless an answer carries `x-should-retry: false`.
"""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiohttp import web

from waybridge import RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from waybridge import Caller, Gateway

    Serve = Callable[["Call"], Awaitable[web.Response]]
    Handler = Callable[[web.Request], Awaitable[web.Response]]

ROOT = "/api/partner/v3"
LONGEST_BODY = 65_536
MISSING_FIELD, BAD_BODY, BAD_VALUE, RATE_LIMIT = 1001, 1003, 1005, 1007
NOT_FOUND, UNAUTHORISED, DENIED = 2001, 2004, 2005
UNAVAILABLE, GROUP, SERVICE, CONFLICT = 2013, 2016, 2017, 2018
INTERNAL = 3006
_CODES = {
    HTTPStatus.BAD_REQUEST: BAD_VALUE,
    HTTPStatus.UNAUTHORIZED: UNAUTHORISED,
    HTTPStatus.FORBIDDEN: DENIED,
    HTTPStatus.NOT_FOUND: NOT_FOUND,
    HTTPStatus.CONFLICT: CONFLICT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: BAD_BODY,
    HTTPStatus.TOO_MANY_REQUESTS: RATE_LIMIT,
}


class Call(NamedTuple):
    """A request whose sender is known, and the instances that it may see."""

    request: web.Request
    caller: Caller
    instances: Sequence[str]


class Refusal(Exception):
    """Answered in the error envelope; `final`: the client is told not to try again."""

    def __init__(
        self, status: int, code: int, message: str, *, final: bool = True, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.final = final
        self.retry_after = retry_after


class Dialect:
    """Wraps handlers: who calls, what went wrong, in the vendor's words."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def served(self, scope: str, serve: Serve, *, once: bool = False) -> Handler:
        """A handler for callers with a scope. `once`: even a failure of ours must not be tried again."""

        async def handle(request: web.Request) -> web.Response:
            trace_id = uuid.uuid4().hex
            try:
                call = await self._call(request, scope)
                answer = await serve(call)
            except Refusal as refusal:
                answer = _refused(refusal, trace_id)
            except RequestError as error:
                answer = _refused(_translated(error, once=once), trace_id)
            answer.headers["X-Trace-ID"] = trace_id
            return answer

        return handle

    def anything_else(self) -> Sequence[web.AbstractRouteDef]:
        """Paths of the vendor that the gateway has not: 404 in the envelope."""

        async def refuse(_request: web.Request) -> web.Response:
            trace_id = uuid.uuid4().hex
            answer = _refused(Refusal(404, NOT_FOUND, "This API has no such resource"), trace_id)
            answer.headers["X-Trace-ID"] = trace_id
            return answer

        return [web.route("*", "/api/partner/{tail:.*}", refuse)]

    async def _call(self, request: web.Request, scope: str) -> Call:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refusal(401, UNAUTHORISED, "Unauthorized: send Authorization: Bearer <gateway token>")
        caller = await self._gateway.authenticate(token.strip())
        if scope not in caller.scopes:
            raise Refusal(403, DENIED, f"The token lacks the scope {scope}")
        instances = list(await self._gateway.instances(caller))
        asked = request.query.get("instance_id")
        if asked is not None:
            instances = [one for one in instances if one == asked]
            if not instances:
                raise Refusal(404, NOT_FOUND, "There is no such instance")
        return Call(request, caller, instances)


async def fields_of(request: web.Request) -> dict[str, Any]:
    """A JSON object of at most 64 KiB. Raises Refusal."""
    body = bytearray()
    async for chunk in request.content.iter_chunked(16_384):
        body += chunk
        if len(body) > LONGEST_BODY:
            raise Refusal(413, BAD_BODY, f"The body is larger than {LONGEST_BODY} bytes")
    try:
        fields = msgspec.json.decode(bytes(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Refusal(400, BAD_BODY, "The body must be a JSON object")
    return fields


def json_answer(content: Mapping[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(content),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def _translated(error: RequestError, *, once: bool) -> Refusal:
    """The gateway's error in the vendor's terms; invalid fields are its 400."""
    status = error.status
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        told = "; ".join(f"{field}: {why}" for field, why in error.errors) or error.detail
        missing = any("required" in why.lower() for _, why in error.errors)
        return Refusal(400, MISSING_FIELD if missing else BAD_VALUE, told)
    waits = error.headers.get("Retry-After", "")
    limited = status == HTTPStatus.TOO_MANY_REQUESTS
    broken = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return Refusal(
        status,
        INTERNAL if broken else _CODES.get(HTTPStatus(status), BAD_VALUE),
        error.detail,
        final=once if broken else not limited,
        retry_after=int(waits) if waits.isdecimal() else None,
    )


def _refused(refusal: Refusal, trace_id: str) -> web.Response:
    error: dict[str, Any] = {"status": refusal.status, "code": refusal.code, "message": refusal.message}
    if refusal.retry_after is not None and refusal.status == HTTPStatus.TOO_MANY_REQUESTS:
        error["retry_after"] = refusal.retry_after
    answer = json_answer({"success": False, "error": error, "trace_id": trace_id}, status=refusal.status)
    if refusal.final:
        answer.headers["x-should-retry"] = "false"
    if refusal.retry_after is not None:
        answer.headers["Retry-After"] = str(refusal.retry_after)
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
