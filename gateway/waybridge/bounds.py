"""The checks of the position model (contract section 2), in one place: what is refused, cleared or clamped."""

from __future__ import annotations

import math
from datetime import UTC

import msgspec

from waybridge.bus import Fix
from waybridge.model import EARLIEST, Position, to_us
from waybridge.roster import NOT_LIVE, SUSPECT

EARLIEST_US = to_us(EARLIEST)
AHEAD_US = 24 * 3600 * 1_000_000
MAX_EXTRA = 16_384


class Refused(Exception):
    """A position that is not taken: which field, and why."""

    def __init__(self, field: str, error: str) -> None:
        super().__init__(f"{field}: {error}")
        self.field = field
        self.error = error


def check(position: Position, received_us: int, future_skew_us: int, most_ahead_us: int = AHEAD_US) -> Fix:
    """Applies every rule to one position and returns it as a fix that belongs to no trip yet.

    `recorded_us` is clamped where the flags say SUSPECT; `most_ahead_us` is the furthest ahead of the clock.
    Raises Refused.
    """
    latitude, longitude = position.latitude, position.longitude
    if type(latitude) is not float or not -90.0 <= latitude <= 90.0:
        latitude = _number("latitude", latitude)
        if not -90.0 <= latitude <= 90.0:
            raise Refused("latitude", "must be between -90 and 90")
    if type(longitude) is not float or not -180.0 <= longitude <= 180.0:
        longitude = _number("longitude", longitude)
        if not -180.0 <= longitude <= 180.0:
            raise Refused("longitude", "must be between -180 and 180")
    recorded_at = position.recorded_at
    if recorded_at.tzinfo is not UTC and recorded_at.utcoffset() is None:
        raise Refused("recorded_at", "must have a time zone")
    sent_us = to_us(recorded_at)
    if sent_us < EARLIEST_US:
        raise Refused("recorded_at", "must not be before 2000-01-01")
    recorded_us, flags = sent_us, 0 if position.live else NOT_LIVE
    if sent_us - received_us > future_skew_us:
        if sent_us - received_us > most_ahead_us:
            raise Refused("recorded_at", f"must not be more than {_span(most_ahead_us)} ahead")
        recorded_us, flags = received_us, flags | SUSPECT
    trip = position.track_token
    if trip is not None and (not 0 < len(trip) <= 200 or "\x00" in trip):
        raise Refused("track_token", "must be 1 to 200 characters without NUL")
    altitude, accuracy, speed, heading = (
        position.altitude_m, position.accuracy_m, position.speed_mps, position.heading_deg
    )  # fmt: skip
    return Fix(
        recorded_us,
        sent_us,
        received_us,
        latitude + 0.0,  # no negative zero
        longitude + 0.0,
        None if altitude is None else _number("altitude", altitude),
        accuracy if accuracy is None else _positive("accuracy", accuracy),
        speed if speed is None else _positive("speed", speed),
        heading if heading is None else _heading(heading),
        None,
        flags,
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


def _positive(field: str, value: float) -> float | None:
    number = _number(field, value)
    return None if number < 0 else number + 0.0


def _heading(value: float) -> float | None:
    number = _number("heading", value)
    if number == 360.0:
        return 0.0
    return number + 0.0 if 0.0 <= number < 360.0 else None


def _extra(position: Position) -> str | None:
    battery = position.battery
    if battery is None and position.address is None and position.locality is None and not position.attributes:
        return None
    if battery is not None:
        battery = _number("battery", battery)
        battery = battery if 0.0 <= battery <= 1.0 else None
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
