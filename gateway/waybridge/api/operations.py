"""Operations: what the API can do, and the one way in which a request becomes a call of a handler.

    token -> scope -> instance -> body and query -> handler -> answer, or an error in the API's form

Each subject's file makes a list of operations; server.py mounts them, openapi.py describes them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDict, MultiDict
from pydantic import BaseModel

from waybridge.api.bodies import InstanceId, Paging, Query, keepable, validate, validate_query
from waybridge.api.problems import BASE_HEADERS, problem_of
from waybridge.errors import Invalid, Malformed, NotFound, RequestError, TooLarge, Unauthorized, UnsupportedMedia
from waybridge.model import canonical_token

if TYPE_CHECKING:
    from waybridge.auth import Principal

Scope = Literal["read", "write", "ingest", "admin"]
SMALL_BODY = 65_536
LARGE_BODY = 1_048_576
BODY_SECONDS = 30.0
RECENT_SECONDS = 1.0
"""How long a proof of a token is taken for granted; `auth` keeps proofs too, but hashes the token each time."""
RECENT_TOKENS = 10_000

PRINCIPAL = web.RequestKey("principal", object)
"""Where a request of another origin keeps who sent it, once that is known."""
INSTANCE = web.RequestKey("instance", str)


class Verifier(Protocol):
    """Who proves bearer tokens (waybridge.auth)."""

    def cached(self, token: str) -> Principal | None:
        """The principal of a token that was verified before and is still valid."""
        ...

    async def verify(self, token: str) -> Principal:
        """Raises Unauthorized."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path below `/api/v1`.

    scope: what the token must hold; None = public, no token is looked at.
    instance: where `instance_id` comes from: `query` = required in the query; `body_or_query` = in either,
      required, both and different is 422; `optional` = in either, if at all; `none` = the operation has none.
    answers: the model of each documented answer (None = no JSON body or one that has no model); problems of
      400, 401, 403, 404, 413, 415, 422 and 503 follow from the rules and need not be named.
    absent: the detail of the 404 of an object that does not exist. An instance that the token does not cover is
      answered with it too, so that nobody learns what exists elsewhere.
    content_types: what the answer may be beside JSON.
    reads_body: the handler reads the body itself; else a body that nobody wants is read and dropped.
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[web.StreamResponse]]
    summary: str
    tag: str
    scope: Scope | None
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: type[BaseModel] | None = None
    answers: Mapping[int, type[BaseModel] | None] = field(default_factory=dict)
    websocket: bool = False
    instance: Literal["query", "body_or_query", "optional", "none"] = "query"
    max_body: int | None = None
    absent: str = "no such object"
    content_types: tuple[str, ...] = ()
    reads_body: bool = False
    description: str = ""


class Call:
    """One request to an operation, checked: everything that a handler needs, and how it answers.

    `instance_id` is covered by the principal; None where the operation has none or it was left out.
    `path` holds the path's parameters, free of control characters. `client` keys rate limits.
    """

    __slots__ = ("_dispatcher", "body", "instance_id", "operation", "path", "principal", "query", "request")

    def __init__(
        self,
        request: web.Request,
        operation: Operation,
        principal: Principal | None,
        instance_id: str | None,
        body: Any,
        query: Any,
        dispatcher: Dispatcher,
    ) -> None:
        self.request = request
        self.operation = operation
        self.principal = principal
        self.instance_id = instance_id
        self.body = body
        self.query = query
        self.path: Mapping[str, str] = request.match_info
        self._dispatcher = dispatcher

    @property
    def client(self) -> str:
        """The address that rate limits count by: IPv4, or the /64 of IPv6, behind trusted proxies."""
        return self._dispatcher.address(self.request)

    @property
    def instances(self) -> Collection[str]:
        """The instances to look in: the one that was named, else all that the token covers ("*" spelled out)."""
        if self.instance_id is not None:
            return (self.instance_id,)
        return self._dispatcher.covered(self.principal)

    @property
    def device_token(self) -> str:
        """The path's device token, canonical. What is none is the operation's 404, or 422 where it would be made."""
        try:
            return canonical_token(self.path["device_token"])
        except ValueError as error:
            if self.operation.method == "PUT":
                raise Invalid("the address is not valid", errors=[("device_token", str(error))]) from None
            raise self.absent() from None

    def absent(self) -> NotFound:
        """The 404 of an object that does not exist, the same for everybody."""
        return NotFound(self.operation.absent)

    def json(self, payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
        """An answer as JSON: anything that msgspec encodes, or a pydantic model."""
        if isinstance(payload, BaseModel):
            payload = payload.model_dump(mode="json")
        sent = (_JSON_HEADERS if self.operation.scope is not None else _PUBLIC_HEADERS).copy()
        if headers:
            sent.update(headers)
        return web.Response(status=status, body=_encode(payload), headers=sent)

    def empty(self, status: int = 204) -> web.Response:
        """An answer without a body."""
        return web.Response(status=status, headers=CIMultiDict(BASE_HEADERS))


class Proofs:
    """What `auth` said of the tokens of this second, without asking it again.

    A token outlives its end by a second at the most, well within the leeway that every token has.
    """

    def __init__(self, auth: Verifier) -> None:
        self._auth = auth
        self._recent: dict[str, tuple[Principal, float]] = {}

    def recent(self, token: str) -> Principal | None:
        known = self._recent.get(token)
        return known[0] if known is not None and time.monotonic() < known[1] else None

    async def prove(self, token: str) -> Principal:
        """Raises Unauthorized."""
        principal = self._auth.cached(token) or await self._auth.verify(token)
        if len(self._recent) >= RECENT_TOKENS:
            self._recent.clear()
        self._recent[token] = (principal, time.monotonic() + RECENT_SECONDS)
        return principal


class Dispatcher:
    """Turns requests into calls. `auth` proves tokens, `address` names clients.

    `instance_ids` names all instances, `is_instance` tells whether there is one. `body_bytes` limits bodies of
    operations that name no limit; `page_size` and `page_size_max` hold for lists.
    """

    def __init__(
        self,
        auth: Verifier,
        address: Callable[[web.Request], str],
        *,
        instance_ids: Callable[[], Collection[str]] = tuple,
        is_instance: Callable[[str], bool] | None = None,
        body_bytes: int = SMALL_BODY,
        page_size: int = 50,
        page_size_max: int = 500,
    ) -> None:
        self._proofs = Proofs(auth)
        self.address = address
        self._instance_ids = instance_ids
        self._is_instance = is_instance
        self._body_bytes = body_bytes
        self._page_size = page_size
        self._page_size_max = page_size_max
        self._defaults: dict[type[BaseModel], BaseModel] = {}

    def handler(self, operation: Operation) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The aiohttp handler of an operation; it answers errors itself."""
        return partial(self._serve, operation)

    def covered(self, principal: Principal | None) -> Collection[str]:
        """The instances that a principal covers, with "*" spelled out."""
        if principal is None:
            return ()
        return self._instance_ids() if "*" in principal.instances else principal.instances

    async def _serve(self, operation: Operation, request: web.Request) -> web.StreamResponse:
        try:
            return await operation.handler(await self._call(operation, request))
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever happened is answered in the API's form
            return problem_of(error)

    async def _call(self, operation: Operation, request: web.Request) -> Call:
        principal: Principal | None = None
        if operation.scope is not None:
            principal = await self._principal(request)
            if hdrs.ORIGIN in request.headers:
                request[PRINCIPAL] = principal
            principal.require(operation.scope)
        if request.match_info:
            _check_path(operation, request.match_info)
        instance_id = self._queried_instance(operation, request, principal)
        query = self._query(operation.query, request) if operation.query is not None else None
        body = None
        if operation.body is not None:
            body = await _body(operation, request, operation.max_body or self._body_bytes)
        elif request.can_read_body and not (operation.websocket or operation.reads_body):
            await read_body(request, operation.max_body or self._body_bytes)
        if operation.instance == "body_or_query" or (operation.instance == "optional" and body is not None):
            instance_id = self._either_instance(operation, instance_id, body, principal)
        if instance_id is not None and hdrs.ORIGIN in request.headers:
            request[INSTANCE] = instance_id
        return Call(request, operation, principal, instance_id, body, query, self)

    async def _principal(self, request: web.Request) -> Principal:
        token = bearer(request)
        return self._proofs.recent(token) or await self._proofs.prove(token)

    def _query(self, model: type[BaseModel], request: web.Request) -> BaseModel:
        if not request.rel_url.raw_query_string and model in self._defaults:
            return self._defaults[model]
        query = validate_query(model, request.query)
        if isinstance(query, Paging):
            if query.limit > self._page_size_max:
                message = f"must be at most {self._page_size_max}"
                raise Invalid("the query is not valid", errors=[("limit", message)])
            if "limit" not in query.model_fields_set and self._page_size != query.limit:
                query = query.model_copy(update={"limit": min(self._page_size, self._page_size_max)})
        if not request.rel_url.raw_query_string:
            self._defaults[model] = query
        return query

    def _queried_instance(
        self, operation: Operation, request: web.Request, principal: Principal | None
    ) -> str | None:
        if operation.instance == "none":
            return None
        query = request.query if request.rel_url.raw_query_string else _NO_QUERY
        if "instance_id" not in query:
            if operation.instance == "query":
                raise Invalid("the query is not valid", errors=[("instance_id", "is required")])
            return None
        if len(query.getall("instance_id")) > 1:
            raise Invalid("the query is not valid", errors=[("instance_id", "is given more than once")])
        instance_id = query["instance_id"]
        self._check_instance(operation, instance_id, principal, "the query is not valid")
        return instance_id

    def _either_instance(
        self, operation: Operation, queried: str | None, body: Any, principal: Principal | None
    ) -> str | None:
        named = getattr(body, "instance_id", None)
        if named is None:
            if queried is None and operation.instance == "body_or_query":
                raise Invalid("the body is not valid", errors=[("instance_id", "is required")])
            return queried
        if queried is not None and queried != named:
            raise Invalid(
                "the body and the query name different instances",
                errors=[("instance_id", "differs from the query's instance_id")],
            )
        self._check_instance(operation, named, principal, "the body is not valid")
        return str(named)

    def _check_instance(
        self, operation: Operation, instance_id: str, principal: Principal | None, detail: str
    ) -> None:
        """One that does not exist is answered like one that the token does not cover."""
        if principal is None:
            return
        if not principal.covers(instance_id):
            raise NotFound(operation.absent)
        if not (1 <= len(instance_id) <= 64 and all(c.isascii() and (c.isalnum() or c in "_-") for c in instance_id)):
            raise Invalid(detail, errors=[("instance_id", "must be 1 to 64 of A-Z a-z 0-9 _ -")])
        if self._is_instance is not None and not self._is_instance(instance_id):
            raise NotFound(operation.absent)


def bearer(request: web.Request) -> str:
    """The bearer token of a request. Raises Unauthorized."""
    given = request.headers.getall(hdrs.AUTHORIZATION, ())
    if not given:
        raise Unauthorized("a bearer token is required")
    if len(given) > 1:
        raise Unauthorized("more than one Authorization header")
    scheme, _, token = given[0].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("a bearer token is required")
    return token


async def read_body(request: web.Request, limit: int) -> bytes:
    """The whole body. Raises TooLarge beyond `limit` bytes (after decompression), and a 408 when it crawls."""
    if request.content_length is not None and request.content_length > limit:
        raise TooLarge(f"the body is larger than {limit} bytes")
    content = request.content
    if content.is_eof() and content.exception() is None:  # it came along with its head
        whole = content.read_nowait()
        if len(whole) > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
        return whole
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await content.readany():
                size += len(chunk)
                if size > limit:
                    raise TooLarge(f"the body is larger than {limit} bytes")
                chunks.append(chunk)
    except TimeoutError:
        raise RequestTimeout("the body did not arrive in time", headers={"Connection": "close"}) from None
    except web.RequestPayloadError as error:
        raise Malformed("the body cannot be read as it is encoded") from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class RequestTimeout(RequestError):
    """The request did not arrive in time."""

    status, title = 408, "Request Timeout"


async def _body(operation: Operation, request: web.Request, limit: int) -> Any:
    model = operation.body
    if model is None:
        return None
    raw = await read_body(request, limit)
    if not raw:
        if operation.body_required:
            raise Malformed("a JSON body is required")
        return None
    check_content_type(request)
    return validate(model, raw)


def check_content_type(request: web.Request) -> None:
    """Raises UnsupportedMedia for a body that says it is something else than JSON in UTF-8."""
    if hdrs.CONTENT_TYPE not in request.headers:
        return
    kind = request.content_type
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMedia("the body must be application/json")
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMedia("the body must be in UTF-8")


def _check_path(operation: Operation, path: Mapping[str, str]) -> None:
    """Text that can name nothing is answered like what does not exist; where it would make something, 422.

    A socket's handshake is accepted all the same: its close code says that the token is unknown, a 404 would not.
    """
    if operation.websocket:
        return
    for name, value in path.items():
        if len(value) > 1000 or not keepable(value):
            if operation.method == "PUT":
                raise Invalid("the address is not valid", errors=[(name, "must not hold control characters")])
            raise NotFound(operation.absent)


_NO_QUERY: MultiDict[str] = MultiDict()
_encode = msgspec.json.Encoder().encode
_PUBLIC_HEADERS = CIMultiDict({"Content-Type": "application/json", **BASE_HEADERS})
_JSON_HEADERS = _PUBLIC_HEADERS.copy()
del _JSON_HEADERS["Referrer-Policy"]  # nobody follows a link out of an answer to a token

__all__ = ["Call", "Dispatcher", "InstanceId", "Operation", "Paging", "Query", "Scope", "Verifier"]
