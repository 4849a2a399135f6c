"""Whether a stream that is connected still brings what it should: not silence, and not only old positions.

A vendor's socket may live on, with heartbeats, while nothing comes through it any more. Vehicles that are parked fall
silent as well, so silence alone is no fault: a stream that brought fresh positions and then nothing is opened anew
once, without a word to integrators, and left alone until it brings fresh positions again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median
from typing import Literal

from waybridge.model import Position, Report, to_us

SAMPLES = 101
LEAST_QUIET = 300.0
LONGEST_QUIET = 3600.0

Verdict = Literal["silent", "all_stale"]


def quiet_seconds(stale_after: float, expected_interval: float) -> float:
    """How long a stream may bring nothing fresh before it is opened anew."""
    return min(max(LEAST_QUIET, 5 * stale_after, 20 * expected_interval), LONGEST_QUIET)


class Watch:
    """One connection's positions as its watchdog sees them. Times of `now` are seconds of a monotonic clock."""

    def __init__(self, stale_after: float, quiet_after: float) -> None:
        self.quiet_after = quiet_after
        self._stale_us = stale_after * 1e6
        self._patience = quiet_after
        self._delays: deque[float] = deque(maxlen=SAMPLES)
        self._fresh_at: float | None = None
        self._seen_at = 0.0
        self._stale_since: float | None = None

    def delay(self) -> float | None:
        """The median of received minus recorded over the last positions, in seconds; a wrong clock shows here."""
        return median(self._delays) if self._delays else None

    def seen(self, reports: Iterable[Report], now: float, now_us: int) -> None:
        """What came in at `now` (`now_us`: the same moment since 1970)."""
        for each in reports:
            if not isinstance(each, Position) or each.recorded_at.tzinfo is None:
                continue
            age_us = now_us - to_us(each.recorded_at)
            self._delays.append(age_us / 1e6)
            self._seen_at = now
            if age_us <= self._stale_us:
                self._fresh_at, self._stale_since, self._patience = now, None, self.quiet_after
            elif self._stale_since is None:
                self._stale_since = now

    def verdict(self, now: float) -> Verdict | None:
        """What is wrong at `now`, told once: again only after fresh positions, or after twice the time."""
        stale_since = self._stale_since
        if stale_since is not None and self._seen_at - stale_since >= self._patience:
            found: Verdict = "all_stale"
        elif self._fresh_at is not None and now - self._seen_at >= self._patience:
            found = "silent"
        else:
            return None
        self._fresh_at = self._stale_since = None
        self._patience = min(2 * self._patience, LONGEST_QUIET)
        return found
