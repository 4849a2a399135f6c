"""Who a request comes from: the key that rate limits count by."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from waybridge.limits import client_key
from waybridge.settings import Network


class ClientAddress:
    """Finds a request's client. `trusted` are the networks of the proxies whose X-Forwarded-For is believed."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def __call__(self, request: web.Request) -> str:
        """The client's address as text: IPv4 whole, IPv6 as its /64."""
        return client_key(request.remote, request.headers.getall("X-Forwarded-For", ()), self._trusted)
