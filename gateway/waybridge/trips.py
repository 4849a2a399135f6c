"""Trips: the provider's own token where it has one, else cut after silence or standstill. Pure rules."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from waybridge.bus import Fix
from waybridge.roster import Trip

_EARTH_M = 6_371_008.8


@dataclass(frozen=True, slots=True, kw_only=True)
class TripRules:
    """`gap_us`: silence that ends a trip. `standstill_us`: time below `standstill_mps` that ends one."""

    gap_us: int = 300_000_000
    standstill_us: int = 300_000_000
    standstill_mps: float = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """What a fix does: the trip that is now the newest, whether it is new, the one that ended, and whether the
    fix itself belongs to the trip.
    """

    trip: Trip | None
    started: bool = False
    ended: Trip | None = None
    inside: bool = True


def advance(
    trip: Trip | None, previous: Fix | None, fix: Fix, token: str | None, rules: TripRules, new_id: Callable[[], int]
) -> Step:
    """Puts a newer live fix after `previous` into the running trip, a new one, or none (standing still)."""
    if token is not None:
        if trip is not None and trip.track_token == token:
            return Step(replace(trip, ended_us=None, still_since_us=None) if trip.ended_us is not None else trip)
        return _begin(trip, previous, fix, token, new_id)
    if trip is None or previous is None:
        return _begin(trip, previous, fix, str(uuid.uuid4()), new_id)
    if fix.recorded_us - previous.recorded_us > rules.gap_us:
        return _begin(trip, previous, fix, str(uuid.uuid4()), new_id)
    moving = speed_mps(previous, fix) >= rules.standstill_mps
    if trip.ended_us is not None:
        return _begin(trip, previous, fix, str(uuid.uuid4()), new_id) if moving else Step(trip, inside=False)
    if moving:
        return Step(trip if trip.still_since_us is None else replace(trip, still_since_us=None))
    since = trip.still_since_us if trip.still_since_us is not None else previous.recorded_us
    if fix.recorded_us - since >= rules.standstill_us:
        ended = replace(trip, ended_us=since, still_since_us=None)
        return Step(ended, ended=ended, inside=False)
    return Step(trip if trip.still_since_us is not None else replace(trip, still_since_us=since))


def stays(trip: Trip, previous: Fix, fix: Fix, token: str | None, rules: TripRules) -> bool:
    """Whether a newer live fix belongs to a running trip and changes nothing about it: the usual case."""
    if trip.ended_us is not None:
        return False
    if token is not None:
        return trip.track_token == token
    if fix.recorded_us - previous.recorded_us > rules.gap_us:
        return False
    if speed_mps(previous, fix) >= rules.standstill_mps:
        return trip.still_since_us is None
    return trip.still_since_us is not None and fix.recorded_us - trip.still_since_us < rules.standstill_us


def _begin(trip: Trip | None, previous: Fix | None, fix: Fix, token: str, new_id: Callable[[], int]) -> Step:
    ended = None
    if trip is not None and trip.ended_us is None:
        ended = replace(trip, ended_us=previous.recorded_us if previous is not None else fix.recorded_us)
    return Step(Trip(new_id(), token, fix.recorded_us), started=True, ended=ended)


def speed_mps(previous: Fix, fix: Fix) -> float:
    """How fast a fix says it is, or else how far it is from the one before."""
    if fix.speed is not None:
        return fix.speed
    seconds = (fix.recorded_us - previous.recorded_us) / 1e6
    if seconds <= 0:
        return 0.0
    # Short hops: the flat approximation is within a part in a thousand, and needs no great circle.
    north = math.radians(fix.latitude - previous.latitude) * _EARTH_M
    turn = (fix.longitude - previous.longitude + 540.0) % 360.0 - 180.0
    east = math.radians(turn) * _EARTH_M * math.cos(math.radians(fix.latitude))
    return math.hypot(north, east) / seconds
