"""How MyCarTracks writes: rows of last positions and events of the stream (km/h, RFC 3339, numbers as ids)."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from waybridge import DeviceView, Position

FIELDS: Final = (
    "vehicleId",
    "vehicleName",
    "userId",
    "userName",
    "latitude",
    "longitude",
    "speed",
    "heading",
    "recordedAt",
    "receivedAt",
    "onlineState",
)
KMH_PER_MPS: Final = 3.6
_ONLINE: Final[Mapping[bool | None, str]] = {True: "online", False: "offline", None: "unknown"}


def row(view: DeviceView, position: Position) -> dict[str, Any]:
    """A device as a vehicle with its driver; what is unknown is null.

    A device has one number, which serves as vehicle and as user.
    """
    return {
        "vehicleId": view.number,
        "vehicleName": view.nickname or view.display_name,
        "userId": view.number,
        "userName": view.full_name or view.display_name,
        "latitude": position.latitude,
        "longitude": position.longitude,
        "speed": None if position.speed_mps is None else round(position.speed_mps * KMH_PER_MPS, 3),
        "heading": position.heading_deg,
        "recordedAt": rfc3339(position.recorded_at),
        "receivedAt": None if position.received_at is None else rfc3339(position.received_at),
        "onlineState": _ONLINE[view.online],
    }


def updated(view: DeviceView, position: Position, fields: frozenset[str] | None) -> dict[str, Any]:
    """`vehicle.position.updated` with the chosen fields."""
    known = row(view, position)
    chosen = known if fields is None else {name: known[name] for name in FIELDS if name in fields}
    return {"type": "vehicle.position.updated"} | chosen


def offline(number: int, last_seen_at: datetime | None) -> dict[str, Any]:
    """`vehicle.offline`, which carries no coordinate."""
    seen = None if last_seen_at is None else rfc3339(last_seen_at)
    return {"type": "vehicle.offline", "vehicleId": number, "lastSeenAt": seen}


def rfc3339(moment: datetime) -> str:
    """`2026-06-01T14:21:35Z`, with milliseconds where there are any."""
    moment = moment.astimezone(UTC)
    precision = "milliseconds" if moment.microsecond >= 1000 else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")
