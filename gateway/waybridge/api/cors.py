"""Cross-origin access: public operations for any origin, the rest for the origins that instances name."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import hdrs, web
from multidict import CIMultiDict

from waybridge.api.operations import INSTANCE, PRINCIPAL

if TYPE_CHECKING:
    from waybridge.auth import Principal

_ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
_EXPOSED_HEADERS = "Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate, X-Event-Result"
_MAX_AGE = "600"


class Origins(Protocol):
    """Which origins may show an instance (waybridge.instances)."""

    def embed_origins(self, instance_id: str) -> Collection[str]: ...
    def all_embed_origins(self) -> Collection[str]:
        """Every origin that any instance names."""
        ...


class CrossOrigin:
    """Answers preflights and marks answers."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    def preflight(self, request: web.Request, methods: Collection[str], *, public: bool) -> web.Response:
        """The answer to OPTIONS on a path; a preflight carries no token, so any instance's origin may ask."""
        allow = ", ".join([*methods, "OPTIONS"])
        headers: CIMultiDict[str] = CIMultiDict({"Allow": allow, "Cache-Control": "no-store"})
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and (public or origin in self._origins.all_embed_origins()):
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*" if public else origin
            headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = allow
            headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _ALLOWED_HEADERS
            headers[hdrs.ACCESS_CONTROL_MAX_AGE] = _MAX_AGE
        if not public:
            headers[hdrs.VARY] = "Origin"
        return web.Response(status=204, headers=headers)

    def mark(self, request: web.Request, response: web.StreamResponse, *, public: bool) -> None:
        """Adds what lets the page at the request's origin read the answer, where it may."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or response.prepared:
            return
        if public:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
        else:
            response.headers.add(hdrs.VARY, "Origin")
            if not self._allowed(request, origin):
                return
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED_HEADERS

    def _allowed(self, request: web.Request, origin: str) -> bool:
        instance_id = request.get(INSTANCE)
        if instance_id is not None:
            return origin in self._origins.embed_origins(instance_id)
        principal: Principal | Any = request.get(PRINCIPAL)
        if principal is None or "*" in principal.instances:
            return origin in self._origins.all_embed_origins()
        return any(origin in self._origins.embed_origins(each) for each in principal.instances)
