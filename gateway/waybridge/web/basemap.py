"""The setting `map.basemap` as the pages, the tiles and the security headers need it.

`builtin` | `pmtiles:PATH` | `openfreemap` | `style:URL` | `raster:TEMPLATE`. Only the last three speak to another host.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from waybridge.errors import ConfigurationError
from waybridge.web.archive import Archive

Kind = Literal["builtin", "pmtiles", "openfreemap", "style", "raster"]
Schema = Literal["openmaptiles", "protomaps"]

_OPENFREEMAP = "https://tiles.openfreemap.org"
_OSM_HOST = "tile.openstreetmap.org"
_OSM_CREDIT: dict[str, str | None] = {"text": "© OpenStreetMap", "href": "https://www.openstreetmap.org/copyright"}
_OMT_CREDIT: dict[str, str | None] = {"text": "© OpenMapTiles", "href": "https://openmaptiles.org/"}
_OFM_CREDIT: dict[str, str | None] = {"text": "OpenFreeMap", "href": "https://openfreemap.org/"}
# names of far cities come from the built-in world map
_GEONAMES_CREDIT: dict[str, str | None] = {"text": "GeoNames", "href": "https://www.geonames.org/"}
_RASTER_MAX_ZOOM = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseMap:
    kind: Kind
    url: str | None = None
    schema: Schema | None = None
    archive: Archive | None = None
    attribution: str = ""

    @property
    def foreign(self) -> bool:
        """Whether the reader's browser asks a host that is not the gateway."""
        return self.kind in {"openfreemap", "style", "raster"}

    @property
    def hosts(self) -> tuple[str, ...]:
        """Sources for `connect-src` and `img-src`. A style names more hosts in its text, so any https is let in."""
        if self.kind == "openfreemap":
            return (_OPENFREEMAP,)
        if self.kind == "style" and self.url is not None:
            return (_origin(self.url), "https:")
        if self.kind == "raster" and self.url is not None:
            return (_origin(self.url),)
        return ()

    def page_config(self) -> dict[str, Any]:
        """What both pages read: `kind, schema, url, bounds, minzoom, maxzoom, attribution: [{text, href}]`."""
        archive = self.archive
        return {
            "kind": self.kind,
            "schema": self.schema,
            "url": self.url,
            "bounds": None if archive is None else list(archive.bounds),
            "minzoom": 0 if archive is None else archive.min_zoom,
            "maxzoom": _RASTER_MAX_ZOOM if archive is None else archive.max_zoom,
            "attribution": self._credits(),
        }

    def _credits(self) -> list[dict[str, str | None]]:
        """Who is to be named; a style's own sources say so themselves, and the page shows those."""
        if self.attribution:
            return [{"text": self.attribution, "href": None}]
        match self.kind:
            case "builtin":
                credits_ = [{"text": "Natural Earth", "href": None}, _GEONAMES_CREDIT]
            case "pmtiles":
                schema = [_OMT_CREDIT] if self.schema == "openmaptiles" else []
                credits_ = [_OSM_CREDIT, *schema, _GEONAMES_CREDIT]
            case "openfreemap":
                credits_ = [_OFM_CREDIT, _OMT_CREDIT, _OSM_CREDIT, _GEONAMES_CREDIT]
            case "raster":
                host = urlsplit(self.url or "").hostname or ""
                credits_ = [_OSM_CREDIT if host == _OSM_HOST else {"text": host, "href": None}]
            case "style":
                credits_ = []
        return credits_


def parse_basemap(setting: str, *, attribution: str = "") -> BaseMap:
    """Reads the setting and opens the archive it names; `attribution` replaces the usual words.

    Raises ConfigurationError that says what is wrong.
    """
    word, _, rest = setting.partition(":")
    match word:
        case "builtin" | "openfreemap" if not rest:
            return BaseMap(kind=word, schema="openmaptiles" if word == "openfreemap" else None, attribution=attribution)
        case "pmtiles" if rest:
            archive = Archive(Path(rest).expanduser())
            schema = _schema(rest, archive.layers())
            return BaseMap(kind="pmtiles", archive=archive, schema=schema, attribution=attribution)
        case "style" | "raster" if urlsplit(rest).scheme in {"http", "https"} and urlsplit(rest).hostname:
            if word == "raster" and not all(part in rest for part in ("{z}", "{x}", "{y}")):
                raise ConfigurationError("map.basemap: a raster template needs {z}, {x} and {y}")
            return BaseMap(kind=word, url=rest, attribution=attribution)
        case _:
            raise ConfigurationError(
                f"map.basemap: {setting!r} is none of builtin, pmtiles:PATH, openfreemap, style:URL, raster:TEMPLATE"
            )


def _schema(path: str, layers: frozenset[str]) -> Schema:
    if "transportation" in layers:
        return "openmaptiles"
    if layers & {"roads", "earth"}:
        return "protomaps"
    raise ConfigurationError(f"map.basemap: {path} follows neither the OpenMapTiles nor the Protomaps schema")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
