"""Three gateway processes on one PostgreSQL and one NATS; one node is killed, then NATS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from processes import GatewayProcess, free_port

from waybridge.store.engine import Store
from waybridge_mycartracks import MyCarTracksSimulator

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.nats, pytest.mark.postgres, pytest.mark.timeout(240)]
DEVICES = [f"bus-{number}" for number in range(6)]


class NatsServer:
    """A NATS that a test may kill and start again on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        import sys

        binary = str(Path(sys.executable).with_name("nats-server"))
        self._process = subprocess.Popen(
            [binary, "-a", "127.0.0.1", "-p", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    server = NatsServer()
    server.start()
    yield server
    server.kill()


class Receiver:
    """A webhook target that counts what it gets."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.types: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def serving(self):
        async def take(request: web.Request) -> web.Response:
            event = await request.json()
            self.events[event["event_id"]] += 1
            if self.events[event["event_id"]] == 1:
                self.types[event["event_type"]] += 1
            return web.Response()

        app = web.Application()
        app.router.add_post("/", take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            await runner.cleanup()


class Drive:
    """Posts positions to nodes at random; a node that is dead or says 503 is tried elsewhere."""

    def __init__(self, nodes: list[GatewayProcess], headers: dict[str, str]) -> None:
        self.nodes = nodes
        self._headers = headers
        self.acknowledged: dict[str, list[int]] = {device: [] for device in DEVICES}
        self.unanswered = 0

    async def run(self, stop: asyncio.Event) -> None:
        async with aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(total=5)) as http:
            await asyncio.gather(*(self._device(http, device, stop) for device in DEVICES))

    async def _device(self, http: aiohttp.ClientSession, device: str, stop: asyncio.Event) -> None:
        step = 0
        while not stop.is_set():
            us = time.time_ns() // 1_000
            step += 1
            body = {
                "device_token": device, "latitude": 60.0 + step * 1e-4, "longitude": 24.0, "timestamp": us / 1e6,
            }  # fmt: skip
            node = random.choice(self.nodes)
            try:
                async with http.post(f"{node.url}/ingest/native/positions", json=body) as response:
                    if response.status == 200:
                        self.acknowledged[device].append(us)
                    else:
                        assert response.status == 503, await response.text()
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                self.unanswered += 1
            await asyncio.sleep(0.05)


async def _ask(http: aiohttp.ClientSession, method: str, url: str, **more: Any) -> Any:
    async with http.request(method, url, **more) as answer:
        text = await answer.text()
        assert answer.status < 300, (answer.status, text)
        return json.loads(text) if text else None


async def _watch(http: aiohttp.ClientSession, url: str, seen: list[dict[str, Any]]) -> None:
    async with http.ws_connect(url) as ws:
        async for message in ws:
            seen.append(json.loads(message.data))


async def _until(ask, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        said = await ask()
        if said:
            return said
        assert time.monotonic() < deadline, said
        await asyncio.sleep(0.1)


async def test_nothing_acknowledged_is_lost_when_a_node_and_then_nats_die(
    postgres_url: str, nats_server: NatsServer, tmp_path: Path
) -> None:
    vendor = MyCarTracksSimulator()
    await vendor.start()
    environ = {
        "WAYBRIDGE_DATABASE_URL": postgres_url,
        "WAYBRIDGE_BUS_URL": nats_server.url,
        "WAYBRIDGE_WEBHOOKS__ALLOW_PRIVATE_TARGETS": "true",
    }
    nodes = [GatewayProcess(tmp_path, free_port(), environ) for _ in range(3)]
    receiver = Receiver()
    most_sockets = 0
    async with receiver.serving() as target, aiohttp.ClientSession() as http, contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(vendor.stop)
        for node in nodes:
            await node.start()
            stack.push_async_callback(_end, node)
        first, second, third = nodes
        headers = {"Authorization": f"Bearer {first.token()}"}
        http.headers.update(headers)
        subscription = {"target_url": target, "subscribed_events": ["*"]}
        await _ask(http, "POST", f"{first.url}/api/v1/webhook-subscriptions?instance_id=default", json=subscription)
        (van,) = vendor.staff(1)
        vendor.move(van, 60.17, 24.94, 30.0, 0.0)
        connection = {
            "connection_id": "vans", "provider": "mycartracks", "instance_id": "default", "settings": vendor.settings(),
        }  # fmt: skip
        await _ask(http, "POST", f"{first.url}/api/v1/connections", json=connection)

        async def owner() -> str | None:
            listed = await _ask(http, "GET", f"{second.url}/api/v1/nodes")
            owners = [node["node_id"] for node in listed["nodes"] if "vans" in node["connections"] and node["alive"]]
            assert len(owners) <= 1, listed
            return owners[0] if owners and vendor.open_sockets else None

        was_owner = await _until(owner, 20)
        stop = asyncio.Event()
        drive = Drive(list(nodes), headers)
        driving = asyncio.create_task(drive.run(stop))

        async def count_sockets() -> None:
            nonlocal most_sockets
            while not stop.is_set():
                most_sockets = max(most_sockets, vendor.open_sockets)
                await asyncio.sleep(0.01)

        counting = asyncio.create_task(count_sockets())
        await _until(lambda: _known(http, second), 10)
        shares = {}
        seen: dict[str, list[dict[str, Any]]] = {}
        watching = []
        for device, node in zip(DEVICES[:4], (second, third, second, third), strict=True):
            body = {"device_token": device, "instance_id": "default", "share_config": {"update_interval_seconds": 1}}
            shares[device] = await _ask(http, "POST", f"{node.url}/api/v1/sharing/sessions", json=body)
            seen[device] = []
            url = f"{node.url}/api/v1/share/{shares[device]['share_token']}/live"
            watching.append(asyncio.create_task(_watch(http, url, seen[device])))
        await asyncio.sleep(2)
        mine = await _ask(http, "GET", f"{first.url}/api/v1/nodes")
        dead = first
        owned_by_dead = any(node["self"] and node["node_id"] == was_owner for node in mine["nodes"])
        if not owned_by_dead:
            # Hand the connection to the node that will die, so that its takeover is what is tested.
            for node in (second, third):
                listed = await _ask(http, "GET", f"{node.url}/api/v1/nodes")
                if any(each["self"] and each["node_id"] == was_owner for each in listed["nodes"]):
                    dead = node
        drive.nodes.remove(dead)
        watched_elsewhere = [
            device for device, node in zip(DEVICES[:4], (second, third, second, third), strict=True) if node is not dead
        ]
        killed_at = time.monotonic()
        await dead.kill()
        alive = next(node for node in nodes if node is not dead)

        async def new_owner() -> str | None:
            listed = await _ask(http, "GET", f"{alive.url}/api/v1/nodes")
            owners = [n["node_id"] for n in listed["nodes"] if "vans" in n["connections"] and n["alive"]]
            taken = [each for each in owners if each != was_owner]
            return taken[0] if taken and vendor.open_sockets else None

        await _until(new_owner, 30)
        takeover = time.monotonic() - killed_at
        nats_server.kill()
        await asyncio.sleep(2)
        nats_server.start()

        async def ready() -> bool:
            async with http.get(f"{alive.url}/health/ready") as answer:
                return answer.status == 200

        await _until(ready, 20)
        await asyncio.sleep(3)
        stop.set()
        await driving
        await counting
        # The last word of each device has to reach the viewers that are left, whichever node took it in.
        for device in watched_elsewhere:
            newest = max(drive.acknowledged[device]) // 1_000_000
            await _until(lambda device=device, newest=newest: _saw(seen[device], newest), 40)
        ended = watched_elsewhere[0]
        await _ask(
            http, "POST",
            f"{alive.url}/api/v1/sharing/sessions/{shares[ended]['id']}/complete?instance_id=default",
        )  # fmt: skip
        await _until(lambda: _ended(seen[ended]), 40)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        store = Store(postgres_url)
        await store.start()

        async def undelivered() -> bool:
            async with store.read() as conn:
                rows = await conn.exec_driver_sql("SELECT event_id FROM outbox")
                return {row[0] for row in rows} <= set(receiver.events)

        await _until(undelivered, 60)
        async with store.read() as conn:
            rows = await conn.exec_driver_sql(
                "SELECT s.external_id, p.recorded_us FROM positions p JOIN sources s ON s.id = p.source_id"
            )
            stored = {(row[0], row[1]) for row in rows}
        await store.close()
    acknowledged = {(device, us) for device, times in drive.acknowledged.items() for us in times}
    print(
        f"\n{len(acknowledged)} acknowledged, {len(acknowledged & stored)} found, {drive.unanswered} unanswered; "
        f"takeover after {takeover:.1f} s; at most {most_sockets} vendor sockets; "
        f"{len(receiver.events)} events, {sum(receiver.events.values())} deliveries"
    )
    assert acknowledged - stored == set()
    assert takeover < 15
    assert most_sockets == 1
    assert receiver.types["share.session.created"] == 4


async def _end(node: GatewayProcess) -> None:
    if node.running:
        await node.kill()


async def _known(http: aiohttp.ClientSession, node: GatewayProcess) -> bool:
    listed = await _ask(http, "GET", f"{node.url}/api/v1/devices?instance_id=default")
    return {device["device_token"] for device in listed["devices"]} >= set(DEVICES)


async def _saw(frames: list[dict[str, Any]], newest: int) -> bool:
    return any(frame.get("timestamp") == newest for frame in frames if frame["type"] == "position")


async def _ended(frames: list[dict[str, Any]]) -> bool:
    return bool(frames) and frames[-1]["type"] == "session_ended"
