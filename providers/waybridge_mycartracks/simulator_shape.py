"""A vehicle at the vendor, the words in which the stand-in tells of it, and the clock that it lives by."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol


class Time(Protocol):
    """The clock that the stand-in lives by."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


class SystemTime:
    """The clocks of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(slots=True, kw_only=True)
class Vehicle:
    """A vehicle as the vendor knows it; `serial` grows with every fix."""

    vehicle_id: int
    name: str
    user_id: int | None = None
    user_name: str | None = None
    groups: frozenset[int] = frozenset()
    shared: bool = False
    latitude: float | None = None
    longitude: float | None = None
    speed_kmh: float | None = None
    heading: float | None = None
    recorded_at: datetime | None = None
    received_at: datetime | None = None
    online: bool = True
    serial: int = 0


@dataclass(slots=True, kw_only=True)
class Shape:
    """How last positions look, which the vendor does not publish. The default follows the socket's events.

    `envelope` None is a bare list; `nest` puts coordinates and times into an object of that name; `words`
    chooses names of the current or the older API; `times` ISO 8601, or numbers in s or ms since 1970;
    `paging`: `page` (page and total numbers), `next` (an address in the body), `link` (a Link header), `none`.
    """

    envelope: str | None = "data"
    nest: str | None = None
    words: Literal["v3", "v2"] = "v3"
    times: Literal["iso", "s", "ms"] = "iso"
    paging: Literal["page", "next", "link", "none"] = "page"
    first_page: Literal[0, 1] = 0


def iso(moment: datetime) -> str:
    """`2026-06-01T14:21:35Z`, with a fraction where there is one."""
    return moment.isoformat().replace("+00:00", "Z")


def position_event(vehicle: Vehicle, stale_by: float = 0.0) -> dict[str, Any]:
    """`vehicle.position.updated` with every field that the vehicle has."""
    assert vehicle.recorded_at is not None  # noqa: S101 - only vehicles that moved are told of
    assert vehicle.received_at is not None  # noqa: S101
    event = {
        "type": "vehicle.position.updated",
        "vehicleId": vehicle.vehicle_id,
        "vehicleName": vehicle.name,
        "userId": vehicle.user_id,
        "userName": vehicle.user_name,
        "latitude": vehicle.latitude,
        "longitude": vehicle.longitude,
        "speed": vehicle.speed_kmh,
        "heading": vehicle.heading,
        "recordedAt": iso(vehicle.recorded_at - timedelta(seconds=stale_by)),
        "receivedAt": iso(vehicle.received_at),
        "onlineState": "online" if vehicle.online else "offline",
    }
    return {name: value for name, value in event.items() if value is not None}


def last_position(vehicle: Vehicle, shape: Shape, stale_by: float) -> dict[str, Any]:
    """A row of last positions in the chosen shape; a vehicle that never moved has no coordinates."""
    if vehicle.recorded_at is None or vehicle.received_at is None:
        return {"vehicleId": vehicle.vehicle_id, "vehicleName": vehicle.name}
    row = position_event(vehicle, stale_by)
    del row["type"]
    if shape.times != "iso":
        factor = 1000 if shape.times == "ms" else 1
        row["recordedAt"] = int((vehicle.recorded_at.timestamp() - stale_by) * factor)
        row["receivedAt"] = int(vehicle.received_at.timestamp() * factor)
    if shape.words == "v2":
        names = {"vehicleId": "carId", "vehicleName": "carName", "latitude": "lat", "longitude": "lng"}
        names |= {"heading": "bearing", "recordedAt": "time"}
        row = {names.get(name, name): value for name, value in row.items()}
    if shape.nest is not None:
        outside = {"vehicleId", "vehicleName", "carId", "carName", "userId", "userName"}
        inner = {name: value for name, value in row.items() if name not in outside}
        row = {name: value for name, value in row.items() if name in outside} | {shape.nest: inner}
    return row
