"""The checks of the position model (contract section 2), in one place: what is refused, cleared or clamped."""

from __future__ import annotations

import math
from datetime import UTC

import msgspec

from waybridge.model import EARLIEST, Position, to_us

EARLIEST_US = to_us(EARLIEST)
AHEAD_US = 24 * 3600 * 1_000_000
MAX_EXTRA = 16_384
SUSPECT = 2


class Refused(Exception):
    """A position that is not taken: which field, and why."""

    def __init__(self, field: str, error: str) -> None:
        super().__init__(f"{field}: {error}")
        self.field = field
        self.error = error


class Checked(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A position within its bounds; times in microseconds, `recorded_us` clamped where `suspect`."""

    sent_us: int
    recorded_us: int
    received_us: int
    suspect: bool
    latitude: float
    longitude: float
    altitude: float | None
    accuracy: float | None
    speed: float | None
    heading: float | None
    extra: str | None


def check(position: Position, received_us: int, future_skew_us: int, most_ahead_us: int = AHEAD_US) -> Checked:
    """Applies every rule to one position; `most_ahead_us` is the furthest ahead of the clock. Raises Refused."""
    latitude = _number("latitude", position.latitude)
    if not -90.0 <= latitude <= 90.0:
        raise Refused("latitude", "must be between -90 and 90")
    longitude = _number("longitude", position.longitude)
    if not -180.0 <= longitude <= 180.0:
        raise Refused("longitude", "must be between -180 and 180")
    recorded_at = position.recorded_at
    if recorded_at.tzinfo is not UTC and recorded_at.utcoffset() is None:
        raise Refused("recorded_at", "must have a time zone")
    sent_us = to_us(recorded_at)
    if sent_us < EARLIEST_US:
        raise Refused("recorded_at", "must not be before 2000-01-01")
    ahead = sent_us - received_us
    if ahead > most_ahead_us:
        raise Refused("recorded_at", f"must not be more than {_span(most_ahead_us)} ahead")
    suspect = ahead > future_skew_us
    trip = position.track_token
    if trip is not None and (not 0 < len(trip) <= 200 or "\x00" in trip):
        raise Refused("track_token", "must be 1 to 200 characters without NUL")
    return Checked(
        sent_us,
        received_us if suspect else sent_us,
        received_us,
        suspect,
        latitude + 0.0,
        longitude + 0.0,
        _optional("altitude", position.altitude_m),
        _positive("accuracy", position.accuracy_m),
        _positive("speed", position.speed_mps),
        _heading(position.heading_deg),
        _extra(position),
    )


def _span(us: int) -> str:
    hours, rest = divmod(us, 3_600_000_000)
    return f"{us / 1e6:g} seconds" if rest else f"{hours} hours"


def _number(field: str, value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise Refused(field, "must be a number")
    if not math.isfinite(value):
        raise Refused(field, "must be finite")
    return float(value)


def _optional(field: str, value: float | None) -> float | None:
    return None if value is None else _number(field, value)


def _positive(field: str, value: float | None) -> float | None:
    if value is None:
        return None
    number = _number(field, value)
    return None if number < 0 else number + 0.0


def _heading(value: float | None) -> float | None:
    if value is None:
        return None
    number = _number("heading", value)
    if number == 360.0:
        return 0.0
    return number + 0.0 if 0.0 <= number < 360.0 else None


def _extra(position: Position) -> str | None:
    battery = position.battery
    if battery is not None:
        battery = _number("battery", battery)
        battery = battery if 0.0 <= battery <= 1.0 else None
    if position.address is None and position.locality is None and battery is None and not position.attributes:
        return None
    kept = {
        name: value
        for name, value in (
            ("address", position.address),
            ("locality", position.locality),
            ("battery", battery),
            ("attributes", dict(position.attributes) or None),
        )
        if value is not None
    }
    try:
        text = msgspec.json.encode(kept).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused("attributes", "must be JSON") from error
    if len(text) > MAX_EXTRA:
        raise Refused("attributes", f"must be at most {MAX_EXTRA} bytes of JSON")
    return text if kept else None
