"""`/openapi.json` and the page at `/docs` that shows it: everything from this server, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web

from waybridge.api.problems import BASE_HEADERS

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_FILES = {
    "/docs": ("index.html", "text/html; charset=utf-8"),
    "/docs/style.css": ("style.css", "text/css; charset=utf-8"),
    "/docs/page.js": ("page.js", "text/javascript; charset=utf-8"),
}


def mount_pages(app: web.Application, description: Mapping[str, Any]) -> None:
    """Adds the description and its page."""
    encoded = msgspec.json.encode(description)

    async def openapi(request: web.Request) -> web.Response:
        del request
        headers = {**BASE_HEADERS, "Content-Type": "application/json", "Access-Control-Allow-Origin": "*"}
        return web.Response(body=encoded, headers=headers)

    app.router.add_get("/openapi.json", openapi)
    for path, (name, content_type) in _FILES.items():
        app.router.add_get(path, _file(name, content_type))


def _file(name: str, content_type: str) -> Any:
    body = files("waybridge.api").joinpath("docs_page", name).read_bytes()
    headers = {
        **BASE_HEADERS,
        "Cache-Control": "no-cache",
        "Content-Type": content_type,
        "Content-Security-Policy": CSP,
    }

    async def serve(request: web.Request) -> web.Response:
        del request
        return web.Response(body=body, headers=headers)

    return serve
