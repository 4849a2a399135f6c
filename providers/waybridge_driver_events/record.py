"""What is remembered of a booking, as the connection's keyed state keeps it. Times are microseconds since 1970 UTC.

Three kinds of records, so that the frequent live location rewrites little:

    booking/{c}/{b}        Booking: who drives, where to, which milestones happened
    live/{c}/{b}           Live: the live window; every event that is accepted rewrites it, so events of one
                           booking that run side by side always meet here, and one of them is judged again
    times/{c}/{b}/{n}      sorted times of the live locations of one ten-minute stretch, from its start

and two indexes: `reference/{b}` -> customer reference, `open/{c}/{b}` -> when the booking completes by itself.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from waybridge_driver_events.payload import BookingStatus, EventType

SECOND: Final = 1_000_000
STRETCH: Final = 600 * SECOND
COMPLETES_AFTER: Final = 6 * 3600 * SECOND
MOST_TIMES: Final = 2_000
RECENT: Final = 40
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Step(msgspec.Struct):
    """A milestone that happened: its time as sent, as it counts (never after `received`), and its arrival."""

    kind: EventType
    sent: int
    at: int
    received: int


class Booking(msgspec.Struct, omit_defaults=True):
    """`assigned_at` None while `assigned`: since ever. `steps` in the order of the journey."""

    created: int
    status: BookingStatus = BookingStatus.ACCEPTED
    assigned: bool = False
    assigned_at: int | None = None
    driver: dict[str, str] | None = None
    vehicle: dict[str, str] | None = None
    pickup: dict[str, Any] | None = None
    dropoff: dict[str, Any] | None = None
    pickup_at: int | None = None
    steps: list[Step] = []
    ended_at: int | None = None

    @property
    def last(self) -> Step | None:
        """The newest milestone."""
        return self.steps[-1] if self.steps else None

    def step(self, kind: EventType) -> Step | None:
        """The milestone of a type, if it happened."""
        return next((step for step in self.steps if step.kind is kind), None)

    @property
    def completes_at(self) -> int | None:
        """When an unfinished booking is over by itself: 6 h after its pickup time.

        Where that is unknown, after the driver reported to be there or else on the way, by the gateway's own
        clock, which backdated events do not move.
        """
        if self.ended_at is not None:
            return None
        arrived = self.step(EventType.ARRIVED_AT_PICKUP) or self.step(EventType.DEPARTED_TO_PICKUP)
        start = self.pickup_at if self.pickup_at is not None or arrived is None else arrived.received
        return None if start is None else start + COMPLETES_AFTER

    def assign(self, at: int | None) -> None:
        """The first assignment counts; later ones change the driver only."""
        if not self.assigned:
            self.assigned, self.assigned_at = True, at
        if self.status in {BookingStatus.NEW, BookingStatus.ACCEPTED}:
            self.status = BookingStatus.DRIVER_ASSIGNED


class Live(msgspec.Struct, omit_defaults=True):
    """The live window of a booking.

    `newest`: time of the newest live location, `newest_recorded` that of its position. `recent`: times of the last
    that were accepted, as sent. `paced_until`: how far the sender has used up its rate. `taken`: recorded times of
    milestones' coordinates. `moved`: recorded times of the last live locations that had to move aside.
    """

    newest: int | None = None
    newest_recorded: int = 0
    first: int | None = None
    count: int = 0
    late: int = 0
    started: bool = False
    stopped: bool = False
    paced_until: int = 0
    recent: list[int] = []
    taken: list[int] = []
    moved: list[int] = []
    steps: int = 0


class Times:
    """The live locations' times of one booking, in stretches of ten minutes; `changed` ones are to be written."""

    def __init__(self, stretches: dict[int, list[int]]) -> None:
        self.stretches = stretches
        self.changed: set[int] = set()

    def __contains__(self, moment: int) -> bool:
        stretch, offset = divmod(moment, STRETCH)
        offsets = self.stretches.get(stretch, [])
        place = bisect_left(offsets, offset)
        return place < len(offsets) and offsets[place] == offset

    def add(self, moment: int) -> None:
        """Remembers a time; in a stretch that is full (more than three a second), the figures do without it."""
        stretch, offset = divmod(moment, STRETCH)
        offsets = self.stretches.setdefault(stretch, [])
        if len(offsets) < MOST_TIMES:
            insort(offsets, offset)
            self.changed.add(stretch)

    def every(self) -> list[int]:
        """All times, oldest first."""
        return [n * STRETCH + offset for n in sorted(self.stretches) for offset in self.stretches[n]]


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """The aware datetime of microseconds since 1970 UTC."""
    return _EPOCH + us * _MICROSECOND
