"""MyCarTracks' API v3, spoken by the gateway over every vendor's devices.

Mounted at `/services/rest/v3`, where a dashboard written for MyCarTracks finds it when only its host is changed.
Its token endpoint, `/oauth/token`, is the gateway's own; the gateway's API clients are its credentials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from waybridge import hookimpl
from waybridge_mycartracks_api.dialect import Dialect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from waybridge import Gateway

__all__ = ["waybridge_routes"]


@hookimpl
def waybridge_routes(gateway: Gateway) -> Sequence[web.AbstractRouteDef]:
    return Dialect(gateway).routes()
