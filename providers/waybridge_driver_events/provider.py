"""The inbound API of driver events (contract section 7; the vendor's own client talks to it unchanged)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import Field

from waybridge import (
    Answer,
    Batch,
    Capabilities,
    CompareAndSet,
    Outcome,
    Provider,
    ProviderSettings,
    Push,
    PushRejected,
    Put,
    PutIfAbsent,
    Receipt,
    canonical_token,
    vendor_device_token,
)
from waybridge_driver_events.demo import DriverEventsDemo
from waybridge_driver_events.dialect import INVALID, UNAUTHORIZED, accepted, answered, read_body, rejected, unrouted
from waybridge_driver_events.figures import gaps
from waybridge_driver_events.journey import Journey, load, load_times
from waybridge_driver_events.payload import (
    BookingStatus,
    DriverEvent,
    EventType,
    FieldError,
    parse_assignment,
    parse_batch,
    parse_booking,
    parse_event,
    valid_reference,
)
from waybridge_driver_events.record import from_us, to_us
from waybridge_driver_events.rules import OVER, Refused, Verdict
from waybridge_driver_events.simulator import Supplier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

_NOT_FOUND: Final = "Unable to find booking with bookingReference provided"
_LARGEST_BATCH: Final = 131_072
_SWEEP_SECONDS: Final = 60.0
_HOUR: Final = timedelta(hours=1)
# How long the gateway may have been down without overlooking a booking that is to be forgotten.
_DAYS_OFF: Final = 31


class DriverEventsSettings(ProviderSettings):
    """How strict the dialect is; the defaults are the vendor's rules with its ambiguities decided.

    auto_provision: the first event makes the booking, its driver assigned since ever.
    strict_later: a milestone at the very time of the one before it is refused.
    strict_order: live locations count in the chronology.
    future_skew_seconds: how far ahead of our clock an event may be.
    complete_shares: a terminal event, a cancellation and the end by itself complete the booking's shares.
    """

    auto_provision: bool = False
    strict_later: bool = False
    strict_order: bool = False
    future_skew_seconds: float = Field(default=5.0, ge=0, le=86_400)
    complete_shares: bool = True


class DriverEvents(Provider[DriverEventsSettings]):
    """Takes bookings, assignments, milestones and live locations; the rules are in rules.py."""

    kind: ClassVar[str] = "driver_events"
    Settings: ClassVar[type[ProviderSettings]] = DriverEventsSettings
    simulator = Supplier
    demo = DriverEventsDemo
    capabilities: ClassVar[Capabilities] = Capabilities(
        streams=True,
        receives=True,
        stale_after=20.0,
        expected_interval=5.0,
        consent="public",
        begins="report",
        unauthorized=Answer(status=401, body=UNAUTHORIZED),
        max_body=_LARGEST_BATCH,
        future_skew_seconds=5.0,
    )

    async def check(self) -> None:
        """Nothing to prove: suppliers come to us."""

    async def stream(self) -> AsyncIterator[Batch]:
        """No positions, only what the clock decides.

        A booking is over 6 h after its pickup, and forgotten 90 days after its end (a year after it was made, when
        nothing came of it).
        """
        swept_on: datetime | None = None
        while True:
            now = self.context.clock.now()
            for key, due in sorted((await self.context.state.items("open/")).items()):
                if isinstance(due, int) and due <= to_us(now):
                    yield await self._complete(key.removeprefix("open/"))
            if swept_on is None or now - swept_on >= _HOUR:
                swept_on = now
                for days in range(_DAYS_OFF):
                    day = f"forget/{now - timedelta(days=days):%Y%m%d}/"
                    for key in sorted(await self.context.state.items(day)):
                        yield await self._forget(key, key.removeprefix(day))
            await self.context.clock.sleep(_SWEEP_SECONDS)

    async def receive(self, push: Push) -> Receipt:
        """Answers one request of the dialect."""
        match [push.method, *push.segments]:
            case ["POST", "v1", "bookings", customer, reference, "driver", "events"]:
                return await self._event(push, customer, reference)
            case ["POST", "v1", "bookings", customer, reference, "driver", "events:batch"]:
                return await self._batch(push, customer, reference)
            case ["POST", "v2", "bookings", reference, "assignDriver"]:
                return await self._assign(push, reference)
            case ["PUT", "v1", "bookings", customer, reference]:
                return await self._put(push, customer, reference)
            case ["GET", "v1", "bookings", customer, reference]:
                journey = await self._known(push, customer, reference)
                return Receipt(answer=answered(200, self._shown(journey)))
            case ["GET", "v1", "bookings", customer, reference, "tracking"]:
                return await self._tracking(push, customer, reference)
            case _:
                raise unrouted(push)

    async def _event(self, push: Push, customer: str, reference: str) -> Receipt:
        event = _parsed(push)
        journey = await self._addressed(push, customer, reference, [event])
        try:
            if isinstance(event, FieldError):
                return await self._refusal(journey, Refused("field", str(event)))
            verdict = self._take(journey, event, push.received_at)
        except Refused as refused:
            return await self._refusal(journey, refused)
        if verdict.result == "duplicate":
            return Receipt(answer=accepted("duplicate"))
        return Receipt(
            reports=journey.reports,
            intents=journey.intents(),
            answer=lambda outcome: _told(verdict, event, outcome),
        )

    async def _batch(self, push: Push, customer: str, reference: str) -> Receipt:
        """Our own: a flushed buffer of events, each judged as if it came alone, answered item by item."""
        try:
            events = [_event_or_fault(item) for item in parse_batch(read_body(push, _LARGEST_BATCH))]
        except FieldError as error:
            journey = await self._addressed(push, customer, reference, [])
            return await self._refusal(journey, Refused("field", str(error)))
        journey = await self._addressed(push, customer, reference, events)
        results = [self._judged(journey, event, push.received_at) for event in events]
        for index, result in enumerate(results):
            result["index"] = index
        changed = any(result.get("result") in {"accepted", "stored-late"} for result in results)
        return Receipt(
            reports=journey.reports if changed else (),
            intents=journey.intents() if changed else (),
            answer=answered(200, {"results": results}),
        )

    def _take(self, journey: Journey, event: DriverEvent, received_at: datetime) -> Verdict:
        if event.naive:
            self.context.count("naive_time")
        if journey.booking is None:
            journey.provision(received_at)
        return journey.take(event, received_at, self.settings)

    def _judged(self, journey: Journey, event: DriverEvent | FieldError, received_at: datetime) -> dict[str, Any]:
        if isinstance(event, FieldError):
            self.context.count("refused_field")
            return {"status": 400, "message": INVALID, "description": str(event)}
        try:
            verdict = self._take(journey, event, received_at)
        except Refused as refused:
            self.context.count(f"refused_{refused.reason}")
            return {"status": refused.status, "message": _message(refused), "description": str(refused)}
        return {"status": 200, "result": verdict.result}

    async def _assign(self, push: Push, reference: str) -> Receipt:
        customer = await self.context.state.get(f"reference/{reference}") if valid_reference(reference) else None
        if not isinstance(customer, str):
            raise rejected(404, "Not Found", _NOT_FOUND)
        journey = await self._known(push, customer, reference)
        try:
            assignment = parse_assignment(read_body(push))
        except FieldError as error:
            raise rejected(400, INVALID, str(error)) from error
        if journey.booking is not None and journey.booking.status in {*OVER, BookingStatus.NEW}:
            state = journey.booking.status
            raise rejected(400, INVALID, f"A driver cannot be assigned: booking is {state}")
        journey.assign(assignment, push.received_at)
        return Receipt(reports=journey.reports, intents=journey.intents(), answer=Answer(status=204, content_type=None))

    async def _put(self, push: Push, customer: str, reference: str) -> Receipt:
        for name, text in (("customerReference", customer), ("bookingReference", reference)):
            if not valid_reference(text):
                raise rejected(400, INVALID, f"{name}: must be 1 to 90 printable characters without a slash")
        journey = await self._journey(push, customer, reference)
        try:
            change = parse_booking(read_body(push) if push.body else {})
        except FieldError as error:
            raise rejected(400, INVALID, str(error)) from error
        if journey.is_new and journey.found[f"reference/{reference}"] not in {None, customer}:
            raise rejected(409, "Conflict", "bookingReference belongs to another customerReference")
        booking = journey.booking
        if booking is not None and booking.status in OVER and change.status not in {None, booking.status}:
            raise rejected(409, "Conflict", f"Booking is {booking.status}")
        journey.change(change, push.received_at, self.settings)
        return Receipt(reports=journey.reports, intents=journey.intents(), answer=answered(200, self._shown(journey)))

    async def _tracking(self, push: Push, customer: str, reference: str) -> Receipt:
        journey = await self._known(push, customer, reference)
        times = await load_times(self.context.state, journey.name)
        refused = await self.context.state.get(f"refused/{journey.name}")
        live, booking = journey.live, journey.booking
        figures = {} if booking is None else gaps(times, booking, live)
        answer = {
            **self._shown(journey),
            "live": {
                "count": live.count,
                "late": live.late,
                "first_at": _iso(live.first),
                "last_at": _iso(live.newest),
            },
            **figures,
            "refused": refused or {},
        }
        return Receipt(answer=answered(200, answer))

    async def _complete(self, name: str) -> Batch:
        customer, _, reference = name.partition("/")
        journey = await load(self.context.state, self.context.source(name), customer, reference)
        now = self.context.clock.now()
        booking = journey.booking
        if booking is None or booking.completes_at is None or booking.completes_at > to_us(now):
            return Batch(intents=[Put(f"open/{name}", None if booking is None else booking.completes_at)])
        journey.close(BookingStatus.COMPLETE, now, self.settings)
        return Batch(reports=journey.reports, intents=journey.intents())

    async def _forget(self, key: str, name: str) -> Batch:
        customer, _, reference = name.partition("/")
        state = self.context.state
        journey = await load(state, self.context.source(name), customer, reference)
        booking = journey.booking
        if booking is None or (booking.ended_at is None and booking.steps):
            return Batch(intents=[Put(key, None)])
        times, refused = await state.items(f"times/{name}/"), await state.get(f"refused/{name}")
        return Batch(intents=[*journey.forget(times, refused), Put(key, None)])

    async def _journey(
        self, push: Push, customer: str, reference: str, events: Sequence[DriverEvent | FieldError] = ()
    ) -> Journey:
        """The booking that the path names, whether it exists or not, with the times that the events may collide with.

        A bound token opens its own booking only.
        """
        name = f"{customer}/{reference}"
        bound = push.sender.device_token if push.sender is not None else None
        if bound is not None and canonical_token(bound) != self._device_token(name):
            raise PushRejected(401, UNAUTHORIZED, headers={"Content-Type": "application/json"})
        moments = {
            moment
            for event in events
            if isinstance(event, DriverEvent) and event.type is EventType.LIVE_LOCATION
            for moment in (event.occurred_at, min(event.occurred_at, push.received_at))
        }
        return await load(self.context.state, self.context.source(name), customer, reference, moments)

    async def _known(
        self, push: Push, customer: str, reference: str, events: Sequence[DriverEvent | FieldError] = ()
    ) -> Journey:
        """The booking that the path names. Raises PushRejected 404."""
        if valid_reference(customer) and valid_reference(reference):
            journey = await self._journey(push, customer, reference, events)
            if journey.booking is not None:
                return journey
            if await self.context.state.get(f"reference/{customer}") == reference:
                self.context.log.warning(
                    "a booking was asked for with its references swapped",
                    connection_id=self.context.connection_id,
                )
        raise rejected(404, "Not Found", _NOT_FOUND)

    async def _addressed(
        self, push: Push, customer: str, reference: str, events: Sequence[DriverEvent | FieldError]
    ) -> Journey:
        """The booking that events are for; one that nobody announced only where the first event makes it."""
        if self.settings.auto_provision and valid_reference(customer) and valid_reference(reference):
            journey = await self._journey(push, customer, reference, events)
            if journey.booking is not None:
                return journey
            swapped = await self.context.state.get(f"reference/{customer}") == reference
            if journey.found[f"reference/{reference}"] in {None, customer} and not swapped:
                return journey
        return await self._known(push, customer, reference, events)

    async def _refusal(self, journey: Journey, refused: Refused) -> Receipt:
        """The dialect's error. The refusal is counted beside the booking, whose state it leaves alone."""
        self.context.count(f"refused_{refused.reason}")
        headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
        answer = answered(refused.status, {"message": _message(refused), "description": str(refused)}, headers)
        if journey.is_new or refused.retry_after is not None:
            return Receipt(answer=answer)
        key = f"refused/{journey.name}"
        found = await self.context.state.get(key)
        counts = dict(found) if isinstance(found, dict) else {}
        counts[refused.reason] = counts.get(refused.reason, 0) + 1
        intent = PutIfAbsent(key, counts) if found is None else CompareAndSet(key, found, counts)
        return Receipt(answer=answer, intents=[intent])

    def _device_token(self, name: str) -> str:
        return vendor_device_token(self.context.instance_id, self.context.connection_id, name)

    def _shown(self, journey: Journey) -> dict[str, Any]:
        """The booking as it is answered; its driver and vehicle by the vendor's names."""
        booking = journey.booking
        if booking is None:
            return {}
        return {
            "customer_reference": journey.customer,
            "booking_reference": journey.reference,
            "device_token": self._device_token(journey.name),
            "status": booking.status,
            "assigned": booking.assigned,
            "assigned_at": _iso(booking.assigned_at),
            "driver": booking.driver,
            "vehicle": booking.vehicle,
            "pickup": booking.pickup,
            "dropoff": booking.dropoff,
            "pickup_at": _iso(booking.pickup_at),
            "sharing": journey.live.started and booking.ended_at is None,
            "events": [{"event_type": step.kind, "occurred_at": _iso(step.at)} for step in booking.steps],
            "last_event": None if booking.last is None else booking.last.kind,
            "ended_at": _iso(booking.ended_at),
            "created_at": _iso(booking.created),
        }


def _parsed(push: Push) -> DriverEvent | FieldError:
    """A fault is told only after the booking was found. Raises PushRejected for what is no JSON of ours to read."""
    try:
        return parse_event(read_body(push))
    except FieldError as error:
        return error


def _event_or_fault(item: Any) -> DriverEvent | FieldError:
    try:
        return parse_event(item)
    except FieldError as error:
        return error


def _told(verdict: Verdict, event: DriverEvent, outcome: Outcome) -> Answer:
    """The answer to an event that was taken, by what became of its position."""
    if outcome.rejected and not outcome.accepted and not outcome.duplicates and event.place is not None:
        first = outcome.rejected[0]
        field = "occurred_at" if first.field == "recorded_at" else first.field
        return answered(400, {"message": INVALID, "description": f"{field}: {first.error}"})
    if event.type is EventType.LIVE_LOCATION and outcome.duplicates:
        return accepted("duplicate")
    return accepted("stored-late" if event.type is EventType.LIVE_LOCATION and outcome.late else verdict.result)


def _iso(us: int | None) -> str | None:
    return None if us is None else from_us(us).isoformat().replace("+00:00", "Z")


def _message(refused: Refused) -> str:
    return "Too Many Requests" if refused.retry_after is not None else INVALID
