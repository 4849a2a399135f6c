"""One booking in hand: its records read, changed by the rules, and turned into reports and intents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from waybridge import (
    CompareAndSet,
    Milestone,
    Place,
    Position,
    Profile,
    Put,
    PutIfAbsent,
    Report,
    SharingStarted,
    SharingStopped,
    SourceKey,
    Stage,
)
from waybridge_driver_events.payload import (
    Assignment,
    BookingChange,
    BookingStatus,
    DriverEvent,
    EventType,
)
from waybridge_driver_events.record import SECOND, STRETCH, Booking, Live, Times, from_us, to_us
from waybridge_driver_events.rules import OVER, TERMINAL, Options, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from typing import Literal

    Intent = PutIfAbsent | CompareAndSet | Put

KEPT_AFTER: Final = 90 * 86_400 * SECOND
KEPT_UNUSED: Final = 365 * 86_400 * SECOND
_STAGES: Final = {
    EventType.DEPARTED_TO_PICKUP: Stage.EN_ROUTE_TO_PICKUP,
    EventType.ARRIVED_AT_PICKUP: Stage.AT_PICKUP,
    EventType.DEPARTED_TO_DROPOFF: Stage.ON_TRIP,
    EventType.ARRIVED_AT_DROPOFF: Stage.ARRIVED,
    EventType.CUSTOMER_NO_SHOW: Stage.NO_SHOW,
}


class State(Protocol):
    """What is read of the connection's keyed state."""

    async def get(self, key: str) -> Any: ...
    async def items(self, prefix: str = "") -> dict[str, Any]: ...


class JourneyOptions(Options, Protocol):
    complete_shares: bool


@dataclass(slots=True)
class Journey:
    """A booking's records as they were read (`found`) and as they are now; `reports` and `intents` come out.

    `due`: when it would have completed by itself, as it was read.
    """

    customer: str
    reference: str
    source: SourceKey
    booking: Booking | None
    live: Live
    times: Times
    found: dict[str, Any]
    due: int | None = None
    reports: list[Report] = field(default_factory=list)
    ended: int = 0

    @property
    def name(self) -> str:
        """The external id of the booking's source."""
        return self.source.external_id

    @property
    def is_new(self) -> bool:
        """Whether nothing was known of the booking when it was read."""
        return self.found[f"booking/{self.name}"] is None

    def provision(self, now: datetime) -> None:
        """Makes the booking that nobody announced; its driver counts as assigned since ever."""
        self.booking = Booking(created=to_us(now), assigned=True, status=BookingStatus.DRIVER_ASSIGNED)
        self._tell_profile()

    def take(self, event: DriverEvent, received_at: datetime, options: JourneyOptions) -> Verdict:
        """Takes an event in, by the rules. Raises Refused, and then nothing changed."""
        booking = self._known()
        verdict = judge(event, booking, self.live, self.times, received_at=received_at, options=options)
        if verdict.result == "duplicate":
            return verdict
        if event.type is EventType.LIVE_LOCATION:
            self._tell_live(event, verdict)
        else:
            self.ended = to_us(received_at) if event.type in TERMINAL else self.ended
            self._tell_step(event, verdict, options)
        return verdict

    def assign(self, assignment: Assignment, now: datetime) -> None:
        """Gives the booking a driver or a vehicle; the time of the first assignment stays."""
        booking, before = self._known(), self._known().driver
        booking.driver = assignment.driver or booking.driver
        booking.vehicle = assignment.vehicle or booking.vehicle
        booking.assign(_second(now))
        self._tell_profile(before)

    def change(self, change: BookingChange, now: datetime, options: JourneyOptions) -> None:
        """Makes the booking if it is new, and changes what was named."""
        if self.booking is None:
            self.booking = Booking(created=to_us(now))
        booking, before = self.booking, self.booking.driver
        for name in change.named & {"driver", "vehicle", "pickup", "dropoff"}:
            setattr(booking, name, getattr(change, name))
        if "pickup_at" in change.named:
            booking.pickup_at = None if change.pickup_at is None else to_us(change.pickup_at)
        if change.status is not None and change.status not in OVER:
            booking.status = change.status
        self._change_assignment(change, now)
        self._tell_profile(before)
        if change.named & {"pickup", "dropoff"} and (target := self._target()) is not None:
            self.reports.append(Milestone(source=self.source, occurred_at=now, target=target))
        if change.status in OVER and booking.status is not change.status:
            self.close(change.status, now, options)

    def close(self, status: BookingStatus, now: datetime, options: JourneyOptions) -> None:
        """Ends the booking without an event: it was cancelled, or completes by itself."""
        booking = self._known()
        booking.status = status
        if booking.ended_at is not None:
            return
        booking.ended_at = self.ended = to_us(now)
        self.live.steps += 1
        self.reports.append(
            Milestone(
                source=self.source,
                occurred_at=now,
                stage=Stage.TRIP_ENDED,
                completes_shares=options.complete_shares,
            )
        )
        self._stop_sharing(now, "booking_cancelled" if status is BookingStatus.CANCELLED else "completed")

    def intents(self) -> list[Intent]:
        """What is to be kept, on condition that nobody else changed these records since they were read."""
        booking = self._known()
        intents = [
            *self._kept(f"booking/{self.name}", msgspec.to_builtins(booking)),
            *self._kept(f"live/{self.name}", msgspec.to_builtins(self.live)),
        ]
        if self.is_new:
            intents += self._kept(f"reference/{self.reference}", self.customer)
            intents.append(Put(forgotten_on(booking.created + KEPT_UNUSED, self.name), value=True))
        for stretch in sorted(self.times.changed):
            intents += self._kept(f"times/{self.name}/{stretch}", self.times.stretches[stretch])
        if booking.completes_at != self.due:
            intents.append(Put(f"open/{self.name}", booking.completes_at))
        if self.ended:
            intents.append(Put(forgotten_on(self.ended + KEPT_AFTER, self.name), value=True))
        return intents

    def forget(self, times: Iterable[str], refused: Any) -> list[Intent]:
        """Everything that is remembered of the booking, gone; `times` are the keys of its stretches."""
        keys = [f"live/{self.name}", f"reference/{self.reference}", f"open/{self.name}", *times]
        if refused is not None:
            keys.append(f"refused/{self.name}")
        booking = CompareAndSet(f"booking/{self.name}", self.found[f"booking/{self.name}"], None)
        return [booking, *(Put(key, None) for key in keys)]

    def _kept(self, key: str, value: Any) -> list[Intent]:
        found = self.found.get(key)
        if found is None:
            return [PutIfAbsent(key, value)]
        return [] if found == value else [CompareAndSet(key, found, value)]

    def _known(self) -> Booking:
        if self.booking is None:
            raise LookupError(f"no booking {self.name}")
        return self.booking

    def _change_assignment(self, change: BookingChange, now: datetime) -> None:
        booking = self._known()
        assigned_at = None if change.assigned_at is None else to_us(change.assigned_at)
        if assigned_at is not None and booking.assigned and (booking.assigned_at is not None or not booking.steps):
            # A correction; once the journey began it may only widen what is accepted.
            earliest = min(assigned_at, booking.assigned_at or assigned_at)
            booking.assigned_at = earliest if booking.steps else assigned_at
        elif assigned_at is not None:
            booking.assign(assigned_at)
        elif change.driver or change.vehicle or change.status is BookingStatus.DRIVER_ASSIGNED:
            booking.assign(_second(now))

    def _tell_live(self, event: DriverEvent, verdict: Verdict) -> None:
        moment = from_us(verdict.recorded_at)
        if verdict.first_live:
            driver = _full_name(self._known().driver)
            self.reports.append(
                SharingStarted(source=self.source, began_at=moment, cause="first_live_location", shared_by=driver)
            )
        self.reports.append(self._position(event, moment, live=verdict.published, history_only=not verdict.published))

    def _tell_step(self, event: DriverEvent, verdict: Verdict, options: JourneyOptions) -> None:
        moment = from_us(verdict.counts_from)
        terminal = event.type in TERMINAL
        if event.place is not None:
            self.reports.append(self._position(event, from_us(verdict.recorded_at), live=False))
        self.reports.append(
            Milestone(
                source=self.source,
                occurred_at=moment,
                event_type=str(event.type),
                stage=_STAGES[event.type],
                target=self._target() if event.type is EventType.ARRIVED_AT_PICKUP else None,
                completes_shares=terminal and options.complete_shares,
                references={"customer_reference": self.customer, "booking_reference": self.reference},
            )
        )
        if terminal:
            no_show = event.type is EventType.CUSTOMER_NO_SHOW
            self._stop_sharing(moment, "customer_no_show" if no_show else "arrived_at_dropoff")

    def _stop_sharing(
        self,
        moment: datetime,
        cause: Literal["customer_no_show", "arrived_at_dropoff", "booking_cancelled", "completed"],
    ) -> None:
        if self.live.started and not self.live.stopped:
            self.live.stopped = True
            self.reports.append(SharingStopped(source=self.source, ended_at=moment, cause=cause))

    def _position(self, event: DriverEvent, moment: datetime, *, live: bool, history_only: bool = False) -> Position:
        latitude, longitude = event.place or (0.0, 0.0)
        attributes: dict[str, Any] = {} if live else {"driver_events.event_type": str(event.type)}
        if latitude == 0 and longitude == 0:
            attributes["driver_events.suspect"] = True
        return Position(
            source=self.source,
            latitude=latitude,
            longitude=longitude,
            recorded_at=moment,
            attributes=attributes,
            live=live,
            history_only=history_only,
        )

    def _target(self) -> Place | None:
        """Where the journey heads: the pickup until the driver arrived there, then the drop-off."""
        booking = self._known()
        spot = booking.pickup if booking.step(EventType.ARRIVED_AT_PICKUP) is None else booking.dropoff
        return None if spot is None else Place(spot["latitude"], spot["longitude"], spot["label"])

    def _tell_profile(self, before: dict[str, str] | None = None) -> None:
        """Makes the device known. A profile never erases, so what a former driver had is written over by ''."""
        driver = self._known().driver or {}
        gone = dict.fromkeys((before or {}).keys() - driver.keys(), "")
        texts = {**gone, **driver}
        full_name = _full_name(driver)
        self.reports.append(
            Profile(
                source=self.source,
                first_name=texts.get("firstName"),
                last_name=texts.get("lastName"),
                full_name="" if full_name is None and before else full_name,
                phone=texts.get("telephoneNumber"),
            )
        )


async def load(
    state: State, source: SourceKey, customer: str, reference: str, moments: Iterable[datetime] = ()
) -> Journey:
    """A booking's records, with the stretches of the live locations' times around `moments`.

    The live record is read before the booking: whoever changes the journey rewrites it, so that a booking that
    is newer than the live record makes the commit conflict instead of being judged by half of the truth.
    """
    name = source.external_id
    stretches = sorted({to_us(moment) // STRETCH for moment in moments})
    keys = [f"live/{name}", f"booking/{name}", *(f"times/{name}/{stretch}" for stretch in stretches)]
    found = {key: await state.get(key) for key in keys}
    booking, live = found[f"booking/{name}"], found[f"live/{name}"]
    if booking is None:
        found[f"reference/{reference}"] = await state.get(f"reference/{reference}")
    known = None if booking is None else msgspec.convert(booking, Booking)
    times = {stretch: found[f"times/{name}/{stretch}"] for stretch in stretches}
    return Journey(
        customer=customer,
        reference=reference,
        source=source,
        booking=known,
        live=Live() if live is None else msgspec.convert(live, Live),
        times=Times({stretch: list(offsets) for stretch, offsets in times.items() if offsets is not None}),
        found=found,
        due=None if known is None else known.completes_at,
    )


def forgotten_on(moment: int, name: str) -> str:
    """The key under which a booking waits for the day on which it is forgotten."""
    return f"forget/{from_us(moment):%Y%m%d}/{name}"


async def load_times(state: State, name: str) -> list[int]:
    """The times of all live locations of a booking, oldest first."""
    found = await state.items(f"times/{name}/")
    return Times({int(key.rpartition("/")[2]): offsets for key, offsets in found.items()}).every()


def _full_name(driver: dict[str, str] | None) -> str | None:
    names = ((driver or {}).get(part, "").strip() for part in ("firstName", "lastName"))
    return " ".join(filter(None, names)) or None


def _second(now: datetime) -> int:
    """The second that `now` lies in: suppliers send whole seconds, and the second of the assignment is after it."""
    return to_us(now) // SECOND * SECOND
