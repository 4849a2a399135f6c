"""A device's newest trip: its points and what they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from waybridge.geo import distance_m
from waybridge.roster import Device, Trip
from waybridge.store import tracks as rows
from waybridge.store.engine import Store
from waybridge.store.tracks import Point

POOR_ACCURACY_M = 100.0
IMPOSSIBLE_MPS = 90.0
MOVING_MPS = 1.0
"""From this speed on a step counts as moving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """The points of a trip, oldest first; `trip` is None for a device that has made none."""

    trip: Trip | None = None
    points: Sequence[Point] = ()
    truncated: bool = False


@dataclass(slots=True)
class Stats:
    """What a trip adds up to, fed point by point, oldest first.

    Steps to or from a fix that is poorer than 100 m, and steps faster than 90 m/s, add no distance.
    """

    distance_m: float = 0.0
    moving_us: int = 0
    max_speed: float | None = None
    count: int = 0
    first: Point | None = None
    last: Point | None = None
    _anchor: Point | None = field(default=None, repr=False)

    def add(self, points: Iterable[Point]) -> None:
        for point in points:
            self.count += 1
            self.first = self.first or point
            self.last = point
            if point.accuracy is not None and point.accuracy > POOR_ACCURACY_M:
                continue
            if self._anchor is not None and not self._step(self._anchor, point):
                continue
            self._anchor = point
            if point.speed is not None and point.speed <= IMPOSSIBLE_MPS:
                self.max_speed = max(self.max_speed or 0.0, point.speed)

    @property
    def duration_us(self) -> int:
        return self.last.recorded_us - self.first.recorded_us if self.last is not None and self.first is not None else 0

    @property
    def average_speed(self) -> float | None:
        """m/s while moving; None where nothing moved."""
        return self.distance_m / (self.moving_us / 1e6) if self.moving_us else None

    def _step(self, before: Point, after: Point) -> bool:
        elapsed_us = after.recorded_us - before.recorded_us
        if elapsed_us <= 0:
            return False
        metres = distance_m(before.latitude, before.longitude, after.latitude, after.longitude)
        speed = metres / (elapsed_us / 1e6)
        if speed > IMPOSSIBLE_MPS:
            return False
        self.distance_m += metres
        if speed >= MOVING_MPS or (after.speed is not None and after.speed >= MOVING_MPS):
            self.moving_us += elapsed_us
        return True


class Tracks:
    """Reads trips out of the history; a device that keeps its position back has none to show."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def newest(self, device: Device, limit: int) -> Track:
        """The points of the device's newest trip, at most `limit` of the newest. Raises StoreUnavailable."""
        trip, source = device.trip, device.winner
        if trip is None or source is None or device.kept_back:
            return Track()
        first_us, last_us = self._span(device, trip)
        async with self._store.read() as conn:
            points, truncated = await rows.newest_points(
                conn, source_id=source.id, trip_id=trip.id, first_us=first_us, last_us=last_us, limit=limit
            )
        return Track(trip=trip, points=points, truncated=truncated)

    async def stats(self, device: Device) -> tuple[Trip | None, Stats]:
        """The device's newest trip and what it adds up to. Raises StoreUnavailable."""
        trip, source = device.trip, device.winner
        stats = Stats()
        if trip is None or source is None or device.kept_back:
            return None, stats
        first_us, last_us = self._span(device, trip)
        async with self._store.read() as conn:
            async for points in rows.every_point(
                conn, source_id=source.id, trip_id=trip.id, first_us=first_us, last_us=last_us
            ):
                stats.add(points)
        return trip, stats

    def _span(self, device: Device, trip: Trip) -> tuple[int, int]:
        """From when to when the trip's points were sent; a running trip ends with what is known now."""
        last = device.winner.last if device.winner is not None else None
        newest_us = max(last.recorded_us, last.sent_us) if last is not None else trip.started_us
        end_us = newest_us if trip.ended_us is None else max(trip.ended_us, newest_us if _of(last, trip) else 0)
        return trip.started_us, max(end_us, trip.started_us)


def _of(last: object, trip: Trip) -> bool:
    return getattr(last, "trip_id", None) == trip.id
