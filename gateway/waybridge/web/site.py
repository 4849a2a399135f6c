"""All of the web room as one part: what app.py makes, mounts and closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from waybridge.errors import StoreUnavailable
from waybridge.web.basemap import parse_basemap
from waybridge.web.brand import Brand
from waybridge.web.bundle import load_bundle
from waybridge.web.pages import InstanceView, Pages, ShareView
from waybridge.web.tiles import Tiles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aiohttp import web

    from waybridge.settings import Settings

_SECOND = 1_000_000
RECONNECT_MS = 1000  # first step of the share page's reconnect ladder


class Link(Protocol):
    """A share session as this room needs it (store.sessions.ShareSession)."""

    @property
    def instance_id(self) -> str: ...
    def status_at(self, now_us: int) -> str: ...


class Instance(Protocol):
    """An instance as this room needs it (store.instances.InstanceRow)."""

    @property
    def embed_origins(self) -> Sequence[str]: ...


class Site:
    """Pages and tiles of one gateway.

    `by_token` finds the session behind a link whatever its state; `instance` and `brand` ask what is in memory.
    Raises ConfigurationError where `map.basemap` cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        by_token: Callable[[str], Awaitable[Link | None]],
        instance: Callable[[str], Instance | None],
        brand: Callable[[str], Mapping[str, str]],
        now_us: Callable[[], int],
    ) -> None:
        self._by_token = by_token
        self._instance = instance
        self._brand = brand
        self._now_us = now_us
        basemap = parse_basemap(settings.map.basemap, attribution=settings.map.attribution)
        self._tiles = Tiles(basemap=basemap)
        self._pages = Pages(
            share_state=self._share_state,
            instance=self._instance_view,
            basemap=basemap,
            default_brand=Brand(name=settings.brand.name, color=settings.brand.color),
            public_base_url=settings.base_url,
            share_page_base_url=settings.share_page_base_url,
            bundle=load_bundle(),
            link_limit=settings.limits.active_sessions_per_device,
            clock=lambda: now_us() / _SECOND,
            reconnect_ms=RECONNECT_MS,
        )

    def routes(self) -> list[web.RouteDef]:
        return [*self._pages.routes(), *self._tiles.routes()]

    async def close(self, _app: web.Application) -> None:
        """For `app.on_cleanup`."""
        self._tiles.close()

    async def _share_state(self, token: str) -> ShareView:
        try:
            link = await self._by_token(token)
        except StoreUnavailable:
            return ShareView(state="unavailable")
        if link is None:
            return ShareView(state="not_found")
        match link.status_at(self._now_us()):
            case "active":
                return ShareView(state="active", instance_id=link.instance_id)
            case "completed" | "cancelled" as reason:
                return ShareView(state="ended", instance_id=link.instance_id, reason=reason)
            case _:  # an expired link looks like one that never was
                return ShareView(state="not_found")

    async def _instance_view(self, instance_id: str) -> InstanceView | None:
        found = self._instance(instance_id)
        if found is None:
            return None
        brand = self._brand(instance_id)
        return InstanceView(
            brand=Brand(name=brand["name"], color=brand["color"]), embed_origins=tuple(found.embed_origins)
        )
