"""Devices as the API shows them; what is shown comes from the roster, never from the database."""

from __future__ import annotations

from typing import Any

import msgspec

from waybridge import devices, geo
from waybridge.api.times import Format
from waybridge.bus import Fix
from waybridge.errors import NotFound
from waybridge.model import from_us, iso_us
from waybridge.roster import SUSPECT, Device, Trip
from waybridge.tracks import Stats, Track

SECOND = 1_000_000
NO_POSITION = "the device has no position yet"
NOT_SHARING = "not sharing"


class Extra(msgspec.Struct):
    """What a fix carries beside its numbers."""

    address: str | None = None
    locality: str | None = None
    battery: float | None = None


_extra = msgspec.json.Decoder(Extra).decode
_NO_EXTRA = Extra()


def extra_of(fix: Fix) -> Extra:
    return _extra(fix.extra) if fix.extra is not None else _NO_EXTRA


def position(device: Device, now_us: int, when: Format) -> dict[str, Any]:
    """A device's position, flat. Raises NotFound, telling apart what never was and what is kept back."""
    fix = device.operator_fix
    if fix is None:
        raise NotFound(NOT_SHARING if device.kept_back else NO_POSITION)
    return flat(device, fix, now_us, when)


def flat(device: Device, fix: Fix, now_us: int, when: Format) -> dict[str, Any]:
    extra = _extra(fix.extra) if fix.extra is not None else _NO_EXTRA
    winner = device.winner
    trip = winner.trip if winner is not None else None
    return {
        "device_token": device.token,
        "latitude": fix.latitude,
        "longitude": fix.longitude,
        "speed": fix.speed,
        "heading": fix.heading,
        "accuracy": fix.accuracy,
        "altitude": fix.altitude,
        "timestamp": when(fix.recorded_us),
        "address": extra.address,
        "locality": extra.locality,
        "battery": extra.battery,
        "track_token": trip.track_token if trip is not None and trip.id == fix.trip_id else None,
        "provider": winner.policy.provider if winner is not None else None,
        "online": device.online_at(now_us),
        "sharing": winner is not None and winner.period is not None,
        "stale": device.stale(now_us),
        "age_seconds": age_seconds(fix, now_us),
        "time_suspect": bool(fix.flags & SUSPECT),
    }


def named(device: Device) -> dict[str, Any]:
    """What a position says more when its instance was named."""
    return {
        "display_identifier": device.display_name,
        "display_field": device.display_field,
        "driver_profile": devices.profile_of(device),
    }


def item(device: Device, now_us: int, when: Format) -> dict[str, Any]:
    """A device in a list."""
    fix = device.operator_fix
    return {
        "device_token": device.token,
        "display_identifier": device.display_name,
        "provider": device.provider,
        "online": device.online_at(now_us),
        "sharing": device.sharing,
        "stale": device.stale(now_us),
        "age_seconds": age_seconds(fix, now_us) if fix is not None else None,
        "position": flat(device, fix, now_us, when) if fix is not None else None,
        "trip": _trip(device.trip, when),
        "sources": [
            {
                "connection_id": source.connection_id,
                "external_id": source.external_id,
                "provider": source.policy.provider,
            }
            for source in device.sources
        ],
    }


def feature(device: Device, fix: Fix, now_us: int) -> dict[str, Any]:
    """A device on a map."""
    extra = extra_of(fix)
    return geo.point_feature(
        fix.latitude,
        fix.longitude,
        fix.altitude,
        {
            "device_token": device.token,
            "handle": device.handle or device.display_name,
            "provider": device.provider,
            "address": extra.address,
            "locality": extra.locality,
            "updated_at": iso_us(fix.recorded_us),
            "speed": fix.speed,
            "heading": fix.heading,
            "accuracy": fix.accuracy,
            "stale": device.stale(now_us),
        },
    )


def track(device: Device, found: Track, when: Format) -> dict[str, Any]:
    """The newest trip with its points, oldest first."""
    trip = found.trip
    return {
        "device_token": device.token,
        "track_token": trip.track_token if trip is not None else None,
        "started_at": when(trip.started_us) if trip is not None else None,
        "ended_at": when(trip.ended_us) if trip is not None else None,
        "count": len(found.points),
        "truncated": found.truncated,
        "points": [
            {
                "latitude": point.latitude,
                "longitude": point.longitude,
                "altitude": point.altitude,
                "speed": point.speed,
                "heading": point.heading,
                "accuracy": point.accuracy,
                "timestamp": when(point.recorded_us),
            }
            for point in found.points
        ],
    }


def track_points(found: Track) -> list[geo.TrackPoint]:
    return [
        geo.TrackPoint(point.latitude, point.longitude, from_us(point.recorded_us), point.altitude, point.speed)
        for point in found.points
    ]


def stats(device: Device, trip: Trip | None, found: Stats, when: Format) -> dict[str, Any]:
    """What the newest trip adds up to; metres, seconds, m/s."""
    first, last = found.first, found.last
    average = found.average_speed
    return {
        "device_token": device.token,
        "track_token": trip.track_token if trip is not None else None,
        "status": _status(trip) if trip is not None else None,
        "started_at": when(trip.started_us) if trip is not None else None,
        "ended_at": when(trip.ended_us) if trip is not None else None,
        "distance_m": round(found.distance_m, 1),
        "duration_s": round(found.duration_us / SECOND, 3),
        "moving_s": round(found.moving_us / SECOND, 3),
        "average_speed": round(average, 3) if average is not None else None,
        "max_speed": found.max_speed,
        "points_count": found.count,
        "start": {"latitude": first.latitude, "longitude": first.longitude} if first is not None else None,
        "end": {"latitude": last.latitude, "longitude": last.longitude} if last is not None else None,
    }


def age_seconds(fix: Fix, now_us: int) -> int:
    """Whole seconds since the fix was taken."""
    return max(0, now_us - fix.recorded_us) // SECOND


def _trip(trip: Trip | None, when: Format) -> dict[str, Any] | None:
    if trip is None:
        return None
    return {"track_token": trip.track_token, "started_at": when(trip.started_us), "status": _status(trip)}


def _status(trip: Trip) -> str:
    return "active" if trip.ended_us is None else "completed"
