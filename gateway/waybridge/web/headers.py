"""Security headers of both pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HOST = re.compile(r"[A-Za-z0-9.\-]+(:\d{1,5})?\Z|\[[0-9A-Fa-f:.]+\](:\d{1,5})?\Z")
_FIXED = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "Permissions-Policy": "geolocation=(), camera=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin-allow-popups",
}


def page_headers(
    *, host: str, secure: bool, map_hosts: Iterable[str], api: str | None, frame_ancestors: Iterable[str]
) -> Mapping[str, str]:
    """Headers of one HTML answer.

    `host` is the request's Host (hostile until matched), `api` the absolute base of an API on another host,
    `map_hosts` the sources of a foreign base map (none means that no other origin ever hears of this page).
    """
    foreign = tuple(map_hosts)
    connect = ["'self'", *_sockets(host, secure=secure), *foreign]
    if api is not None:
        connect += [api, re.sub(r"\Ahttp", "ws", api)]
    policy = {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:", "blob:", *foreign],
        "font-src": ["'self'"],
        "connect-src": connect,
        "worker-src": ["'self'"],
        "manifest-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": list(frame_ancestors) or ["'none'"],
    }
    return {
        **_FIXED,
        "Content-Security-Policy": "; ".join(f"{name} {' '.join(sources)}" for name, sources in policy.items()),
        # a foreign tile host may insist on an origin; the path, which holds the token, never leaves
        "Referrer-Policy": "strict-origin-when-cross-origin" if foreign else "no-referrer",
    }


def _sockets(host: str, *, secure: bool) -> list[str]:
    """Older Safari does not take wss under 'self' (WebKit 201591)."""
    if not _HOST.match(host):
        return []
    return [f"wss://{host}"] if secure else [f"wss://{host}", f"ws://{host}"]
