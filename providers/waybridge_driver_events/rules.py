"""The rules of a journey: which event may follow which, and what an accepted one means. Pure: no I/O, no clock.

The order of checks is the vendor page's: driver assigned, duplicate, before assignment, first event, sequence,
chronology. The duplicate test stands before every test of time or order, so that a client that lost our 200
and sends again is never told 400.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from waybridge_driver_events.payload import BookingStatus, DriverEvent, EventType
from waybridge_driver_events.record import RECENT, SECOND, Booking, Live, Step, Times, to_us

if TYPE_CHECKING:
    from datetime import datetime

NEXT: Final[dict[EventType | None, frozenset[EventType]]] = {
    None: frozenset({EventType.DEPARTED_TO_PICKUP}),
    EventType.DEPARTED_TO_PICKUP: frozenset({EventType.ARRIVED_AT_PICKUP}),
    EventType.ARRIVED_AT_PICKUP: frozenset({EventType.DEPARTED_TO_DROPOFF, EventType.CUSTOMER_NO_SHOW}),
    EventType.DEPARTED_TO_DROPOFF: frozenset({EventType.ARRIVED_AT_DROPOFF}),
    EventType.ARRIVED_AT_DROPOFF: frozenset(),
    EventType.CUSTOMER_NO_SHOW: frozenset(),
}
TERMINAL: Final = frozenset({EventType.ARRIVED_AT_DROPOFF, EventType.CUSTOMER_NO_SHOW})
OVER: Final = frozenset({BookingStatus.CANCELLED, BookingStatus.COMPLETE})
# Sustained live locations a booking may send, by their own times; a flush of an offline buffer is none too many.
_PACE: Final = SECOND // 2
_BURST: Final = 30


class Options(Protocol):
    """The settings that bend the rules (contract section 3)."""

    auto_provision: bool
    strict_later: bool
    strict_order: bool
    future_skew_seconds: float


class Refused(Exception):
    """An event that is not taken: status, the description it is answered with, and the reason as a metric."""

    def __init__(self, reason: str, description: str, *, status: int = 400, retry_after: int | None = None) -> None:
        super().__init__(description)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An event that was taken.

    `recorded_at` is the time under which its position is kept, `counts_from` its own time but never after its
    arrival (microseconds); `first_live` opens the sharing
    period; `published` is False for what comes after the end.
    """

    result: Literal["accepted", "duplicate", "stored-late"]
    recorded_at: int = 0
    counts_from: int = 0
    first_live: bool = False
    published: bool = True


def judge(
    event: DriverEvent, booking: Booking, live: Live, times: Times, *, received_at: datetime, options: Options
) -> Verdict:
    """Takes an event in: writes it into booking, live and times, and says what it means.

    Raises Refused, and then nothing was written; a duplicate writes nothing either.
    """
    sent, now = to_us(event.occurred_at), to_us(received_at)
    if sent - now > options.future_skew_seconds * SECOND:
        raise Refused("future", "Event time is in the future")
    at = min(sent, now)
    _check_driver(event, booking, options)
    if booking.step(event.type) is not None or (event.type is EventType.LIVE_LOCATION and sent in times):
        return Verdict(result="duplicate")
    if booking.assigned_at is not None and sent < booking.assigned_at:
        raise Refused("before_assignment", "Event time is before driver assignation time")
    if event.type is EventType.LIVE_LOCATION:
        return _take_live(sent, at, now, booking, live, times, options)
    return _take_step(event, Step(event.type, sent=sent, at=at, received=now), booking, live, options)


def _check_driver(event: DriverEvent, booking: Booking, options: Options) -> None:
    if not booking.assigned and not options.auto_provision:
        raise Refused("not_assigned", "Driver is not assigned to the booking")
    known = (booking.driver or {}).get("driverId")
    if known is not None and event.driver_id is not None and event.driver_id != known:
        raise Refused("other_driver", "The provided driver ID does not match the assigned ID")


def _take_step(event: DriverEvent, step: Step, booking: Booking, live: Live, options: Options) -> Verdict:
    last = booking.last
    _check_sequence(event.type, booking, allowed=event.type in NEXT[last.kind if last is not None else None])
    newest = last.at if last is not None else None
    if options.strict_order and live.newest is not None:
        newest = max(newest or 0, live.newest)
    if newest is not None and (step.at < newest or (options.strict_later and step.at == newest)):
        raise Refused("before_last", "Event time is before last event time")
    booking.steps.append(step)
    live.steps += 1
    if event.type in TERMINAL:
        booking.ended_at = step.at
    recorded_at = step.at
    if event.place is not None:
        recorded_at = _apart(step.at, live)
        live.taken.append(recorded_at)
    return Verdict(result="accepted", recorded_at=recorded_at, counts_from=step.at)


def _take_live(sent: int, at: int, now: int, booking: Booking, live: Live, times: Times, options: Options) -> Verdict:
    last = booking.last
    ended = last if last is not None and last.kind in TERMINAL else None
    in_flight = ended is None or sent <= ended.sent or at <= ended.at
    _check_sequence(EventType.LIVE_LOCATION, booking, allowed=last is not None and in_flight)
    begin = booking.steps[0].at
    if options.strict_order and last is not None and ended is None:
        begin = max(last.at, live.newest or 0)
    if at < begin:
        raise Refused("before_last", "Event time is before last event time")
    _check_pace(sent, now, live)
    late = ended is not None or (live.newest is not None and at < live.newest)
    first = ended is None and not live.started
    recorded_at = _live_apart(sent, at, live, times)
    times.add(sent)
    live.recent = [*live.recent[-(RECENT - 1) :], sent]
    live.count += 1
    live.late += late
    live.started = live.started or first
    if ended is None:
        live.first = at if live.first is None else min(live.first, at)
        live.newest = at if live.newest is None else max(live.newest, at)
    return Verdict(
        result="stored-late" if late else "accepted",
        recorded_at=recorded_at,
        counts_from=at,
        first_live=first,
        published=ended is None,
    )


def _check_sequence(kind: EventType, booking: Booking, *, allowed: bool) -> None:
    last, over = booking.last, booking.status in OVER
    if allowed and not over:
        return
    suffix = f": booking is {booking.status}" if over else ""
    if last is not None:
        description = f"Event {kind} not allowed after last event submitted {last.kind}{suffix}"
        raise Refused("over" if over else "sequence", description)
    if over:
        raise Refused("over", f"Event {kind} not allowed{suffix}")
    raise Refused("first", f"Event {kind} not allowed as first event")


def _check_pace(sent: int, now: int, live: Live) -> None:
    """Refuses a sender that keeps up more than two live locations a second (of their own time)."""
    if all(abs(sent - other) >= _PACE for other in live.recent):
        return
    used_up = max(live.paced_until, now)
    ahead = used_up - now - (_BURST - 1) * _PACE
    if ahead > 0:
        raise Refused(
            "rate", "More than 2 live locations a second", status=429, retry_after=max(1, -(-ahead // SECOND))
        )
    live.paced_until = used_up + _PACE


def _apart(at: int, live: Live) -> int:
    """A recorded time for a milestone's coordinate that no other position of the booking has.

    Suppliers send whole seconds, so a milestone and a live location often share theirs, and a source has one
    position a moment: where a live location may stand already the milestone moves aside by microseconds.
    """
    if live.newest is not None and at <= live.newest:
        at += 1
    while at in live.taken or at in live.moved:
        at += 1
    return at


def _live_apart(sent: int, at: int, live: Live, times: Times) -> int:
    """The same for a live location: it moves aside for milestones, and for others when it counts from its arrival.

    One that is not older than the newest stays behind it.
    """
    recorded_at = live.newest_recorded + 1 if at == live.newest else at
    while recorded_at in live.taken or recorded_at in live.moved or (recorded_at != sent and recorded_at in times):
        recorded_at += 1
    if recorded_at != sent:
        live.moved = [*live.moved[-(RECENT - 1) :], recorded_at]
    if live.newest is None or at >= live.newest:
        live.newest_recorded = recorded_at
    return recorded_at
