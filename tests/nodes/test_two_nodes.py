"""Two gateways on one PostgreSQL and one NATS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest
from running import running_gateway

from waybridge.cli.workers import local_nats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from running import RunningGateway

pytestmark = [pytest.mark.nats, pytest.mark.postgres]
TOKEN = "1e653223-8efe-4904-baaa-23f0972924e0"
KEY = "s" * 40


@pytest.fixture
def nats_url() -> Iterator[str]:
    with local_nats() as url:
        yield url


async def eventually(what, seconds: float = 10.0) -> None:
    """Waits until `what()` is true; fails with what it last said."""
    deadline = time.monotonic() + seconds
    while not (said := what()):
        assert time.monotonic() < deadline, said
        await asyncio.sleep(0.01)


@pytest.fixture
async def nodes(postgres_url: str, nats_url: str, tmp_path: Path) -> AsyncIterator[tuple[RunningGateway, ...]]:
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            made.append(
                await stack.enter_async_context(
                    running_gateway(postgres_url, folder, bus_url=nats_url, secret_keys=[KEY])
                )
            )
        for each in made:
            await eventually(lambda each=each: each.house.bus.healthy)
        yield tuple(made)


async def _post(node: RunningGateway, second: float, token: str = TOKEN) -> int:
    body = {"device_token": token, "latitude": 60.17, "longitude": 24.94, "timestamp": second}
    async with node.http.post(f"{node.url}/ingest/native/positions", json=body, headers=node.headers()) as answer:
        return answer.status


async def test_a_position_taken_in_on_one_node_is_read_and_watched_on_the_other(nodes) -> None:
    one, other = nodes
    now = time.time()
    assert await _post(one, now - 2) == 200
    await eventually(lambda: other.house.roster.device("default", TOKEN))
    async with other.http.get(
        f"{other.url}/api/v1/devices/{TOKEN}/position?instance_id=default", headers=other.headers()
    ) as answer:
        assert answer.status == 200
        assert (await answer.json())["timestamp"] == int(now - 2)
    body = {"device_token": TOKEN, "instance_id": "default"}
    async with one.http.post(f"{one.url}/api/v1/sharing/sessions", json=body, headers=one.headers()) as answer:
        session = await answer.json()
        assert answer.status == 201
    share = session["share_token"]
    async with other.http.ws_connect(f"{other.url}/api/v1/share/{share}/live") as ws:
        first = json.loads((await ws.receive(5)).data)
        assert first["type"] == "position"
        assert await _post(one, now - 1) == 200
        complete = f"{one.url}/api/v1/sharing/sessions/{session['id']}/complete?instance_id=default"
        async with one.http.post(complete, headers=one.headers()) as answer:
            assert answer.status == 200
        seen = []
        async for message in ws:
            seen.append(json.loads(message.data))
        assert seen[-1]["type"] == "session_ended"
        assert seen[-1]["reason"] == "completed"
        assert ws.close_code == 1000


async def test_two_nodes_that_write_one_device_agree_on_the_newest_and_absorb_duplicates(nodes) -> None:
    one, other = nodes
    now = time.time()
    seconds = [now - 100 + n for n in range(60)]
    statuses = await asyncio.gather(
        *(_post(node, second) for second in seconds for node in (one, other))
    )
    assert set(statuses) == {200}
    for node in nodes:
        await eventually(
            lambda node=node: abs(
                node.house.roster.device("default", TOKEN).public_fix.recorded_us - seconds[-1] * 1e6
            ) <= 1
        )
    async with one.house.store.read() as conn:
        assert (await conn.exec_driver_sql("SELECT count(*) FROM positions")).scalar_one() == 60
        opened = await conn.exec_driver_sql(
            "SELECT count(*) FROM outbox WHERE event_type = 'location.sharing.started'"
        )
        assert opened.scalar_one() == 1
        online = await conn.exec_driver_sql("SELECT count(*) FROM outbox WHERE event_type = 'device.online'")
        assert online.scalar_one() <= 1
