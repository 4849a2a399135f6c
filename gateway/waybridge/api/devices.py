"""Devices: list, position, track, stats, sources, asking for a location, erasure (contract section 5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from aiohttp import hdrs, web
from pydantic import Field

from waybridge import geo, sources
from waybridge.api import answers, device_views
from waybridge.api.bodies import Body, Paging, QueryBool, QueryInt
from waybridge.api.operations import Call, Operation
from waybridge.api.problems import BASE_HEADERS
from waybridge.api.times import Times
from waybridge.devices import UNKNOWN, Devices
from waybridge.roster import Device, Roster
from waybridge.tracks import Tracks

TAG = "Devices"
GEO_JSON, GPX = "application/geo+json", "application/gpx+xml"
FORMATS = {"json": "application/json", "geojson": GEO_JSON, "gpx": GPX}
MOST_POINTS = 100_000

Text200 = Annotated[str, Field(min_length=1, max_length=200)]
GroupMembers = Callable[[str, Sequence[str]], Awaitable[frozenset[str]]]
"""(instance, group ids) -> the device tokens in them."""


class Listing(Paging, Times):
    """Filters of the device list; all that are given must hold. `q` looks into tokens, names and handles."""

    provider: Text200 | None = None
    online: QueryBool | None = None
    q: Text200 | None = None
    group: Text200 | None = None
    connection_id: Text200 | None = None
    external_id: Annotated[str, Field(min_length=1, max_length=500)] | None = None


class TrackQuery(Times):
    """`limit` keeps the newest points; `format` wins over the Accept header."""

    limit: QueryInt | None = Field(default=None, ge=1, le=MOST_POINTS)
    format: Literal["json", "geojson", "gpx"] | None = None


class RankedSource(Body):
    connection_id: Annotated[str, Field(min_length=1, max_length=64)]
    external_id: Annotated[str, Field(min_length=1, max_length=500)]
    fallback_after: Annotated[float, Field(gt=0, le=86_400)] = 60.0


class Ranking(Body):
    """The sources of a device, best first; `hold` seconds must a better one be fresh before it takes back."""

    hold: Annotated[float, Field(ge=0, le=86_400)] = 30.0
    sources: Annotated[list[RankedSource], Field(min_length=1, max_length=50)]


class Attach(Protocol):
    """Attaches and ranks sources, best first. Raises NotFound for a source or device that is not there."""

    async def __call__(
        self, instance_id: str, device_token: str, *, hold: float, ranked: Sequence[tuple[str, str, float]]
    ) -> None: ...


class DeviceApi:
    """The operations on devices. `track_points` is the default of a track's `limit`."""

    def __init__(
        self,
        roster: Roster,
        devices: Devices,
        tracks: Tracks,
        *,
        now_us: Callable[[], int],
        members: GroupMembers,
        attach: Attach,
        ask: Callable[[str, str], Awaitable[None]],
        track_points: int = 5000,
    ) -> None:
        self._roster = roster
        self._devices = devices
        self._tracks = tracks
        self._now_us = now_us
        self._members = members
        self._attach = attach
        self._ask = ask
        self._track_points = track_points

    def operations(self) -> list[Operation]:
        one: dict[str, Any] = {"tag": TAG, "absent": UNKNOWN}
        at = "/devices/{device_token}"
        return [
            Operation(
                method="GET", path="/devices", handler=self.page, summary="List devices", scope="read", tag=TAG,
                query=Listing, answers={200: answers.DevicePage}, absent="there is no such instance",
            ),
            Operation(
                method="GET", path=f"{at}/position", handler=self.position, summary="Last position of a device",
                scope="read", query=Times, answers={200: answers.DevicePosition, 409: None}, instance="optional", **one,
            ),
            Operation(
                method="GET", path=f"{at}/tracks", handler=self.track, summary="Points of the current trip",
                scope="read", query=TrackQuery, answers={200: answers.Track, 409: None}, instance="optional",
                content_types=(GEO_JSON, GPX), **one,
            ),
            Operation(
                method="GET", path=f"{at}/stats", handler=self.stats, summary="What the latest trip adds up to",
                scope="read", query=Times, answers={200: answers.Stats, 409: None}, instance="optional", **one,
            ),
            Operation(
                method="GET", path=f"{at}/sources", handler=self.sources, summary="Sources, and why one of them wins",
                scope="read", answers={200: answers.Sources}, **one,
            ),
            Operation(
                method="PUT", path=f"{at}/sources", handler=self.rank, summary="Attach and rank sources",
                scope="write", body=Ranking, answers={200: answers.Sources, 409: None}, **one,
            ),
            Operation(
                method="POST", path=f"{at}/location/request", handler=self.ask, instance="body_or_query",
                summary="Ask the source to share its location", scope="write", body=InstanceBody, body_required=False,
                answers={202: answers.Asked, 409: None, 429: None, 502: None}, **one,
            ),
            Operation(
                method="DELETE", path=f"{at}/data", handler=self.erase, summary="Erase everything known of a device",
                scope="write", answers={200: answers.Erased}, **one,
            ),
        ]  # fmt: skip

    # -- the hot path

    async def position(self, call: Call) -> web.StreamResponse:
        device = self._found(call)
        shown = device_views.position(device, self._now_us(), call.query.format_us())
        if call.instance_id is not None:
            shown |= device_views.named(device)
        return call.json(shown)

    # -- lists

    async def page(self, call: Call) -> web.StreamResponse:
        query: Listing = call.query
        instance_id = str(call.instance_id)
        kept = await self._kept(instance_id, query)
        now_us, when = self._now_us(), query.format_us()
        some = kept[query.offset : query.offset + query.limit]
        return call.json(
            {
                "devices": [device_views.item(device, now_us, when) for device in some],
                "total": len(kept),
                "limit": query.limit,
                "offset": query.offset,
            }
        )

    async def _kept(self, instance_id: str, query: Listing) -> Sequence[Device]:
        found = sorted(self._roster.devices(instance_id), key=lambda device: device.id)
        if query.group is not None:
            members = await self._members(instance_id, [query.group])
            found = [device for device in found if device.token in members]
        if query.provider is not None:
            found = [device for device in found if device.provider == query.provider]
        if query.online is not None:
            now_us = self._now_us()
            found = [device for device in found if device.online_at(now_us) is query.online]
        if query.connection_id is not None or query.external_id is not None:
            found = [device for device in found if _has_source(device, query.connection_id, query.external_id)]
        if query.q is not None:
            wanted = query.q.casefold()
            found = [device for device in found if _matches(device, wanted)]
        return found

    # -- trips

    async def track(self, call: Call) -> web.StreamResponse:
        query: TrackQuery = call.query
        device = self._found(call)
        found = await self._tracks.newest(device, query.limit or self._track_points)
        kind = FORMATS[query.format] if query.format is not None else accepted(call.request.headers)
        if kind == GEO_JSON:
            shown = device_views.track(device, found, query.format_us())
            shown.pop("points")
            return _document(geo.track_feature(device_views.track_points(found), shown), GEO_JSON)
        if kind == GPX:
            return _document(geo.gpx(device_views.track_points(found), name=device.display_name), GPX)
        return call.json(device_views.track(device, found, query.format_us()))

    async def stats(self, call: Call) -> web.StreamResponse:
        device = self._found(call)
        trip, found = await self._tracks.stats(device)
        return call.json(device_views.stats(device, trip, found, call.query.format_us()))

    # -- sources

    async def sources(self, call: Call) -> web.StreamResponse:
        return call.json(sources.explain(self._found(call), self._now_us()))

    async def rank(self, call: Call) -> web.StreamResponse:
        body: Ranking = call.body
        ranked = [(each.connection_id, each.external_id, each.fallback_after) for each in body.sources]
        await self._attach(str(call.instance_id), call.device_token, hold=body.hold, ranked=ranked)
        return await self.sources(call)

    async def ask(self, call: Call) -> web.StreamResponse:
        device = self._found(call)
        await self._ask(device.instance_id, device.token)
        return call.json({"status": "requested"}, status=202)

    # -- erasure

    async def erase(self, call: Call) -> web.StreamResponse:
        device = self._found(call)
        await self._devices.erase(device)
        return call.json({"device_token": device.token, "erased": True})

    def _found(self, call: Call) -> Device:
        return self._devices.find(call.instances, call.device_token)


class InstanceBody(Body):
    """A body that may name the instance."""

    instance_id: str | None = None


def accepted(headers: Mapping[str, str]) -> str:
    """The format of a track that the Accept header likes best; JSON where it does not care."""
    best, best_quality = FORMATS["json"], 0.0
    for part in headers.get(hdrs.ACCEPT, "").split(",")[:20]:
        kind, _, parameters = part.partition(";")
        kind = kind.strip().lower()
        quality = 1.0
        for parameter in parameters.split(";"):
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "q":
                quality = _quality(value.strip())
        if kind in ("application/json", GEO_JSON, GPX) and quality > best_quality:
            best, best_quality = kind, quality
    return best


def _quality(text: str) -> float:
    try:
        return float(text) if len(text) <= 5 else 0.0
    except ValueError:
        return 0.0


def _document(body: bytes, content_type: str) -> web.Response:
    return web.Response(body=body, headers={**BASE_HEADERS, "Content-Type": content_type, "Vary": "Accept"})


def _has_source(device: Device, connection_id: str | None, external_id: str | None) -> bool:
    return any(
        (connection_id is None or source.connection_id == connection_id)
        and (external_id is None or source.external_id == external_id)
        for source in device.sources
    )


def _matches(device: Device, wanted: str) -> bool:
    texts = (device.token, device.display_name, device.handle or "", *(each or "" for each in _names(device)))
    return any(wanted in text.casefold() for text in texts)


def _names(device: Device) -> Sequence[str | None]:
    return tuple((device.profile or {}).values())
