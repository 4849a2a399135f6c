"""How well a booking was tracked: gaps between live locations, and the share of the journey they cover. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from waybridge_driver_events.record import SECOND, Booking, Live

if TYPE_CHECKING:
    from collections.abc import Sequence

GOLD_SECONDS: Final = 5
USABLE_SECONDS: Final = 20


def gaps(times: Sequence[int], booking: Booking, live: Live) -> dict[str, Any]:
    """Gap and coverage figures; `times` are microseconds, oldest first.

    `gap`: seconds between one live location and the next by their own times (count, p50, p95, max, over_20s).
    `coverage`: share of the live window in which the newest live location is at most 5 or 20 s old. The window
    opens with the departure to the pickup and closes with the terminal event; while it is open it is measured up
    to the newest live location. None where nothing is known.
    """
    opened = booking.steps[0].sent if booking.steps else None
    closed = booking.ended_at if booking.ended_at is not None else live.newest
    steps = sorted((later - earlier) / SECOND for earlier, later in pairwise(times))
    return {
        "gap": {
            "count": len(steps),
            "p50": _quantile(steps, 50),
            "p95": _quantile(steps, 95),
            "max": steps[-1] if steps else None,
            "over_20s": sum(step > USABLE_SECONDS for step in steps),
        },
        "coverage": {
            "5s": _coverage(times, opened, closed, GOLD_SECONDS),
            "20s": _coverage(times, opened, closed, USABLE_SECONDS),
        },
    }


def _quantile(steps: Sequence[float], percent: int) -> float | None:
    """By nearest rank: a gap that did happen."""
    return steps[-(-percent * len(steps) // 100) - 1] if steps else None


def _coverage(times: Sequence[int], opened: int | None, closed: int | None, seconds: int) -> float | None:
    if opened is None or closed is None or closed <= opened:
        return None
    inside = [moment for moment in times if opened <= moment <= closed]
    covered = sum(min(later - earlier, seconds * SECOND) for earlier, later in pairwise([*inside, closed]))
    return round(covered / (closed - opened), 4)
