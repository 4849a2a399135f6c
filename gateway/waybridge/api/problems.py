"""Errors on the wire: `application/problem+json` (RFC 9457) for whatever goes wrong, aiohttp's own answers included.

Bad input never gets a 500; what does is a bug: logged with its traceback, answered without a word about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
import structlog
from aiohttp import web
from multidict import CIMultiDict

from waybridge.errors import RequestError, StoreUnavailable

log = structlog.get_logger("waybridge.api")

CONTENT_TYPE = "application/problem+json"
BASE_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Server": "Waybridge",
}
"""Headers of every answer of the API."""

_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}


def title(status: int) -> str:
    return _TITLES.get(status) or HTTPStatus(status).phrase


def problem(
    status: int,
    detail: str = "",
    *,
    errors: Sequence[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """An error's answer; `errors` are (field, message) pairs."""
    name = title(status)
    body: dict[str, object] = {"type": "about:blank", "title": name, "status": status, "detail": detail or name}
    if status == 422 or errors:
        body["errors"] = [{"field": field, "message": message} for field, message in errors]
    sent = CIMultiDict(BASE_HEADERS)
    sent["Content-Type"] = CONTENT_TYPE
    if status == 401:
        sent["WWW-Authenticate"] = "Bearer"
    if headers:
        sent.update(headers)
    return web.Response(status=status, body=_encode(body), headers=sent)


def problem_of(error: Exception) -> web.Response:
    """The answer to an exception; one that nobody raised on purpose is logged and says nothing."""
    match error:
        case RequestError():
            return problem(error.status, error.detail, errors=error.errors, headers=error.headers)
        case StoreUnavailable():
            return problem(503, "the database does not answer; try again", headers={"Retry-After": "5"})
        case web.HTTPException():
            return of_aiohttp(error)
    log.error("A request failed by a bug", exc_info=error)
    return problem(500, "something went wrong; it was logged")


def of_aiohttp(error: web.HTTPException) -> web.Response:
    """Aiohttp's own exception in the API's form (a redirect stays what it is)."""
    if error.status < 400:
        return web.Response(status=error.status, headers=error.headers, body=error.body)
    kept = {name: error.headers[name] for name in ("Allow", "Retry-After") if name in error.headers}
    details = {404: "there is nothing at this address", 405: "this method is not allowed here"}
    return problem(error.status, details.get(error.status, ""), headers=kept)


_encode = msgspec.json.Encoder().encode
