"""The rule: which position is doubted, and when the doubt is over.

A jump is held back, because one bad fix would throw the marker far away. It is believed when it goes on: a real
ferry, a flight or a bad first fix must not hold the marker for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from waybridge import Position, SourceKey, distance_m

BELIEVED_AFTER_FIXES = 3
BELIEVED_AFTER_SECONDS = 60.0
REMEMBERED = 10_000
"""Doubts of so many sources at once; the oldest is forgotten first."""


class AccuracySettings(BaseModel):
    """`[plugins.accuracy]`. None switches a rule off."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    max_accuracy_m: float | None = Field(default=None, gt=0)
    max_speed_mps: float | None = Field(default=70.0, gt=0)


Key: TypeAlias = tuple[SourceKey, datetime, float, float]
"""A source, and the position that a jump was measured from."""


@dataclass(slots=True)
class _Run:
    """The fixes of one jump: the first one's time, and the last of those that fit together, with their number."""

    since: datetime
    last: Position
    count: int = field(default=1)


class Doubt:
    """The filter. Late fixes and those that are known already are left to the gateway."""

    name = "accuracy"

    def __init__(self, settings: AccuracySettings) -> None:
        self._settings = settings
        self._runs: OrderedDict[Key, _Run] = OrderedDict()

    def refuse(self, position: Position, newest: Position | None) -> str | None:
        """Why the position is not believed, or None."""
        worst = self._settings.max_accuracy_m
        if worst is not None and position.accuracy_m is not None and position.accuracy_m > worst:
            return f"an accuracy of {position.accuracy_m:.0f} m is poorer than {worst:g} m"
        fastest = self._settings.max_speed_mps
        if fastest is None or newest is None or position.recorded_at <= newest.recorded_at:
            return None
        speed = implied_mps(newest, position)
        if speed <= fastest or self._goes_on(position, newest, fastest):
            return None
        return f"{speed:.0f} m/s since the position before is faster than {fastest:g} m/s"

    def _goes_on(self, position: Position, newest: Position, fastest: float) -> bool:
        """Whether the jump has gone on for long enough, this fix included."""
        key = position.source, newest.recorded_at, newest.latitude, newest.longitude
        run = self._runs.get(key)
        if run is None:
            self._runs[key] = _Run(position.recorded_at, position)
            if len(self._runs) > REMEMBERED:
                self._runs.popitem(last=False)
            return False
        if position.recorded_at > run.last.recorded_at:  # what is sent again proves nothing
            fits = implied_mps(run.last, position) <= fastest
            run.last, run.count = position, run.count + 1 if fits else 1
        lasted = (position.recorded_at - run.since).total_seconds()
        if run.count < BELIEVED_AFTER_FIXES and lasted < BELIEVED_AFTER_SECONDS:
            return False
        del self._runs[key]
        return True


def implied_mps(before: Position, after: Position) -> float:
    """The speed on the straight way between two positions; `after` is the later one."""
    metres = distance_m(before.latitude, before.longitude, after.latitude, after.longitude)
    return metres / (after.recorded_at - before.recorded_at).total_seconds()
