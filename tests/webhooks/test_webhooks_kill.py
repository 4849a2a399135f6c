"""kill -9 of the real server with deliveries in flight: nothing acknowledged is without its event, no event is lost.

Ten kills on each database; `SOAK_TESTS=1` makes it 200. Prints what was counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import select

from waybridge.signing import verify_webhook
from waybridge.store import tables
from waybridge.store.engine import Store

SOAK = os.environ.get("SOAK_TESTS") == "1"
KILLS = 200 if SOAK else 10
WORKERS = 6
SECRET = "k" * 40
FAILING = 0.02
"""Part of the answers that are 500."""


@dataclass
class Ledger:
    """What was acknowledged, and what was received, in order: (webhook-id, digest of the body, event)."""

    positions: set[str] = field(default_factory=set)
    created: set[str] = field(default_factory=set)
    completed: set[str] = field(default_factory=set)
    received: list[tuple[str, bytes, dict[str, Any]]] = field(default_factory=list)
    forged: int = 0
    secret: str = ""


class Server:
    """The gateway as a process of its own that is killed and started again."""

    def __init__(self, folder: Path, database_url: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._environment = {
            **os.environ,
            "WAYBRIDGE_DATABASE_URL": database_url,
            "WAYBRIDGE_SECRET_KEYS": json.dumps([SECRET]),
            "WAYBRIDGE_METRICS_LISTEN": "",
            "WAYBRIDGE_WEBHOOKS__ALLOW_PRIVATE_TARGETS": "true",
            "WAYBRIDGE_WEBHOOKS__TIMEOUT_SECONDS": "5",  # the leases of the dead end after 15 s
            "WAYBRIDGE_WEBHOOKS__RETRY_SECONDS": json.dumps([1] * 20),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with (self._folder / "serve.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "waybridge", "serve", "--port", str(self.port),
                cwd=self._folder, env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip
        async with asyncio.timeout(60), aiohttp.ClientSession() as http:
            while True:
                assert self._process.returncode is None, (self._folder / "serve.log").read_text()[-2000:]
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    async with http.get(f"{self.url}/health") as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(0.05)

    async def kill(self, how: signal.Signals = signal.SIGKILL) -> int:
        if self._process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(how)
        return await self._process.wait()

    async def token(self) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "waybridge", "token", "--instance", "default",
            cwd=self._folder, env=self._environment, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        return out.decode().strip()


async def receive(ledger: Ledger, chance: random.Random, request: web.Request) -> web.Response:
    body = await request.read()
    try:
        verify_webhook(ledger.secret, request.headers, body, time.time())
    except Exception:  # noqa: BLE001 - whatever it is, it counts
        ledger.forged += 1
    event = json.loads(body)
    ledger.received.append((request.headers["webhook-id"], hashlib.sha256(body).digest(), event))
    await asyncio.sleep(chance.random() * 0.02)
    return web.Response(status=500 if chance.random() < FAILING else 204)


async def change(server: Server, token: str, number: int, ledger: Ledger, stop: asyncio.Event) -> None:
    """One integrator after the other: a device reports, is shared, the share is completed; over and over."""
    headers = {"Authorization": f"Bearer {token}"}
    turn = 0
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=5)) as http:
        while not stop.is_set():
            turn += 1
            device = f"van-{number}-{turn}"
            try:
                fix = {"device_token": device, "latitude": 60.1, "longitude": 24.9, "timestamp": time.time()}
                async with http.post(f"{server.url}/ingest/native/positions", json=fix) as response:
                    if response.status == 200 and (await response.json())["accepted"] == 1:
                        ledger.positions.add(device)
                made = {"instance_id": "default", "device_token": device}
                async with http.post(f"{server.url}/api/v1/sharing/sessions", json=made) as response:
                    if response.status != 201:
                        continue
                    session = (await response.json())["id"]
                ledger.created.add(session)
                url = f"{server.url}/api/v1/sharing/sessions/{session}/complete?instance_id=default"
                async with http.post(url) as response:
                    if response.status == 200:
                        ledger.completed.add(session)
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(0.05)  # it was killed: what was not acknowledged is not counted


async def outbox(database_url: str) -> list[Any]:
    store = Store(database_url)
    await store.start()
    async with store.read() as conn:
        rows = (await conn.execute(select(tables.outbox).order_by(tables.outbox.c.id))).all()
    await store.close()
    return list(rows)


async def open_deliveries(database_url: str) -> int:
    store = Store(database_url)
    await store.start()
    async with store.read() as conn:
        rows = (await conn.execute(select(tables.deliveries.c.state))).scalars().all()
        waiting = (await conn.execute(select(tables.outbox.c.id).where(~tables.outbox.c.expanded))).all()
    await store.close()
    return sum(state == "pending" for state in rows) + len(waiting)


@pytest.mark.timeout(5_400 if SOAK else 300)
async def test_killed_at_random_with_deliveries_in_flight_nothing_is_lost_and_order_is_kept(
    database_url: str, tmp_path: Path
) -> None:
    ledger = Ledger()
    async with receiving(ledger) as target:
        server = Server(tmp_path, database_url)
        try:
            token = await server.token()
            await server.start()
            ledger.secret = await subscribed(server, token, target)
            in_flight = await killed_over_and_over(server, token, ledger, database_url)
            async with asyncio.timeout(120):
                while await open_deliveries(database_url):
                    await asyncio.sleep(0.5)
            assert await server.kill(signal.SIGTERM) == 0
        finally:
            await server.kill()

    told = await outbox(database_url)
    report(ledger, told, in_flight, database_url.partition(":")[0])
    assert in_flight > 0, "nothing was in flight when it was killed"
    assert min(len(ledger.positions), len(ledger.created), len(ledger.completed)) > KILLS
    every_acknowledged_change_has_its_events(ledger, told)
    every_event_arrived_in_order(ledger, told)


@contextlib.asynccontextmanager
async def receiving(ledger: Ledger) -> AsyncIterator[str]:
    chance = random.Random(7)
    app = web.Application()
    app.router.add_post("/hook", functools.partial(receive, ledger, chance))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


async def subscribed(server: Server, token: str, target: str) -> str:
    fields = {"instance_id": "default", "target_url": target, "subscribed_events": ["*"]}
    url = f"{server.url}/api/v1/webhook-subscriptions"
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http,
        http.post(url, json=fields) as response,
    ):
        assert response.status == 201, await response.text()
        return str((await response.json())["signing_secret"])


async def killed_over_and_over(server: Server, token: str, ledger: Ledger, database_url: str) -> int:
    """How many deliveries were open when it was killed, over all kills."""
    chance = random.Random(11)
    stop = asyncio.Event()
    workers = [asyncio.create_task(change(server, token, number, ledger, stop)) for number in range(WORKERS)]

    in_flight = 0
    try:
        for _ in range(KILLS):
            before = len(ledger.received)
            async with asyncio.timeout(60):
                while len(ledger.received) == before:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(chance.random())
            await server.kill()
            in_flight += await open_deliveries(database_url)
            await server.start()
    finally:
        stop.set()
        await asyncio.gather(*workers)
    return in_flight


def every_acknowledged_change_has_its_events(ledger: Ledger, told: Sequence[Any]) -> None:
    kinds = Counter(row.event_type for row in told)
    sources = {
        row.device_token for row in told if row.event_type == "location.sharing.started" and row.cause == "online"
    }
    data = [(row.event_type, json.loads(row.data)) for row in told]
    began = {each.get("share_session_id") for kind, each in data if kind == "location.sharing.started"}
    ended = {each.get("share_session_id") for kind, each in data if kind == "location.sharing.stopped"}
    created = {each["id"] for kind, each in data if kind == "share.session.created"}
    completed = {each["id"] for kind, each in data if kind == "share.session.completed"}
    assert ledger.positions <= sources, "an acknowledged position without its event"
    assert ledger.created <= created, "an acknowledged share without its event"
    assert ledger.created <= began
    assert ledger.completed <= completed
    assert ledger.completed <= ended
    assert kinds["share.session.created"] == len(created), "an event was told twice"


def every_event_arrived_in_order(ledger: Ledger, told: Sequence[Any]) -> None:
    first: dict[str, int] = {}
    bodies: dict[str, set[bytes]] = {}
    for place, (event_id, digest, _) in enumerate(ledger.received):
        first.setdefault(event_id, place)
        bodies.setdefault(event_id, set()).add(digest)
    assert {row.event_id for row in told} == first.keys(), "an event was lost, or made up"
    assert all(len(each) == 1 for each in bodies.values()), "a repetition had another body"
    by_device: dict[str, list[int]] = {}
    for row in told:
        by_device.setdefault(row.device_token or "", []).append(first[row.event_id])
    assert [device for device, places in by_device.items() if places != sorted(places)] == []
    assert ledger.forged == 0


def report(ledger: Ledger, told: Sequence[Any], in_flight: int, database: str) -> None:
    ids = {event_id for event_id, _, _ in ledger.received}
    acknowledged = len(ledger.positions) + len(ledger.created) + len(ledger.completed)
    print(
        f"\n{database}: {KILLS} kills, {in_flight} deliveries open at them; {acknowledged} acknowledged changes, "
        f"{len(told)} events, {len(ledger.received)} deliveries, {len(ledger.received) - len(ids)} repetitions, "
        f"{len(told) - len(ids)} lost"
    )
