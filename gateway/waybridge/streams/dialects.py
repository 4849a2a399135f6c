"""The two frame dialects of the realtime socket (seed 001, and the older one of the same vendor).

Speed is always m/s and accuracy metres; `units` adds `SpeedConverted` and `SpeedUnit`. What is not known is null,
its key stays. Neither dialect has a word for a device that stops sharing its location (contract section 2 wants
streams to be told): both say `{"type": "sharing_stopped"}` with the device's token, which a client that does not
know the type ignores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from waybridge.bus import Fix
    from waybridge.roster import Device

Dialect: TypeAlias = Literal["jwt", "access_token"]
"""Named by the key of the credential that selects it."""
Units: TypeAlias = Literal["metric", "imperial"]
KMH, MPH = 3.6, 3600 / 1609.344


@dataclass(frozen=True, slots=True)
class Wording:
    """How frames are written for a kind of viewers; those with equal wordings share every byte."""

    dialect: Dialect
    units: Units | None
    timezone: str
    date_format: str


def position(wording: Wording, device: Device, fix: Fix, when: Callable[[int | None], Any]) -> dict[str, Any]:
    """A device's position; `when` writes times as the wording says."""
    trip = device.trip
    track_token = trip.track_token if trip is not None and fix.trip_id == trip.id else None
    converted: dict[str, Any] = {}
    if wording.units is not None:
        factor, unit = (KMH, "km/h") if wording.units == "metric" else (MPH, "mph")
        converted = {
            "SpeedConverted": None if fix.speed is None else round(fix.speed * factor, 2),
            "SpeedUnit": unit,
        }
    if wording.dialect == "jwt":
        return {
            "type": "position",
            "DeviceToken": device.token,
            "Lat": fix.latitude,
            "Lng": fix.longitude,
            "Speed": fix.speed,
            "Heading": fix.heading,
            "Accuracy": fix.accuracy,
            "TrackToken": track_token,
            "DisplayIdentifier": device.display_name,
            "Timestamp": when(fix.recorded_us),
            **converted,
        }
    return {
        "type": "device_update",
        "device_token": device.token,
        "track_token": track_token,
        "position": {
            "Latitude": fix.latitude,
            "Longitude": fix.longitude,
            "Speed": fix.speed,
            "Heading": fix.heading,
            "Accuracy": fix.accuracy,
            "Timestamp": when(fix.recorded_us),
            **converted,
        },
        "display_identifier": device.display_name,
    }


def stopped(wording: Wording, device_token: str) -> dict[str, Any]:
    """A device that is not to be seen any more."""
    key = "DeviceToken" if wording.dialect == "jwt" else "device_token"
    return {"type": "sharing_stopped", key: device_token}


def greeting(
    wording: Wording, *, connection_id: str, server_time: Any, instance_id: str, device_token: str | None
) -> list[dict[str, Any]]:
    """What confirms a connection: one frame in the seed's dialect, three in the older one."""
    welcome = {
        "type": "welcome",
        "connection_id": connection_id,
        "server_time": server_time,
        "instance_id": instance_id,
        "units": wording.units or "metric",
        "timezone": wording.timezone,
        "date_format": wording.date_format,
    }
    if wording.dialect == "jwt":
        return [welcome]
    topic = f"instance:{instance_id}" if device_token is None else f"device:{device_token}"
    return [{"type": "authenticated", "instance_id": instance_id}, welcome, {"type": "subscribed", "topic": topic}]
