"""The web application: operations mounted under every prefix, and what holds for every request.

Outermost first: a request whose framing two servers could read differently is refused; errors get the API's
form; answers are marked for other origins; one line a request goes to the log, without tokens.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from http import HTTPStatus

import structlog
from aiohttp import hdrs, web

from waybridge.api.cors import CrossOrigin
from waybridge.api.operations import Dispatcher, Operation
from waybridge.api.problems import BASE_HEADERS, problem, problem_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PREFIXES = ("/api/v1", "/realtime/api/v1")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
OPEN_TO_ALL = "/share/"
"""Public operations below this are open to pages of every origin."""

log = structlog.get_logger("waybridge.access")


def mount(
    app: web.Application,
    operations: Iterable[Operation],
    *,
    dispatcher: Dispatcher,
    cross_origin: CrossOrigin,
    prefixes: Sequence[str] = PREFIXES,
) -> None:
    """Adds operations to the router under every prefix, each path with its methods and its preflight.

    Paths without parameters come first, so that `/devices/metadata` is never read as a device's token.
    """
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    ordered = sorted(by_path, key=lambda path: ("{" in path, path != "/devices/{device_token}/position"))
    for prefix in prefixes:
        for path in ordered:
            _mount_path(app, prefix.rstrip("/") + path, by_path[path], dispatcher, cross_origin)


def _mount_path(
    app: web.Application, path: str, operations: Sequence[Operation], dispatcher: Dispatcher, cross_origin: CrossOrigin
) -> None:
    resource = app.router.add_resource(re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", path))
    public = all(operation.scope is None and operation.path.startswith(OPEN_TO_ALL) for operation in operations)
    methods: list[str] = []
    for operation in operations:
        handler = dispatcher.handler(operation)
        if public:
            handler = partial(_public, handler, cross_origin)
        resource.add_route(operation.method, handler)
        methods.append(operation.method)
        if operation.method == hdrs.METH_GET and not operation.websocket:
            resource.add_route(hdrs.METH_HEAD, handler)
            methods.append(hdrs.METH_HEAD)

    async def preflight(request: web.Request) -> web.StreamResponse:
        return cross_origin.preflight(request, methods, public=public)

    resource.add_route(hdrs.METH_OPTIONS, preflight)


async def _public(handler: Handler, cross_origin: CrossOrigin, request: web.Request) -> web.StreamResponse:
    response = await handler(request)
    cross_origin.mark(request, response, public=True)
    return response


def edge(cross_origin: CrossOrigin, *, access_log: bool = True) -> Callable[..., Awaitable[web.StreamResponse]]:
    """The one middleware. `access_log` False leaves only failures in the log."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter() if access_log else 0.0
        headers = request.headers
        if hdrs.TRANSFER_ENCODING in headers and headers[hdrs.TRANSFER_ENCODING].strip().lower() != "chunked":
            return problem(400, "this Transfer-Encoding is not understood", headers={"Connection": "close"})
        if request.method == hdrs.METH_OPTIONS and _asked_of_others(request):
            response: web.StreamResponse = cross_origin.preflight(request, METHODS, public=False)
        else:
            response = await _answer(request, handler)
        if not response.prepared:
            response.headers.setdefault(hdrs.SERVER, BASE_HEADERS["Server"])
        if hdrs.ORIGIN in headers and hdrs.ACCESS_CONTROL_ALLOW_ORIGIN not in response.headers:
            cross_origin.mark(request, response, public=False)
        if access_log or response.status >= 500:
            _log_access(request, response, time.perf_counter() - began if access_log else None)
        return response

    return middleware


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConnectionError:
        raise
    except Exception as error:  # noqa: BLE001 - aiohttp's own refusals, and routes that are no operations
        return problem_of(error)


def _asked_of_others(request: web.Request) -> bool:
    """Whether this is a browser's preflight of what is no operation and answers none itself: vendors' own dialects."""
    if hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
        return False
    found = request.match_info
    missing = found.http_exception is not None and found.http_exception.status != HTTPStatus.METHOD_NOT_ALLOWED
    return not missing and found.route.method != hdrs.METH_OPTIONS


def _log_access(request: web.Request, response: web.StreamResponse, seconds: float | None) -> None:
    log.info(
        "request",
        method=request.method,
        path=loggable_path(request.path, known=request.match_info.http_exception is None),
        status=response.status,
        ms=round(seconds * 1000, 2) if seconds is not None else None,
    )


_SECRET_PATH = re.compile(r"(/share/|/streams/|/stream/)([^/]+)")
_LIKE_A_TOKEN = re.compile(r"()([A-Za-z0-9_-]{16,})")


def loggable_path(path: str, *, known: bool = True) -> str:
    """A path for the log: no tokens, nothing unprintable, at most 200 characters. The query is never logged.

    What opens something (a share's or a stream's token) becomes the first 8 hex digits of its SHA-256; in a path
    that is no address of ours (`known` False: a link that somebody mistyped) whatever is as long as a token.
    """
    for secret in (_SECRET_PATH,) if known else (_SECRET_PATH, _LIKE_A_TOKEN):
        path = secret.sub(lambda found: found[1] + "#" + token_mark(found[2]), path)
    return path.encode("unicode_escape").decode("ascii")[:200]


def token_mark(token: str) -> str:
    """How a token appears in a log: the first 8 hex digits of its SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:8]


__all__ = ["BASE_HEADERS", "PREFIXES", "edge", "loggable_path", "mount", "token_mark"]
