"""A gateway in memory for the driver events: applies intents, runs again on conflict, keeps what was reported."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

from waybridge import (
    CompareAndSet,
    Milestone,
    Outcome,
    Position,
    Profile,
    ProviderContext,
    Push,
    PushRejected,
    PutIfAbsent,
    Sender,
    SharingStarted,
    SharingStopped,
)
from waybridge_driver_events import DriverEvents, DriverEventsSettings

DEPARTED = "DRIVER_DEPARTED_TO_PICKUP"
ARRIVED = "DRIVER_ARRIVED_AT_PICKUP"
NO_SHOW = "DRIVER_SUBMITTED_CUSTOMER_NO_SHOW"
ON_TRIP = "DRIVER_DEPARTED_TO_DROPOFF"
DONE = "DRIVER_ARRIVED_AT_DROPOFF"
LIVE = "DRIVER_LIVE_LOCATION"
START = datetime(2026, 4, 12, 12, 0, 0, tzinfo=UTC)
BOOKING = "/v1/bookings/C-1/B-1"


def iso(moment):
    return moment.isoformat().replace("+00:00", "Z")


class Conflict(Exception):
    pass


class MemoryState:
    """Keyed state that forgets the order of keys, as the databases do, and lets others in between reads."""

    def __init__(self):
        self.texts = {}
        self.reads = 0

    async def get(self, key):
        assert len(key) <= 200
        self.reads += 1
        await asyncio.sleep(0)
        return json.loads(self.texts[key]) if key in self.texts else None

    async def items(self, prefix=""):
        await asyncio.sleep(0)
        return {key: json.loads(text) for key, text in sorted(self.texts.items()) if key.startswith(prefix)}

    async def put(self, key, value):
        self.write(key, value)

    def write(self, key, value):
        if value is None:
            self.texts.pop(key, None)
        else:
            self.texts[key] = canonical(value)

    def apply(self, intents):
        for intent in intents:
            text = self.texts.get(intent.key)
            match intent:
                case PutIfAbsent() if text is not None:
                    raise Conflict(intent.key)
                case CompareAndSet() if text != (None if intent.expected is None else canonical(intent.expected)):
                    raise Conflict(intent.key)
        for intent in intents:
            self.write(intent.key, intent.value)


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class ManualClock:
    def __init__(self, moment):
        self.moment = moment
        self.slept = []
        self.wake = asyncio.Event()

    def now(self):
        return self.moment

    def monotonic(self):
        return self.moment.timestamp()

    async def sleep(self, seconds):
        self.slept.append(seconds)
        await self.wake.wait()
        self.wake.clear()


class QuietLog:
    def __init__(self):
        self.lines = []

    def __getattr__(self, level):
        return lambda text, **fields: self.lines.append((level, text, fields))


class World:
    """One connection. `told` are all reports in the order of their commits."""

    def __init__(self, **settings):
        self.state = MemoryState()
        self.clock = ManualClock(START)
        self.log = QuietLog()
        self.counts = {}
        self.told = []
        self.positions = {}
        self.newest = {True: None, False: None}
        self.conflicts = 0
        self.commits = 0
        context = ProviderContext(
            instance_id="acme", connection_id="taxi", session=None, state=self.state, clock=self.clock,
            count=self._count, log=self.log,
        )  # fmt: skip
        self.provider = DriverEvents(DriverEventsSettings(**settings), context)

    def _count(self, name, amount=1):
        self.counts[name] = self.counts.get(name, 0) + amount

    async def send(self, method, path, body=None, *, received_at=None, device=None, headers=None):
        """-> (status, decoded body or None, headers)."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        push = Push(
            method=method, path=path.strip("/"), segments=tuple(path.strip("/").split("/")), query={},
            headers=headers or {"content-type": "application/json"}, body=raw,
            received_at=received_at or self.clock.now(),
            sender=Sender(subject="supplier", instances=frozenset({"acme"}), device_token=device),
        )  # fmt: skip
        for _ in range(1000):
            try:
                receipt = await self.provider.receive(push)
            except PushRejected as rejected:
                return rejected.status, json.loads(rejected.body), rejected.headers
            try:
                self.state.apply(receipt.intents)
            except Conflict:
                self.conflicts += 1
                continue
            outcome = self._commit(receipt)
            answer = receipt.answer(outcome) if callable(receipt.answer) else receipt.answer
            assert answer.content_type == ("application/json" if answer.body else None)
            return answer.status, json.loads(answer.body) if answer.body else None, dict(answer.headers)
        raise AssertionError("a push that never comes through")

    def _commit(self, receipt):
        outcome = Outcome()
        self.commits += bool(receipt.intents)
        for report in receipt.reports:
            self.told.append(report)
            if isinstance(report, Position):
                self._keep(report, outcome)
        return outcome

    def _keep(self, position, outcome):
        key = (position.source, position.recorded_at)
        if key in self.positions:
            outcome.duplicates += 1
            return
        self.positions[key] = position
        outcome.accepted += 1
        newest = self.newest[position.live]
        if newest is not None and position.recorded_at <= newest:
            outcome.late += 1
        else:
            self.newest[position.live] = position.recorded_at

    async def sweep(self):
        """One round of what the clock decides. Conflicting batches are dropped; the next round finds them again."""
        batches = self.provider.stream()
        rounds = len(self.clock.slept)
        waiting = asyncio.ensure_future(anext(batches))
        while True:
            while not waiting.done() and len(self.clock.slept) == rounds:
                await asyncio.sleep(0)
            if not waiting.done():
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                await batches.aclose()
                return
            batch = waiting.result()
            self.state.apply(batch.intents)
            self._commit(batch)
            waiting = asyncio.ensure_future(anext(batches))

    # What suppliers say.

    async def booking(self, path=BOOKING, **fields):
        fields = {"assigned_at": iso(START - timedelta(hours=1)), "driver": {"firstName": "Ann"}, **fields}
        status, body, _ = await self.send("PUT", path, {name: value for name, value in fields.items() if value})
        assert status == 200
        return body

    async def event(self, kind, at, *, place=(53.48, -2.24), path=BOOKING, received_at=None, **more):
        """`at`: seconds after START, or the text of `occurred_at`. -> (status, description or X-Event-Result)."""
        body = {"event_type": kind, "occurred_at": at if isinstance(at, str) else iso(START + timedelta(seconds=at))}
        if place is not None:
            body["latitude"], body["longitude"] = place
        status, answer, headers = await self.send(
            "POST", f"{path}/driver/events", {**body, **more}, received_at=received_at or START + timedelta(hours=1)
        )
        if status == 200:
            assert answer == {}
            return status, headers["X-Event-Result"]
        assert set(answer) == {"message", "description"}
        return status, answer["description"]

    async def journey(self, *kinds, step=60):
        for number, kind in enumerate(kinds):
            assert await self.event(kind, number * step) == (200, "accepted"), kind

    def reported(self, kind):
        return [report for report in self.told if isinstance(report, kind)]

    @property
    def lives(self):
        return [position for position in self.reported(Position) if position.live]

    @property
    def starts(self):
        return self.reported(SharingStarted)

    @property
    def stops(self):
        return self.reported(SharingStopped)

    @property
    def milestones(self):
        return [milestone for milestone in self.reported(Milestone) if milestone.event_type is not None]

    @property
    def profiles(self):
        return self.reported(Profile)
