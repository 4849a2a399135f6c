"""Vector tiles by z/x/y out of PMTiles archives: the built-in world and the operator's own streets."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from waybridge.web.archive import Archive

if TYPE_CHECKING:
    from waybridge.web.basemap import BaseMap

WORLD = Path(__file__).with_name("dist") / "world.pmtiles"
_CONTENT_TYPE = "application/vnd.mapbox-vector-tile"
_HEADERS = {
    "Cache-Control": "public, max-age=86400",
    # the tracker element runs on its host's own pages, and a map of the world is no secret
    "Access-Control-Allow-Origin": "*",
    "X-Content-Type-Options": "nosniff",
}
_DEEPEST_ZOOM = 24


class Tiles:
    """`/tiles/world/{z}/{x}/{y}.mvt` always, `/tiles/streets/...` where `map.basemap` names an archive.

    200 with the stored bytes, 204 where the archive has nothing, 404 for a place that is none.
    """

    def __init__(self, *, basemap: BaseMap, world: Path = WORLD) -> None:
        self._archives: dict[str, Archive] = {}
        if world.is_file():
            self._archives["world"] = Archive(world)
        if basemap.archive is not None:
            self._archives["streets"] = basemap.archive

    def routes(self) -> list[web.RouteDef]:
        return [web.get(r"/tiles/{archive:world|streets}/{z:\d{1,2}}/{x:\d{1,8}}/{y:\d{1,8}}.mvt", self._tile)]

    async def _tile(self, request: web.Request) -> web.Response:
        archive = self._archives.get(request.match_info["archive"])
        z, x, y = (int(request.match_info[name]) for name in ("z", "x", "y"))
        if archive is None or z > _DEEPEST_ZOOM or x >= 1 << z or y >= 1 << z:
            raise web.HTTPNotFound(text="There is no such tile.", headers=_HEADERS)
        if not archive.min_zoom <= z <= archive.max_zoom:
            return web.Response(status=204, headers=_HEADERS)
        # a big archive may have to come from disk: not on the event loop
        body = await asyncio.to_thread(archive.tile, z, x, y)
        if body is None:
            return web.Response(status=204, headers=_HEADERS)
        headers = dict(_HEADERS)
        if archive.gzipped:
            headers["Vary"] = "Accept-Encoding"
            if "gzip" in request.headers.get("Accept-Encoding", ""):
                headers["Content-Encoding"] = "gzip"
            else:
                body = await asyncio.to_thread(gzip.decompress, body)
        return web.Response(body=body, content_type=_CONTENT_TYPE, headers=headers)

    def close(self) -> None:
        for archive in self._archives.values():
            archive.close()
