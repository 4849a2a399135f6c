"""What nodes missed of each other is read again, and told to whoever watches; each sink's event comes once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from running import running_gateway
from test_death_of_a_node import NatsServer

from waybridge.sinks import Sinks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from running import RunningGateway

    from waybridge import SinkEvent

pytestmark = [pytest.mark.nats, pytest.mark.postgres]
VAN, ERASED = "1e653223-8efe-4904-baaa-23f0972924e0", "2e653223-8efe-4904-baaa-23f0972924e0"


@pytest.fixture
def broker() -> Iterator[NatsServer]:
    server = NatsServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def two(postgres_url: str, broker: NatsServer, tmp_path: Path) -> AsyncIterator[list[RunningGateway]]:
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            node = running_gateway(postgres_url, folder, bus_url=broker.url, secret_keys=["s" * 40])
            made.append(await stack.enter_async_context(node))
        for each in made:
            await eventually(lambda each=each: each.house.bus.healthy)
        yield made


async def eventually(what) -> Any:
    async with asyncio.timeout(60):
        while not (said := what()):
            await asyncio.sleep(0.01)
    return said


async def moved(node: RunningGateway, token: str, second: float, **more: Any) -> None:
    body = {"device_token": token, "latitude": 60.17, "longitude": 24.94, "timestamp": second, **more}
    async with node.http.post(f"{node.url}/ingest/native/positions", json=body, headers=node.headers()) as answer:
        assert answer.status == 200, await answer.text()


async def test_what_happened_while_nats_was_away_is_told_when_it_is_back(two, broker: NatsServer) -> None:
    one, other = two
    now = time.time()
    for token in (VAN, ERASED):
        await moved(one, token, now - 30)
        await eventually(lambda token=token: other.house.roster.device("default", token))
    body = {"instance_id": "default", "min_interval_seconds": 1}
    async with other.http.post(f"{other.url}/api/v1/streams", json=body, headers=other.headers()) as answer:
        stream = await answer.json()
    async with other.http.ws_connect(stream["websocket_url"]) as ws:
        first = [json.loads((await ws.receive(60)).data) for _ in range(3)]
        assert {each.get("device_token") for each in first[1:]} == {VAN, ERASED}
        broker.kill()
        for node in two:
            await eventually(lambda node=node: not node.house.bus.healthy)
        await moved(one, VAN, now - 5, attributes={"note": "x" * 100})
        async with one.http.delete(
            f"{one.url}/api/v1/devices/{ERASED}/data?instance_id=default", headers=one.headers()
        ) as answer:
            assert answer.status < 300
        assert other.house.roster.device("default", ERASED) is not None
        broker.start()
        told: dict[tuple[str, str], dict[str, Any]] = {}
        erased, newest = ("device.offline", ERASED), ("device.position.updated", VAN)
        while erased not in told or newest not in told:
            frame = json.loads((await ws.receive(60)).data)
            told[frame["type"], frame.get("device_token", "")] = frame

    assert told[newest]["attributes"] == {"note": "x" * 100}
    assert told[erased]["reason"] == "erased"
    await eventually(lambda: other.house.roster.device("default", ERASED) is None)


async def test_a_commit_of_this_node_is_not_undone_by_what_was_read_before_it(two) -> None:
    one, other = two
    now = time.time()
    await moved(one, VAN, now - 30)
    await eventually(lambda: other.house.roster.device("default", VAN))
    house = other.house
    device = house.roster.device("default", VAN)
    following = house.bus._arrived.__self__
    read = house.store.read

    @contextlib.asynccontextmanager
    async def slow() -> AsyncIterator[Any]:
        async with read() as conn, conn.begin():
            # What this connection sees from here on is older than the commit below.
            await conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await conn.exec_driver_sql("SELECT count(*) FROM devices")
            house.store.read = read
            await moved(other, VAN, now - 5)
            yield conn

    house.store.read = slow
    await following._read_part([device.id])

    assert abs(device.public_fix.recorded_us - (now - 5) * 1e6) <= 1  # JSON's numbers are no microseconds


class Notebook:
    """A sink that writes down what it is told."""

    name = "notebook"

    def __init__(self) -> None:
        self.events: list[SinkEvent] = []

    async def take(self, events: Sequence[SinkEvent]) -> None:
        self.events += events

    async def close(self) -> None:
        """Nothing is open."""


async def test_sinks_of_two_nodes_are_told_each_event_once_overall(two) -> None:
    books = [Notebook() for _ in two]
    sinks = [Sinks(node.house.bus, node.house.roster, [book]) for node, book in zip(two, books, strict=True)]
    for each in sinks:
        await each.start()
    try:
        for number in range(20):
            node, token, second = two[number % 2], f"van-{number % 5}", round(time.time(), 3)
            await moved(node, token, second)
            await eventually(
                lambda token=token, second=second: all(
                    (device := each.house.roster.device("default", token)) is not None
                    and abs(device.public_fix.recorded_us - second * 1e6) <= 1
                    for each in two
                )
            )
        await eventually(lambda: sum(each.kind == "position" for book in books for each in book.events) == 20)
    finally:
        for each in sinks:
            await each.close()

    told = [(each.type, each.body) for book in books for each in book.events]
    assert len(told) == len(set(told))
    assert all(any(each.kind == "position" for each in book.events) for book in books)
    assert len({each.device_token for book in books for each in book.events if each.type == "device.online"}) == 5
