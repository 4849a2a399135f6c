"""Turns parsed events into reports, remembering what one run of the stream has said already.

It lives as long as one run: after a failure nothing is taken for known, so that nothing is lost when the
gateway could not keep what it was handed. The gateway absorbs the duplicates.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from waybridge import Offline, Position, Profile, Report, SourceKey
from waybridge_mycartracks.payload import Fix, Gone

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_MOST_FIXES: Final = 65_536
_MOST_VEHICLES: Final = 20_000

K = TypeVar("K")
V = TypeVar("V")


class _Newest(OrderedDict[K, V], Generic[K, V]):
    """Keeps the `most` last written entries."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: K, value: V) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)


class Ledger:
    """What this run has passed on: fixes by (vehicle, time), the newest time and the names of each vehicle."""

    def __init__(self, source: Callable[[str], SourceKey], count: Callable[[str], None]) -> None:
        self._source = source
        self._count = count
        self._fixes: _Newest[tuple[str, datetime], None] = _Newest(_MOST_FIXES)
        self._newest: _Newest[str, datetime] = _Newest(_MOST_VEHICLES)
        self._names: _Newest[str, tuple[str | None, str | None]] = _Newest(_MOST_VEHICLES)
        self._gone: _Newest[str, datetime] = _Newest(_MOST_VEHICLES)

    def live(self, said: Fix | Gone, arrived_at: datetime) -> list[Report]:
        """The reports of one event. A fix without any time was taken when it arrived."""
        if isinstance(said, Gone):
            return [Offline(source=self._source(said.vehicle_id), last_seen_at=said.last_seen_at)]
        return self._fix(said, said.recorded_at or arrived_at)

    def row(self, fix: Fix) -> list[Report]:
        """The reports of one row of last positions. Without a time it may be of any age and is left out.

        A row that says offline tells of an event that was missed, unless a newer fix has come meanwhile.
        """
        if fix.recorded_at is None:
            self._count("row_without_time")
            return []
        reports = self._fix(fix, fix.recorded_at)
        newest = self._newest.get(fix.vehicle_id, fix.recorded_at)
        if fix.online is False and newest <= fix.recorded_at and self._gone.get(fix.vehicle_id) != fix.recorded_at:
            self._gone.keep(fix.vehicle_id, fix.recorded_at)
            reports.append(Offline(source=self._source(fix.vehicle_id), last_seen_at=fix.recorded_at))
        return reports

    def _fix(self, fix: Fix, recorded_at: datetime) -> list[Report]:
        key = (fix.vehicle_id, recorded_at)
        if key in self._fixes:
            self._count("duplicate")
            return []
        self._fixes.keep(key, None)
        reports: list[Report] = []
        newest = self._newest.get(fix.vehicle_id)
        if newest is None or recorded_at > newest:
            self._newest.keep(fix.vehicle_id, recorded_at)
            reports += self._profile(fix)
        reports.append(
            Position(
                source=self._source(fix.vehicle_id),
                latitude=fix.latitude,
                longitude=fix.longitude,
                recorded_at=recorded_at,
                speed_mps=fix.speed_mps,
                heading_deg=fix.heading_deg,
                online=fix.online,
                attributes=fix.attributes,
            )
        )
        return reports

    def _profile(self, fix: Fix) -> list[Report]:
        known = self._names.get(fix.vehicle_id, (None, None))
        names = (fix.vehicle_name or known[0], fix.user_name or known[1])
        self._names.keep(fix.vehicle_id, names)
        return [] if names == known else [profile(self._source(fix.vehicle_id), *names)]


def profile(source: SourceKey, vehicle_name: str | None, user_name: str | None) -> Profile:
    """The vehicle's name is what people call it, its driver is who it is."""
    return Profile(source=source, nickname=vehicle_name, full_name=user_name)
