"""The newest positions of everybody who shares, as GeoJSON (contract section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from aiohttp import web
from pydantic import AfterValidator, Field

from waybridge import geo
from waybridge.api import answers, device_views
from waybridge.api.bodies import Query
from waybridge.api.devices import GEO_JSON, GroupMembers, Text200
from waybridge.api.operations import Call, Operation
from waybridge.api.problems import BASE_HEADERS
from waybridge.geo import Bounds
from waybridge.model import canonical_token
from waybridge.roster import Device, Roster


def _box(text: str) -> str:
    Bounds.parse(text)
    return text


class Where(Query):
    """Which of them.

    `bbox` is west,south,east,north; west greater than east crosses the antimeridian. `group` and `device_token`
    narrow it down.
    """

    bbox: Annotated[str, AfterValidator(_box), Field(max_length=200)] | None = None
    group: Text200 | None = None
    device_token: Text200 | None = None


class LocationApi:
    """The map's operation."""

    def __init__(self, roster: Roster, *, now_us: Callable[[], int], members: GroupMembers) -> None:
        self._roster = roster
        self._now_us = now_us
        self._members = members

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="GET", path="/locations", handler=self.locations, tag="Devices", scope="read", query=Where,
                summary="Last positions of those sharing, as GeoJSON", answers={200: answers.FeatureCollection},
                content_types=(GEO_JSON,), absent="there is no such instance",
            )
        ]  # fmt: skip

    async def locations(self, call: Call) -> web.StreamResponse:
        query: Where = call.query
        instance_id = str(call.instance_id)
        chosen: Iterable[Device] = self._roster.devices(instance_id)
        if query.device_token is not None:
            chosen = self._one(instance_id, query.device_token)
        if query.group is not None:
            members = await self._members(instance_id, [query.group])
            chosen = [device for device in chosen if device.token in members]
        box = Bounds.parse(query.bbox) if query.bbox is not None else None
        now_us = self._now_us()
        features: list[dict[str, Any]] = []
        for device in chosen:
            fix = device.public_fix
            if fix is not None and (box is None or box.contains(fix.latitude, fix.longitude)):
                features.append(device_views.feature(device, fix, now_us))
        headers = {**BASE_HEADERS, "Content-Type": GEO_JSON}
        return web.Response(body=geo.feature_collection(features), headers=headers)

    def _one(self, instance_id: str, text: str) -> list[Device]:
        try:
            device = self._roster.device(instance_id, canonical_token(text))
        except ValueError:
            return []
        return [device] if device is not None else []
