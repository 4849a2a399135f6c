"""What MyCarTracks says, parsed: pure functions driven by tables, so that a new shape changes one place.

Last positions have no published schema: rows are found and read by lists of known names, from the vendor's
public clients. Socket events and the stream answer are those of the vendor's post on live positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from waybridge_mycartracks.values import coordinate, heading_deg, identity, moment, number, speed_mps, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

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
REQUIRED_FIELDS: Final = frozenset({"vehicleId", "latitude", "longitude", "recordedAt"})
ENVELOPES: Final = ("data", "positions", "items", "vehicles", "content")
NESTED: Final = ("position", "lastPosition", "location")
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "vehicleId": ("vehicleId", "id", "carId"),
    "vehicleName": ("vehicleName", "name", "carName"),
    "userId": ("userId",),
    "userName": ("userName",),
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lng", "lon"),
    "speed": ("speed",),
    "heading": ("heading", "bearing", "course"),
    "recordedAt": ("recordedAt", "time", "timestamp"),
    "receivedAt": ("receivedAt",),
    "onlineState": ("onlineState",),
}
GROUPS: Final = ("vehicleGroupIds", "vehicleGroupId", "groupIds", "groupId")
_ONLINE: Final = {"online": True, "offline": False}
_NAMED: Final = frozenset(alias for names in ALIASES.values() for alias in names) | set(NESTED) | {"type"}
_MOST_EXTRAS: Final = 20
_HEARTBEAT_RANGE: Final = (1.0, 300.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """A vehicle's position in our units. `recorded_at` is None where the vendor gave no time at all.

    `online` is None unless the vendor said online or offline; `group_ids` is None unless the vendor named any;
    `attributes` are the vendor's other fields.
    """

    vehicle_id: str
    latitude: float
    longitude: float
    recorded_at: datetime | None
    speed_mps: float | None
    heading_deg: float | None
    online: bool | None
    vehicle_name: str | None
    user_name: str | None
    group_ids: frozenset[str] | None
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gone:
    """`vehicle.offline`: the vehicle stopped sending."""

    vehicle_id: str
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class Connected:
    """The socket belongs to the stream session."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The stream is alive."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The stream reported an error; the vendor publishes no list of codes."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame that says nothing to us: `why` is the metric that counts it."""

    why: str


Event: TypeAlias = Fix | Gone | Connected | Heartbeat | Trouble | Unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSession:
    """An answered stream request. The address opens one socket, once, and is a secret."""

    websocket_url: str = field(repr=False)
    expires_at: datetime | None
    heartbeat_seconds: float
    min_interval_seconds: float


def find_rows(body: Any) -> Sequence[Any] | None:
    """The list of rows in a last-positions answer, bare or in an envelope; None in an unknown shape."""
    if isinstance(body, list):
        return body
    if not isinstance(body, dict):
        return None
    for name in ENVELOPES:
        if isinstance(body.get(name), list):
            found: list[Any] = body[name]
            return found
    inner = body.get("data")
    return find_rows(inner) if isinstance(inner, dict) and inner is not body else None


def row_vehicle(row: Any) -> str | None:
    """The vehicle that a row is about, whether or not it has a position."""
    return identity(_first(row, ALIASES["vehicleId"])) if isinstance(row, dict) else None


def parse_row(row: Any, unit: str) -> Fix | None:
    """One row or position event; None without a vehicle id or valid coordinates (a vehicle that never reported)."""
    if not isinstance(row, dict):
        return None
    merged = _flatten(row)
    values = {name: _first(merged, aliases) for name, aliases in ALIASES.items()}
    vehicle_id = identity(values["vehicleId"])
    latitude, longitude = coordinate(values["latitude"], 90), coordinate(values["longitude"], 180)
    if vehicle_id is None or latitude is None or longitude is None:
        return None
    state = text(values["onlineState"])
    return Fix(
        vehicle_id=vehicle_id,
        latitude=latitude,
        longitude=longitude,
        recorded_at=moment(values["recordedAt"]) or moment(values["receivedAt"]),
        speed_mps=speed_mps(values["speed"], unit),
        heading_deg=heading_deg(values["heading"]),
        online=_ONLINE.get(state.lower()) if state else None,
        vehicle_name=text(values["vehicleName"]),
        user_name=text(values["userName"]),
        group_ids=_groups(_first(merged, GROUPS)),
        attributes=_attributes(merged, values),
    )


def parse_event(frame: str | bytes, unit: str) -> Event:
    """One text frame of the socket; never raises."""
    try:
        body = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Unreadable("malformed_frame")
    if not isinstance(body, dict):
        return Unreadable("malformed_frame")
    match body.get("type"):
        case "vehicle.position.updated":
            return parse_row(body, unit) or Unreadable("event_without_position")
        case "vehicle.offline":
            vehicle_id = identity(_first(body, ALIASES["vehicleId"]))
            if vehicle_id is None:
                return Unreadable("event_without_vehicle")
            return Gone(vehicle_id, moment(body.get("lastSeenAt")))
        case "connected":
            return Connected()
        case "heartbeat":
            return Heartbeat()
        case "error":
            return Trouble(str(body.get("code"))[:80], text(body.get("message")) or "")
    return Unreadable("unknown_event")


def parse_session(body: Any) -> StreamSession | None:
    """The answer to a stream request, bare or under `data`; None without a socket address."""
    if not isinstance(body, dict):
        return None
    address = body.get("websocketUrl")
    if not isinstance(address, str) or not address:
        inner = body.get("data")
        return parse_session(inner) if isinstance(inner, dict) else None
    low, high = _HEARTBEAT_RANGE
    return StreamSession(
        websocket_url=address,
        expires_at=moment(body.get("expiresAt")),
        heartbeat_seconds=min(max(number(body.get("heartbeatSeconds")) or 30.0, low), high),
        min_interval_seconds=min(max(number(body.get("minIntervalSeconds")) or 5.0, low), high),
    )


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its nested position laid beneath it: what the row itself says wins."""
    merged = {key: value for key, value in row.items() if value is not None}
    for name in NESTED:
        inner = row.get(name)
        if isinstance(inner, dict):
            merged = {**{key: value for key, value in inner.items() if value is not None}, **merged}
    return merged


def _first(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _groups(said: Any) -> frozenset[str] | None:
    listed = said if isinstance(said, list) else [said]
    found = frozenset(group for each in listed if (group := identity(each)) is not None)
    return found if found or isinstance(said, list) else None


def _attributes(merged: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The vendor's words that the model has no place for, under `mycartracks.`."""
    kept = ("vehicleName", "userId", "userName", "receivedAt", "onlineState")
    found = {f"mycartracks.{name}": values[name] for name in kept if _plain(values[name])}
    extras = [name for name in merged if name not in _NAMED and _plain(merged[name]) and text(name, 60) == name]
    found.update({f"mycartracks.{name}": merged[name] for name in extras[:_MOST_EXTRAS]})
    return found


def _plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= 200
    return isinstance(value, bool) or number(value) is not None
