"""The bus over a real NATS: what is missed is known, what is foreign harms nobody, what is long is split."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from processes import free_port
from test_death_of_a_node import NatsServer

from waybridge.bus import DeviceEvent, Event, Fix, Nudge, PositionEvent
from waybridge.bus_nats import NatsBus
from waybridge.store.space import space

pytestmark = pytest.mark.nats
SECONDS = 60.0


class Peer:
    """A node's bus, and what it hears, is told to look up, and how often it reads everything again."""

    def __init__(self, url: str, name: str, database: str = "one") -> None:
        async def where() -> str:
            return database

        self.bus = NatsBus(url, name, where)
        self.heard: list[Event] = []
        self.devices: list[int] = []
        self.rereads = 0
        self.broken = 0
        self.bus.attach(self.heard.extend)
        self.bus.follow(self._arrived, self._returned)

    async def _arrived(self, events: Sequence[Event], devices: Sequence[int]) -> Sequence[Event]:
        self.devices += devices
        return events

    async def _returned(self) -> Sequence[Event]:
        if self.broken:
            self.broken -= 1
            raise ConnectionError("the database is away")
        self.rereads += 1
        return [Nudge("reread", str(self.rereads))]

    def keys(self, topic: str) -> list[str]:
        return [each.key for each in self.heard if isinstance(each, Nudge) and each.topic == topic]


async def eventually(what) -> None:
    async with asyncio.timeout(SECONDS):
        while not what():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def peers(url: str, *names: str) -> AsyncIterator[list[Peer]]:
    made = [Peer(url, *name.split("@")) for name in names]
    for each in made:
        await each.bus.start()
    try:
        for each in made:
            await eventually(lambda each=each: each.bus.healthy and each.rereads)
        yield made
    finally:
        for each in made:
            await each.bus.close()


@pytest.fixture
def server() -> Iterator[NatsServer]:
    nats = NatsServer()
    nats.start()
    yield nats
    nats.kill()


def position(number: int, extra: str | None = None) -> PositionEvent:
    fix = Fix(number, number, number, 60.0, 24.0, extra=extra)
    return PositionEvent("default", 7, "van", 9, fix, None, shown=True, visible=True)


async def test_nodes_hear_each_other_in_order_and_themselves_once(server: NatsServer) -> None:
    async with peers(server.url, "a", "b") as (one, other):
        for number in range(500):
            one.bus.publish([Nudge("said", str(number))])
        await eventually(lambda: len(other.keys("said")) == 500)

        assert other.keys("said") == one.keys("said") == [str(number) for number in range(500)]
        assert (one.rereads, other.rereads) == (1, 1)


async def test_a_sink_of_two_nodes_is_told_each_event_by_the_node_that_made_it(server: NatsServer) -> None:
    async with peers(server.url, "a", "b") as nodes:
        listeners = [node.bus.listen("own", own=True) for node in nodes]
        for number in range(100):
            nodes[number % 2].bus.publish([Nudge("said", str(number))])
        for node in nodes:
            await eventually(lambda node=node: len(node.keys("said")) == 100)

        told = [[each.key for each in listener.take() if isinstance(each, Nudge)] for listener in listeners]
        assert told == [[str(n) for n in range(start, 100, 2)] for start in (0, 1)]


async def test_what_is_missed_is_known_by_the_next_message_and_read_again(server: NatsServer) -> None:
    async with peers(server.url, "a", "b") as (one, other):
        one.bus.publish([Nudge("said", "1")])
        await eventually(lambda: other.keys("said") == ["1"])
        one.bus._connected = False  # as when its own way to NATS is cut for a moment
        one.bus.publish([Nudge("said", "lost")])
        one.bus._connected = True
        other.broken = 1
        one.bus.publish([Nudge("said", "2")])
        await eventually(lambda: other.rereads == 2)

        assert other.keys("said") == ["1", "2"]
        await eventually(lambda: other.keys("reread")[-1:] == ["2"])


async def test_a_group_longer_than_a_message_is_split_and_arrives_whole_and_in_order(server: NatsServer) -> None:
    async with peers(server.url, "a", "b") as (one, other):
        one.bus.publish([position(number, "x" * 16_000) for number in range(1, 201)])  # 3.2 MB
        await eventually(lambda: len(other.heard) >= 201)

        assert [e.fix.recorded_us for e in other.heard if isinstance(e, PositionEvent)] == list(range(1, 201))
        assert other.rereads == 1


async def test_an_event_too_long_to_send_is_told_by_its_devices_number(server: NatsServer) -> None:
    async with peers(server.url, "a", "b") as (one, other):
        one.bus.publish(
            [Nudge("said", "1"), DeviceEvent("profile", "default", 7, "van", 1, {"x": "x" * 2_000_000}), position(5)]
        )
        await eventually(lambda: any(isinstance(each, PositionEvent) for each in other.heard))

        assert other.devices == [7]
        assert other.keys("said") == ["1"]


async def test_what_a_stranger_publishes_stops_nothing(server: NatsServer) -> None:
    from nats.aio.client import Client

    async with peers(server.url, "a", "b") as (one, other):
        stranger = Client()
        await stranger.connect(server.url)
        torn = (b"\x93\xa1x\x01\xc0", b"\x93\xa1x\xff\x91\x92\xa1p\x01")
        for payload in (b"", b"\xff" * 100, b"{}", *torn, b"x" * 900_000):
            await stranger.publish("waybridge.one.events", payload)
        await stranger.flush()
        await stranger.close()
        one.bus.publish([Nudge("said", "after")])
        await eventually(lambda: other.keys("said") == ["after"])


async def test_gateways_of_different_databases_share_a_nats_and_hear_nothing_of_each_other(server: NatsServer) -> None:
    async with peers(server.url, "a@one", "b@two", "c@one") as (one, foreign, same):
        one.bus.publish([Nudge("said", "1")])
        await eventually(lambda: same.keys("said") == ["1"])
        foreign.bus.publish([Nudge("said", "2")])
        await eventually(lambda: foreign.keys("said"))

        assert foreign.keys("said") == ["2"]
        assert same.keys("said") == one.keys("said") == ["1"]


async def test_a_database_is_known_by_what_it_is_and_not_by_how_it_is_reached(store, tmp_path, request) -> None:
    from waybridge.store.engine import Store

    again = Store(store.url.render_as_string(hide_password=False))
    if store.dialect == "sqlite":
        (tmp_path / "link").symlink_to(tmp_path)
        again = Store(f"sqlite+aiosqlite:///{tmp_path}/link/waybridge.db")
        other = Store(f"sqlite+aiosqlite:///{tmp_path}/other.db")
    else:
        other = Store(store.url.set(database="postgres").render_as_string(hide_password=False))
    await again.start()
    await other.start()

    assert await space(again) == await space(store)
    assert await space(other) != await space(store)
    await again.close()
    await other.close()


async def test_a_nats_that_is_down_at_the_start_and_for_long_is_joined_when_it_is_there() -> None:
    server = NatsServer()
    one, other = Peer(server.url, "a"), Peer(server.url, "b")
    for each in (one, other):
        await each.bus.start()
    try:
        one.bus.publish([Nudge("said", "alone")])
        assert one.keys("said") == ["alone"]
        assert not one.bus.healthy
        for _ in range(2):
            server.start()
            await eventually(lambda: one.bus.healthy and other.bus.healthy)
            rereads = other.rereads
            one.bus.publish([Nudge("said", "together")])
            await eventually(lambda: other.keys("said")[-1:] == ["together"])
            server.kill()
            await eventually(lambda: not one.bus.healthy and not other.bus.healthy)
            one.bus.publish([Nudge("said", "alone")])
            assert other.keys("said")[-1:] == ["together"]
            other.heard.clear()
        server.start()
        await eventually(lambda: other.bus.healthy and other.rereads > rereads)
    finally:
        for each in (one, other):
            await each.bus.close()
        server.kill()


async def test_a_nats_that_stands_still_for_a_while_loses_nothing_without_a_word(server: NatsServer) -> None:
    async with peers(server.url, "a", "b") as (one, other):
        server.signal(signal.SIGSTOP)
        for number in range(300):
            one.bus.publish([Nudge("said", str(number)), position(number + 1, "x" * 16_000)])
            await asyncio.sleep(0)
        server.signal(signal.SIGCONT)
        await eventually(lambda: other.keys("said")[-1:] == ["299"] or other.rereads > 1)

        said = [int(key) for key in other.keys("said")]
        assert said == sorted(set(said))
        assert other.rereads > 1 or said == list(range(300))


async def test_a_node_is_ready_when_it_has_read_what_it_missed(server: NatsServer) -> None:
    one = Peer(server.url, "a")
    one.broken = 2
    await one.bus.start()
    try:
        await eventually(lambda: one.bus._connected)
        assert one.rereads or not one.bus.healthy
        await eventually(lambda: one.bus.healthy)
        assert one.rereads
    finally:
        await one.bus.close()


async def test_a_nats_that_refuses_us_is_joined_when_it_takes_us() -> None:
    port = free_port()
    binary = str(Path(sys.executable).with_name("nats-server"))

    def started(*more: str) -> subprocess.Popen[bytes]:
        command = [binary, "-a", "127.0.0.1", "-p", str(port), *more]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    process = started("--user", "somebody", "--pass", "else")
    one = Peer(f"nats://127.0.0.1:{port}", "a")
    await one.bus.start()
    try:
        refused = asyncio.get_running_loop().time() + 1
        while asyncio.get_running_loop().time() < refused:
            assert not one.bus.healthy
            await asyncio.sleep(0.05)
        for more in ((), ("--user", "somebody", "--pass", "else"), ()):
            process.kill()
            process.wait()
            process = started(*more)
            if more:
                await eventually(lambda: not one.bus.healthy)
            else:
                await eventually(lambda: one.bus.healthy)
    finally:
        await one.bus.close()
        process.kill()
        process.wait()
