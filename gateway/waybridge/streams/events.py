"""The events of stream sessions, as JSON without their number: encoded once for all streams that show the same.

Times are RFC 3339, speeds m/s. The number is put in front when an event goes out (`numbered`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from waybridge.model import iso_us
from waybridge.roster import SUSPECT

if TYPE_CHECKING:
    from waybridge.bus import DeviceEvent, Fix
    from waybridge.roster import Device, Roster

FIELDS = (
    "device_token", "display_identifier", "latitude", "longitude", "altitude", "accuracy", "speed", "heading",
    "recorded_at", "received_at", "time_suspect", "track_token", "online", "address", "locality", "battery",
    "attributes", "provider", "connection_id", "external_id",
)  # fmt: skip
"""What a position may tell, in this order."""
ALWAYS = "device_token"
SELECTIONS = 64
"""Choices of fields whose positions are kept encoded; with more, all are encoded anew."""
_encode = msgspec.json.Encoder().encode
_NOTHING: Mapping[str, Any] = {}


def numbered(body: bytes, seq: int, dropped: int = 0) -> bytes:
    """An event with its number; `dropped` only where events before it were left out."""
    left_out = b'"dropped":%d,' % dropped if dropped else b""
    return b'{"seq":%d,' % seq + left_out + body[1:]


def encode(event: Mapping[str, Any]) -> bytes:
    return _encode(event)


def plain(seconds: float) -> int | float:
    """30 rather than 30.0."""
    return int(seconds) if float(seconds).is_integer() else seconds


def position(device: Device, fix: Fix, fields: tuple[str, ...] | None) -> bytes:
    """`device.position.updated`."""
    source, trip = device.winner, device.trip
    extra: Mapping[str, Any] = msgspec.json.decode(fix.extra) if fix.extra is not None else _NOTHING
    everything = {
        "device_token": device.token,
        "display_identifier": device.display_name,
        "latitude": fix.latitude,
        "longitude": fix.longitude,
        "altitude": fix.altitude,
        "accuracy": fix.accuracy,
        "speed": fix.speed,
        "heading": fix.heading,
        "recorded_at": iso_us(fix.recorded_us),
        "received_at": iso_us(fix.received_us),
        "time_suspect": bool(fix.flags & SUSPECT),
        "track_token": trip.track_token if trip is not None and trip.id == fix.trip_id else None,
        "online": device.online,
        "address": extra.get("address"),
        "locality": extra.get("locality"),
        "battery": extra.get("battery"),
        "attributes": extra.get("attributes") or {},
        "provider": device.provider,
        "connection_id": source.connection_id if source is not None else None,
        "external_id": source.external_id if source is not None else None,
    }
    if fields is not None:
        everything = {name: everything[name] for name in fields}
    return _encode({"type": "device.position.updated", **everything})


def of_device(event: DeviceEvent, device: Device | None) -> tuple[str, bytes] | None:
    """(kind of key, body) of a device event that streams tell; None for the others and for hidden devices.

    A device that stops sharing its location, or is erased, is told as offline, with the reason.
    """
    token = event.device_token
    seen = device is not None and not device.hidden
    match event.kind:
        case "online" if seen:
            return "state", _encode({"type": "device.online", "device_token": token, "since": iso_us(event.at_us)})
        case "offline" if seen:
            last_seen = event.details.get("last_seen_us")
            return "state", _offline(token, last_seen if isinstance(last_seen, int) else None, "silent")
        case "sharing_stopped" if not seen:
            return "state", _offline(token, event.at_us, "not_sharing")
        case "erased":
            return "state", _offline(token, None, "erased")
        case "source_changed" if seen:
            changed = {name: event.details.get(name) for name in ("from", "to", "reason")}
            return "source", _encode({"type": "source.changed", "device_token": token, **changed})
    return None


def _offline(token: str, last_seen_us: int | None, reason: str) -> bytes:
    return _encode(
        {"type": "device.offline", "device_token": token, "last_seen_at": iso_us(last_seen_us), "reason": reason}
    )


class Positions:
    """The newest position of each device, encoded once for each choice of fields."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._known: dict[tuple[str, ...] | None, dict[int, bytes]] = {}

    def body(self, device_id: int, fields: tuple[str, ...] | None) -> bytes | None:
        """None while nothing of the device may be seen."""
        known = self._known.get(fields)
        if known is None:
            if len(self._known) >= SELECTIONS:
                self._known.clear()
            known = self._known[fields] = {}
        found = known.get(device_id)
        if found is None:
            device = self._roster.by_id(device_id)
            fix = device.public_fix if device is not None else None
            if device is None or fix is None:
                return None
            found = known[device_id] = position(device, fix, fields)
        return found

    def changed(self, device_id: int) -> None:
        for known in self._known.values():
            known.pop(device_id, None)

    def clear(self) -> None:
        self._known.clear()
