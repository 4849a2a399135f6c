"""Who a request comes from: the key that rate limits count by."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from aiohttp import web

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientAddress:
    """Finds a client's address. `trusted` are the networks whose X-Forwarded-For is believed.

    The header is read from its right end: the first address that is no trusted proxy is the client. One that
    cannot be read ends the search at the last believable address, so that nobody chooses their own bucket.
    """

    def __init__(self, trusted: Iterable[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def __call__(self, request: web.Request) -> str:
        """The client's address as text: IPv4 whole, IPv6 as its /64."""
        found = _parse(request.remote or "")
        if found is None:
            return request.remote or "unknown"
        if self._trusted and self._is_trusted(found):
            header = ",".join(request.headers.getall("X-Forwarded-For", ()))
            for part in reversed([part.strip() for part in header.split(",") if part.strip()][-50:]):
                forwarded = _parse(part)
                if forwarded is None:
                    break
                found = forwarded
                if not self._is_trusted(found):
                    break
        if found.version == 4:
            return str(found)
        return str(ipaddress.ip_network((int(found), 64), strict=False))

    def _is_trusted(self, address: IPAddress) -> bool:
        return any(address.version == network.version and address in network for network in self._trusted)


def _parse(text: str) -> IPAddress | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if address.version == 6 else address
