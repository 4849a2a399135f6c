"""A node that writes knows what the others wrote before, whether NATS told it or not, and reads no more than that."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from test_missed_events import VAN, broker, eventually, moved, two

from waybridge.store import fleet, sync

pytestmark = [pytest.mark.nats, pytest.mark.postgres]
__all__ = ["broker", "two"]
STANDING = "3e653223-8efe-4904-baaa-23f0972924e0"


@pytest.fixture
async def silent(two, broker) -> Any:
    """Two nodes that hear nothing of each other."""
    broker.kill()
    for node in two:
        await eventually(lambda node=node: not node.house.bus.healthy)
    return two


async def rows(node, sql: str) -> list[tuple[Any, ...]]:
    async with node.house.store.read() as conn:
        return [tuple(row) for row in await conn.exec_driver_sql(sql)]


async def test_a_device_that_one_node_writes_alone_is_read_once(silent, monkeypatch) -> None:
    one, other = silent
    loads = 0
    load = fleet.load

    async def counted(*arguments: Any, **more: Any) -> None:
        nonlocal loads
        loads += 1
        await load(*arguments, **more)

    await moved(one, VAN, time.time())
    await moved(one, VAN, time.time())
    monkeypatch.setattr(sync, "fleet", SimpleNamespace(load=counted))  # what the clock reads is not counted
    for _ in range(8):
        await moved(one, VAN, time.time())
    assert loads == 0
    await moved(other, VAN, time.time())
    assert loads == 1
    second = round(time.time(), 3)
    await moved(one, VAN, second)
    assert loads == 1  # another's newest fix is taken over without more
    assert abs(one.house.roster.device("default", VAN).public_fix.recorded_us - second * 1e6) <= 1


async def test_a_trip_that_another_node_began_is_gone_on_with(silent) -> None:
    one, other = silent
    now = time.time()
    await moved(one, VAN, now - 1000)
    await moved(one, VAN, now - 990)
    await moved(other, VAN, now - 10)  # silent for longer than the gap: another trip
    await moved(one, VAN, now - 5)

    trips = await rows(one, "SELECT id, ended_us FROM trips ORDER BY started_us")
    assert [ended is None for _, ended in trips] == [False, True]
    fixes = await rows(one, "SELECT trip_id FROM positions ORDER BY recorded_us")
    assert [trip for (trip,) in fixes] == [trips[0][0]] * 2 + [trips[1][0]] * 2

    for second in range(900, 0, -100):  # and standing still ends one on many nodes, too
        await moved(one, STANDING, now - second, speed=0.0)
    question = "SELECT t.ended_us FROM trips t JOIN devices d ON d.id = t.device_id WHERE d.device_token = '%s'"
    ((ended,),) = await rows(one, question % STANDING)
    assert ended is not None


async def test_what_another_node_stored_is_a_duplicate_late_or_known_here(silent) -> None:
    one, other = silent
    now = time.time()

    async def posted(node, second: float) -> dict[str, Any]:
        body = {"device_token": VAN, "latitude": 60.17, "longitude": 24.94, "timestamp": second}
        async with node.http.post(f"{node.url}/ingest/native/positions", json=body, headers=node.headers()) as answer:
            return await answer.json()

    assert (await posted(one, now - 20))["accepted"] == 1
    assert (await posted(other, now - 10))["accepted"] == 1
    assert (await posted(one, now - 10))["duplicates"] == 1
    assert (await posted(one, now - 15))["accepted"] == 1
    newest = one.house.roster.device("default", VAN).public_fix
    assert abs(newest.recorded_us - (now - 10) * 1e6) <= 1
    assert await rows(one, "SELECT recorded_us FROM last") == [(newest.recorded_us,)]

    async with other.http.put(
        f"{other.url}/api/v1/devices/{VAN}/metadata/profile?instance_id=default",
        json={"full_name": "Jane Roe"}, headers=other.headers(),
    ) as answer:  # fmt: skip
        assert answer.status == 200, await answer.text()
    assert one.house.roster.device("default", VAN).profile is None
    await posted(one, now - 5)
    assert one.house.roster.device("default", VAN).profile["full_name"] == "Jane Roe"
