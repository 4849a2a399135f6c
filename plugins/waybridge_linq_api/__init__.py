"""Linq's partner API v3, spoken by the gateway over every vendor's devices.

Mounted at `/api/partner/v3`, where a client of Linq that changes only its host finds it; a gateway token is its
API key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from waybridge import hookimpl
from waybridge_linq_api.dialect import Dialect
from waybridge_linq_api.locations import Locations
from waybridge_linq_api.subscriptions import Subscriptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from waybridge import Gateway

__all__ = ["waybridge_routes"]


@hookimpl
def waybridge_routes(gateway: Gateway) -> Sequence[web.AbstractRouteDef]:
    dialect = Dialect(gateway)
    return [
        *Subscriptions(gateway, dialect).routes(),
        *Locations(gateway, dialect).routes(),
        *dialect.anything_else(),
    ]
