"""Sinks are told what streams tell, at their own pace, and disturb nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from waybridge import SinkEvent, sinks
from waybridge.bus import DeviceEvent, Fix, MemoryBus, Nudge, PositionEvent
from waybridge.roster import Device, Period, Policy, Roster, Source
from waybridge.sinks import Sinks

BASE_US = 1_775_000_000_000_000


class Notebook:
    """A sink that writes down what it is told; it waits for `gate`, and raises while `broken`."""

    def __init__(self, name: str = "notebook") -> None:
        self.name = name
        self.batches: list[list[SinkEvent]] = []
        self.tries = 0
        self.broken = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.told: asyncio.Queue[list[SinkEvent]] = asyncio.Queue()
        self.closed = 0

    async def take(self, events: Sequence[SinkEvent]) -> None:
        self.tries += 1
        await self.gate.wait()
        if self.broken:
            raise ConnectionError("the far end is away")
        self.batches.append(list(events))
        self.told.put_nowait(list(events))

    async def close(self) -> None:
        self.closed += 1

    async def next(self) -> list[SinkEvent]:
        async with asyncio.timeout(5):
            return await self.told.get()


class World:
    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.roster = Roster()
        self.consent = Policy(instance_id="default", connection_id="c", provider="imessage", consent="all")
        self.open = Policy(instance_id="default", connection_id="native", provider="native")

    def device(self, token: str, *, consent: bool = False) -> Device:
        number = len(self.roster) + 1
        device = self.roster.add_device(Device(number, "default", token))
        policy = self.consent if consent else self.open
        source = Source(number, policy.connection_id, token, device, policy)
        self.roster.add_source(source)
        device.winner = source
        return device

    def move(self, device: Device, latitude: float, *, shown: bool = True) -> None:
        source = device.winner
        at_us = BASE_US + int(latitude * 1e6)
        source.last = Fix(at_us, at_us, at_us, latitude, 24.0, speed=5.0)
        event = PositionEvent("default", device.id, device.token, source.id, source.last, None, shown, source.visible)
        self.bus.publish([event, Nudge("outbox")])

    def happen(self, device: Device, kind: str) -> None:
        self.bus.publish([DeviceEvent(kind, "default", device.id, device.token, BASE_US)])


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def started(world: World):
    made: list[Sinks] = []

    async def start(*notebooks: Notebook, **options: Any) -> Sinks:
        made.append(Sinks(world.bus, world.roster, notebooks, **options))
        await made[-1].start()
        return made[-1]

    yield start
    for each in made:
        await each.close()


def latitudes(events: Sequence[SinkEvent]) -> list[float]:
    return [msgspec.json.decode(each.body)["latitude"] for each in events if each.kind == "position"]


async def test_a_sink_is_told_what_streams_tell_in_order(world: World, started) -> None:
    notebook, van, hidden = Notebook(), world.device("van"), world.device("hidden", consent=True)
    await started(notebook)

    world.move(van, 1.0)
    world.move(hidden, 50.0)
    world.move(van, 2.0, shown=False)
    world.move(van, 3.0)
    world.happen(van, "online")
    world.happen(van, "profile")
    events = await notebook.next()

    assert [(each.type, each.instance_id, each.device_token) for each in events] == [
        ("device.position.updated", "default", "van"),
        ("device.position.updated", "default", "van"),
        ("device.online", "default", "van"),
    ]
    first = msgspec.json.decode(events[0].body)
    assert (first["latitude"], first["speed"], first["provider"]) == (1.0, 5.0, "native")
    assert first["recorded_at"].startswith("2026-03-31T23:33:21")
    assert latitudes(events) == [1.0, 3.0]


async def test_a_slow_sink_gets_the_newest_and_delays_no_other(world: World, started, monkeypatch) -> None:
    monkeypatch.setattr(sinks, "SIZE", 3)
    slow, quick, van, bus = Notebook("slow"), Notebook("quick"), world.device("van"), world.device("bus")
    slow.gate.clear()
    await started(slow, quick)

    world.move(van, 0.0)
    await quick.next()
    for number in range(1, 9):
        world.move(van if number % 2 else bus, float(number))
        await quick.next()
    slow.gate.set()
    await slow.next()
    caught_up = await slow.next()

    assert [latitudes(batch) for batch in quick.batches] == [[float(number)] for number in range(9)]
    assert len(caught_up) <= 3
    assert latitudes(caught_up)[-2:] == [7.0, 8.0]


async def test_a_failing_sink_is_said_once_and_gets_the_newest_when_it_works_again(world: World, started) -> None:
    notebook, van, bus = Notebook(), world.device("van"), world.device("bus")
    notebook.broken = True
    waits: list[float] = []
    tried, go_on = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        tried.set()
        await go_on.wait()
        await asyncio.sleep(0)

    with capture_logs() as logs:
        await started(notebook, sleep=sleep)
        world.move(van, 1.0)
        world.move(bus, 2.0)
        world.happen(van, "online")
        await asyncio.wait_for(tried.wait(), 5)
        world.move(van, 3.0)
        go_on.set()
        while notebook.tries < 4:
            await asyncio.sleep(0)
        notebook.broken = False
        events = await notebook.next()
        world.move(van, 4.0)
        await notebook.next()

    assert latitudes(events) == [2.0, 3.0]
    assert [each.type for each in events if each.kind == "event"] == ["device.online"]
    assert all(0 <= wait <= 30 for wait in waits)
    assert [entry["event"] for entry in logs] == ["A sink fails; it is tried again", "A sink works again"]


async def test_what_waits_is_not_told_any_more_when_consent_ends(world: World, started) -> None:
    notebook, person, van = Notebook(), world.device("person", consent=True), world.device("van")
    person.winner.period = Period(1, "s", BASE_US, None, "consent", None, None, None)
    notebook.gate.clear()
    await started(notebook)

    world.move(van, 1.0)
    while not notebook.tries:
        await asyncio.sleep(0)
    world.move(person, 2.0)
    person.winner.period = None
    world.happen(person, "sharing_stopped")
    notebook.gate.set()
    await notebook.next()
    events = await notebook.next()

    assert [(each.type, each.device_token) for each in events] == [("device.offline", "person")]
    assert msgspec.json.decode(events[0].body)["reason"] == "not_sharing"


async def test_a_sink_that_never_returns_is_given_up_and_tried_again(world: World, started) -> None:
    notebook, van = Notebook(), world.device("van")
    notebook.gate.clear()

    async def sleep(_seconds: float) -> None:
        notebook.gate.set()

    await started(notebook, take_seconds=0.01, sleep=sleep)
    world.move(van, 1.0)

    assert latitudes(await notebook.next()) == [1.0]
    assert notebook.tries == 2


async def test_closing_hands_over_the_rest_and_closes_each_once(world: World) -> None:
    notebook, stuck, van = Notebook(), Notebook("stuck"), world.device("van")
    stuck.gate.clear()
    both = Sinks(world.bus, world.roster, [notebook, stuck])
    await both.start()
    world.move(van, 1.0)

    began = asyncio.get_running_loop().time()
    await both.close()
    world.move(van, 2.0)

    assert latitudes(notebook.batches[-1]) == [1.0]
    assert (notebook.closed, stuck.closed) == (1, 1)
    assert asyncio.get_running_loop().time() - began < 4


async def test_what_another_node_stored_is_told_by_that_node_alone(world: World, started) -> None:
    notebook, van = Notebook(), world.device("van")
    await started(notebook)
    elsewhere = PositionEvent("default", van.id, "van", 1, Fix(BASE_US, BASE_US, BASE_US, 9.0, 24.0), None, True, True)

    world.bus.deliver([elsewhere])
    world.move(van, 1.0)

    assert latitudes(await notebook.next()) == [1.0]
