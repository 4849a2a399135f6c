"""A rolling restart of all nodes under load: clients come back and resume, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from processes import GatewayProcess, free_port
from test_death_of_a_node import DEVICES, Drive, NatsServer, Receiver, _ask, _end, _known, _until

from waybridge.store.engine import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.nats, pytest.mark.postgres, pytest.mark.timeout(240)]


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    server = NatsServer()
    server.start()
    yield server
    server.kill()


class StreamClient:
    """Follows a stream session as its documentation says: reconnects after 1001 and 1006, elsewhere, with `after`."""

    def __init__(self, nodes: list[GatewayProcess], path: str) -> None:
        self._nodes = itertools.cycle(nodes)
        self._path = path
        self.seq = 0
        self.newest: dict[str, str] = {}
        self.connections = 0
        self.arrivals: list[float] = []
        self.codes: list[int | None] = []

    async def run(self, stop: asyncio.Event) -> None:
        async with aiohttp.ClientSession() as http:
            while not stop.is_set():
                node = next(self._nodes)
                joint = "&" if "?" in self._path else "?"
                url = f"{node.url}{self._path}" + (f"{joint}after={self.seq}" if self.seq else "")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                    async with http.ws_connect(url, timeout=aiohttp.ClientWSTimeout(ws_close=2)) as ws:
                        self.connections += 1
                        async for message in ws:
                            self._take(json.loads(message.data))
                            if stop.is_set():
                                return
                        self.codes.append(ws.close_code)
                        assert ws.close_code not in (4001, 4003, 1008), ws.close_code
                await asyncio.sleep(0.1)

    def _take(self, frame: dict[str, Any]) -> None:
        assert frame["seq"] > self.seq or frame["type"] == "connected", frame
        self.seq = max(self.seq, frame["seq"])
        if frame["type"] == "device.position.updated":
            self.arrivals.append(time.monotonic())
            self.newest[frame["device_token"]] = frame["recorded_at"]


async def test_a_rolling_restart_under_load_loses_nothing(
    postgres_url: str, nats_server: NatsServer, tmp_path: Path
) -> None:
    environ = {
        "WAYBRIDGE_DATABASE_URL": postgres_url,
        "WAYBRIDGE_BUS_URL": nats_server.url,
        "WAYBRIDGE_WEBHOOKS__ALLOW_PRIVATE_TARGETS": "true",
    }
    nodes = [GatewayProcess(tmp_path, free_port(), environ) for _ in range(3)]
    receiver = Receiver()
    async with receiver.serving() as target, aiohttp.ClientSession() as http, contextlib.AsyncExitStack() as stack:
        for node in nodes:
            await node.start()
            stack.push_async_callback(_end, node)
        http.headers["Authorization"] = f"Bearer {nodes[0].token()}"
        subscription = {"target_url": target, "subscribed_events": ["*"]}
        await _ask(http, "POST", f"{nodes[0].url}/api/v1/webhook-subscriptions?instance_id=default", json=subscription)
        stop = asyncio.Event()
        drive = Drive(list(nodes), dict(http.headers))
        driving = asyncio.create_task(drive.run(stop))
        await _until(lambda: _known(http, nodes[1]), 15)
        made = await _ask(
            http, "POST", f"{nodes[0].url}/api/v1/streams", json={"instance_id": "default", "min_interval_seconds": 1}
        )
        parts = urlsplit(made["websocket_url"])
        client = StreamClient(nodes, f"{parts.path}?{parts.query}" if parts.query else parts.path)
        following = asyncio.create_task(client.run(asyncio.Event()))
        await _until(lambda: _follows(client), 15)
        for node in nodes:
            drive.nodes = [each for each in nodes if each is not node]
            assert await node.stop() == 0
            await node.start()
            drive.nodes = list(nodes)
            await asyncio.sleep(1)
        stop.set()
        await driving
        newest = {device: max(times) for device, times in drive.acknowledged.items()}
        await _until(lambda: _caught_up(client, newest), 30)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        store = Store(postgres_url)
        await store.start()

        async def delivered() -> bool:
            async with store.read() as conn:
                rows = await conn.exec_driver_sql("SELECT event_id FROM outbox")
                return {row[0] for row in rows} <= set(receiver.events)

        await _until(delivered, 60)
        async with store.read() as conn:
            rows = await conn.exec_driver_sql(
                "SELECT s.external_id, p.recorded_us FROM positions p JOIN sources s ON s.id = p.source_id"
            )
            stored = {(row[0], row[1]) for row in rows}
        await store.close()
    acknowledged = {(device, us) for device, times in drive.acknowledged.items() for us in times}
    gap = max(after - before for before, after in itertools.pairwise(client.arrivals))
    print(
        f"\n{len(acknowledged)} acknowledged, {len(acknowledged & stored)} found, {drive.unanswered} unanswered; "
        f"the stream client connected {client.connections} times, closed by {client.codes}, longest gap {gap:.1f} s; "
        f"{len(receiver.events)} events delivered"
    )
    assert acknowledged - stored == set()
    assert client.connections >= 2
    assert set(newest) == set(DEVICES)


async def _follows(client: StreamClient) -> bool:
    return set(client.newest) >= set(DEVICES)


async def _caught_up(client: StreamClient, newest: dict[str, int]) -> bool:
    from datetime import UTC, datetime, timedelta

    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return all(
        client.newest.get(device) is not None
        and datetime.fromisoformat(client.newest[device]) >= epoch + timedelta(microseconds=us // 1000 * 1000)
        for device, us in newest.items()
    )
