"""One, two and three gateway processes on one PostgreSQL and one NATS: ingest and fan-out, and what each costs.

All of them share this machine with the database and the load generator, so rates do not grow with the processes where
the processor is what runs out; what is told is the CPU that a position or a frame takes of each.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import asyncpg

from bench import peers
from bench.fanout import MARK, WINDOW, publisher
from bench.ingest import BATCH, PATH
from bench.load import HttpLoad, Positions, post, seed_devices
from bench.measure import Watch, Work, children, cpu_seconds, memory_bytes
from bench.report import Report
from bench.servers import Gateway, Postgres, nats, running
from bench.viewers import Tally, close_viewers, open_viewers

DEVICES = 500
CONNECTIONS = 24
MOST = 3


async def nodes(report: Report, folder: Path, server: Postgres | None, *, quick: bool) -> None:
    """Positions and frames a second by the number of processes; also `serve --workers`, and one without a bus."""
    async with nats() as broker:
        if server is None or broker is None:
            print("     not run: PostgreSQL or NATS is not installed", flush=True)
            return
        url, pid = broker
        for count in range(1, MOST + 1):
            async with contextlib.AsyncExitStack() as stack:
                database = await server.database()
                gateways = [
                    await stack.enter_async_context(
                        running(folder / f"{count}-{number}", database, WAYBRIDGE_BUS_URL=url)
                    )
                    for number in range(count)
                ]
                run = _Run(report, f"{count} of many", gateways, [g.pid for g in gateways], server, pid)
                await run.everything(quick=quick)
        async with running(folder / "alone", await server.database()) as gateway:
            await _Run(report, "1 without a bus", [gateway], [gateway.pid], server, pid).ingest(quick=quick)
        arguments = ("--workers", str(MOST))
        async with running(folder / "workers", await server.database(), *arguments, WAYBRIDGE_BUS_URL=url) as gateway:
            await _all_there(gateway, MOST)
            pids = [gateway.pid, *children(gateway.pid)]
            await _Run(report, f"serve --workers {MOST}", [gateway], pids, server, pid).ingest(quick=quick)


class _Run:
    """The same work on some gateways. `pids` are their processes."""

    def __init__(
        self, report: Report, name: str, gateways: Sequence[Gateway], pids: Sequence[int], server: Postgres, nats_pid: int
    ) -> None:
        self._report = report
        self._name = name
        self._gateways = gateways
        self._pids = pids
        self._server = server
        self._nats_pid = nats_pid
        self._positions = Positions(DEVICES)
        self._next = 0

    async def everything(self, *, quick: bool) -> None:
        await self.ingest(quick=quick)
        await self._fan_out(40 if quick else 200, 150 if quick else 300)
        await self._sizes()

    async def ingest(self, *, quick: bool) -> None:
        """Single positions and batches of 100, each connection to the next gateway."""
        await seed_devices(self._gateways[0], self._positions)
        await asyncio.sleep(1.0)
        await self._idle(3.0)
        singles, batches = (1_500, 60) if quick else (12_000, 500)
        token = self._gateways[0].token()
        await self._load("single positions", [
            post(PATH, token, body) for body in self._positions.singles(self._taken(singles), singles)
        ], CONNECTIONS, singles)  # fmt: skip
        await self._load("batches of 100", [
            post(PATH, token, body) for body in self._positions.batches(self._taken(batches * BATCH), batches, BATCH)
        ], 6, batches * BATCH)  # fmt: skip

    async def _idle(self, seconds: float) -> None:
        """What everything takes while nothing comes in: it is part of what follows."""
        own, database, broker = self._others()
        await asyncio.sleep(seconds)
        own_now, database_now, broker_now = self._others()
        taken = sum(now - database.get(pid, 0.0) for pid, now in database_now.items())
        self._report.number(
            "nodes", f"{self._name}, nothing to do: ms of CPU a second",
            nodes=(sum(own_now) - sum(own)) / seconds * 1000, postgresql=taken / seconds * 1000,
            nats=(broker_now - broker) / seconds * 1000,
        )  # fmt: skip

    def _taken(self, count: int) -> int:
        start, self._next = self._next, self._next + count
        return start

    async def _load(self, what: str, requests: list[bytes], connections: int, amount: int) -> None:
        many = len(self._gateways)
        loads = [
            HttpLoad(gateway.port, requests[number::many], connections // many, b'"duplicates":0')
            for number, gateway in enumerate(self._gateways)
        ]
        for each in loads:
            await each.open()
        before = self._others()
        with Watch(self._pids) as watch:
            await asyncio.gather(*(each.run() for each in loads))
        self._told(what, "positions", watch.work(amount), before, amount)

    async def _fan_out(self, count: int, viewers: int) -> None:
        """Positions of the first gateway to viewers that are spread over all, as fast as they take them."""
        tally = Tally(MARK)
        crowd = []
        for gateway in self._gateways:
            target = peers.gateway_realtime(gateway)
            crowd += await open_viewers(
                target.viewer_port, viewers // len(self._gateways), tally, target.upgrade, target.hello, target.ready_mark
            )
        try:
            await asyncio.sleep(1.0)  # snapshots go out before the clock starts
            into = peers.gateway_realtime(self._gateways[0])
            made = await publisher(into)
            frames = [into.publication(body) for body in self._positions.singles(self._taken(count), count)]
            begun, before = tally.frames, self._others()
            with Watch(self._pids) as watch:
                for number, frame in enumerate(frames, start=1):
                    made.transport.write(frame)
                    tally.want(begun + max(0, number - WINDOW) * len(crowd))
                    async with asyncio.timeout(60):
                        await tally.enough.wait()
                tally.want(begun + count * len(crowd))
                async with asyncio.timeout(60):
                    await tally.enough.wait()
            made.transport.abort()
            if made.refused is not None:
                raise RuntimeError(made.refused[:300].decode(errors="replace"))
            self._told(f"fan-out to {len(crowd)} viewers", "frames", watch.work(tally.frames - begun), before, count)
        finally:
            close_viewers(crowd)
            await asyncio.sleep(0.3)

    async def _sizes(self) -> None:
        """What a process weighs, how many connections it has to the database, and what a row takes on disk."""
        database = self._gateways[0].database_url
        conn = await asyncpg.connect(database.replace("postgresql+asyncpg", "postgresql"))
        try:
            await conn.execute("VACUUM FREEZE")
            rows, disk = await conn.fetchrow(
                "SELECT (SELECT count(*) FROM positions), sum(pg_total_relation_size(inhrelid)) FROM pg_inherits"
                " WHERE inhparent = 'positions'::regclass"
            )
            backends = await conn.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        finally:
            await conn.close()
        self._report.number(
            "nodes", f"{self._name}: memory a process, connections to the database, bytes a row of history",
            MB=memory_bytes(self._pids[0]) / 1e6, connections=backends - 1, bytes=int(disk) / max(1, rows),
        )  # fmt: skip

    def _others(self) -> tuple[list[float], dict[int, float], float]:
        database = [self._server.pid, *children(self._server.pid)]
        return [cpu_seconds(pid) for pid in self._pids], _cpu(database), cpu_seconds(self._nats_pid)

    def _told(
        self, what: str, unit: str, work: Work, before: tuple[list[float], dict[int, float], float], amount: int
    ) -> None:
        own, database, broker = before
        own_now, database_now, broker_now = self._others()
        self._report.figure("nodes", f"{self._name}, {what}", unit, work)
        taken = sum(now - database.get(pid, 0.0) for pid, now in database_now.items())
        each = {f"node_{n}": (now - was) * 1e6 / amount for n, (was, now) in enumerate(zip(own, own_now, strict=True))}
        self._report.number(
            "nodes", f"{self._name}, {what}: us of CPU a position", **each,
            postgresql=taken * 1e6 / amount, nats=(broker_now - broker) * 1e6 / amount,
        )  # fmt: skip


def _cpu(pids: Sequence[int]) -> dict[int, float]:
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # a backend that has just ended
            found[pid] = cpu_seconds(pid)
    return found


async def _all_there(gateway: Gateway, count: int) -> None:
    """Waits until so many workers say that they live."""
    headers = {"Authorization": f"Bearer {gateway.token()}"}
    deadline = time.monotonic() + 120
    async with aiohttp.ClientSession(headers=headers) as http:
        while time.monotonic() < deadline:
            async with http.get(f"http://127.0.0.1:{gateway.port}/api/v1/nodes") as answer:
                if sum(node["alive"] for node in (await answer.json())["nodes"]) == count:
                    return
            await asyncio.sleep(0.1)
    raise RuntimeError("not every worker has started")
