"""W1 to W3, webhooks: from commit to first attempt, how fast a backlog drains, and what a target that hangs costs.

The webhooks of one process with a real database and real sockets; the targets are a process of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from bench.measure import Work, cpu_seconds, percentiles, total
from bench.report import NOT_RUN, Report
from bench.servers import SECRET, Postgres
from waybridge import logs
from waybridge.bus import MemoryBus
from waybridge.settings import Settings
from waybridge.store import tables
from waybridge.store.engine import Store, Tx
from waybridge.store.migrate import migrate
from waybridge.vault import Vault
from waybridge.webhooks import Webhooks

HANGS = "/hang"
ASIDE = (HANGS, "/0")
"""Targets whose requests are not counted: the one that hangs, and the one that is fast in its stead."""
TARGETS = 50
DEVICES = 2_000
AT_A_TIME = 1_000
LONGEST_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets' process: `/hang` never answers; it counts what arrives at the others, and when it last did."""

    url: str
    arrived: Synchronized[int]
    last_us: Synchronized[int]

    async def until(self, count: int) -> None:
        """Waits until so many requests arrived; asking costs next to nothing, for it is the gateway's CPU."""
        async with asyncio.timeout(LONGEST_SECONDS):
            while self.arrived.value < count:  # noqa: ASYNC110 - another process counts
                await asyncio.sleep(0.005)


async def webhooks(report: Report, folder: Path, server: Postgres | None, *, quick: bool) -> None:
    """W1 to W3."""
    logs.configure("text", "error")  # a target that hangs is no news here
    folder.mkdir(parents=True, exist_ok=True)
    with targets() as place:
        numbers = itertools.count()

        async def database(kind: str) -> str:
            if kind == "PostgreSQL" and server is not None:
                return await server.database()
            return f"sqlite+aiosqlite:///{folder / f'{next(numbers)}.db'}"

        kinds = ["SQLite", *(["PostgreSQL"] if server is not None else [])]
        p95s, rates, losses = [], [], []
        for kind in kinds:
            p50, p95 = await latency(await database(kind), place, 50 if quick else 300)
            report.number("webhooks", f"commit to first attempt, {kind}, ms", p50=p50, p95=p95)
            p95s.append(p95)
        for kind in kinds:
            work = await drain(await database(kind), place, [f"{place.url}/one"], 4_000 if quick else 100_000)
            report.figure("webhooks", f"drain to one fast target, {kind}", "deliveries", work)
            rates.append(work)
        for kind in kinds:
            pair = await hanging(report, kind, database, place, rounds=2, rows=4_000 if quick else 20_000)
            losses.append(max(100 * (1 - getattr(pair[1], by) / getattr(pair[0], by)) for by in MEASURES))
    names = ", ".join(kinds) if server is not None else f"{NOT_RUN} on PostgreSQL: it is not installed"
    report.row("W1", " / ".join(f"{each:.1f} ms" for each in p95s), names, reached=max(p95s) < 200)
    report.row("W2", " / ".join(f"{each.per_second:,.0f}/s" for each in rates),
               f"{' / '.join(f'{each.per_cpu_second:,.0f}' for each in rates)} a CPU-second; {names}", reached=True)  # fmt: skip
    report.row("W3", " / ".join(f"{each:+.1f} %" for each in losses), names, reached=max(losses) < 10)


MEASURES = ("per_second", "per_cpu_second")


async def hanging(
    report: Report, kind: str, database: Any, place: Targets, *, rounds: int, rows: int
) -> tuple[Work, Work]:
    """The work for 49 targets beside a 50th that is fast, and beside one that hangs: A B A B."""
    others = [f"{place.url}/{number}" for number in range(1, TARGETS)]
    works: tuple[list[Work], list[Work]] = ([], [])
    for _ in range(rounds):
        for one, found in zip((f"{place.url}/0", f"{place.url}{HANGS}"), works, strict=True):
            found.append(await drain(await database(kind), place, [one, *others], rows))
    well, ill = (total(each) for each in works)
    report.figure("webhooks", f"drain to {TARGETS - 1} targets, the {TARGETS}th fast, {kind}", "deliveries", well)
    report.figure("webhooks", f"drain to {TARGETS - 1} targets, the {TARGETS}th hanging, {kind}", "deliveries", ill)
    return well, ill


async def latency(url: str, place: Targets, rounds: int) -> tuple[float, float]:
    """(p50, p95) in ms from the commit of an event to the arrival of its first attempt, one at a time."""
    delays = []
    async with parts(url) as (store, made):
        await made.subscriptions.create("acme", {"target_url": f"{place.url}/timed", "subscribed_events": ["*"]})
        await made.start()
        for number in range(rounds):
            before = place.arrived.value
            await store.write(partial(told, number))
            committed = time.time_ns() // 1000
            await place.until(before + 1)
            delays.append((place.last_us.value - committed) / 1000)
            await asyncio.sleep(0.02)
    return percentiles(delays)[0], sorted(delays)[int(len(delays) * 0.95)]


async def drain(url: str, place: Targets, urls: Sequence[str], rows: int) -> Work:
    """Delivers a backlog of `rows` events, each to the one target that its device belongs to.

    The work is what goes to the targets that count; it ends with the arrival of the last of it.
    """
    async with parts(url) as (store, made):
        share = rows // len(urls)
        await backlog(store, made, urls, share * len(urls))
        await made.dispatcher.expand()
        wanted = share * sum(urlsplit(each).path not in ASIDE for each in urls)
        before, began, cpu = place.arrived.value, time.perf_counter(), cpu_seconds(os.getpid())
        await made.start()
        await place.until(before + wanted)
        return Work(wanted, time.perf_counter() - began, cpu_seconds(os.getpid()) - cpu, 0.0)


async def backlog(store: Store, made: Webhooks, urls: Sequence[str], rows: int) -> None:
    """Fills the outbox; every event is heard by one subscription, by the group of its device."""
    for number, url in enumerate(urls):
        fields = {"target_url": url, "subscribed_events": ["*"], "groups": [f"g{number}"]}
        await made.subscriptions.create("acme", fields)

    async def groups(tx: Tx) -> None:
        for number in range(len(urls)):
            row = {"instance_id": "acme", "group_id": f"g{number}", "created_us": 1, "updated_us": 1}
            key = (await tx.conn.execute(tables.groups.insert().values(row).returning(tables.groups.c.id))).scalar_one()
            members = [
                {"group_number": key, "device_token": f"van-{each}"} for each in range(number, DEVICES, len(urls))
            ]
            await tx.conn.execute(tables.group_members.insert(), members)

    await store.write(groups)
    for start in range(0, rows, AT_A_TIME):

        async def fill(tx: Tx, start: int = start) -> None:
            for number in range(start, min(rows, start + AT_A_TIME)):
                await told(number, tx)

        await store.write(fill)


async def told(number: int, tx: Tx) -> None:
    token = f"van-{number % DEVICES}"
    tx.emit("device.online", instance_id="acme", data={"device_token": token}, device_token=token)


@contextlib.asynccontextmanager
async def parts(url: str) -> AsyncIterator[tuple[Store, Webhooks]]:
    settings = Settings.model_validate({"secret_keys": [SECRET], "webhooks": {"allow_private_targets": True}})
    bus = MemoryBus()
    store = Store(url, publish=bus.publish)
    await store.start()
    await migrate(store)
    made = Webhooks(store, bus, Vault(settings.secrets), settings)
    try:
        yield store, made
    finally:
        await made.close()
        await store.close()


@contextlib.contextmanager
def targets() -> Iterator[Targets]:
    """The targets in a process of their own."""
    context = multiprocessing.get_context("spawn")
    arrived, last_us, (ours, theirs) = context.Value("q", 0), context.Value("q", 0), context.Pipe()
    process = context.Process(target=serve, args=(theirs, arrived, last_us), daemon=True)
    process.start()
    try:
        yield Targets(f"http://127.0.0.1:{ours.recv()}", arrived, last_us)
    finally:
        process.terminate()
        process.join()


def serve(pipe: Connection, arrived: Synchronized[int], last_us: Synchronized[int]) -> None:
    """The main function of the targets' process; sends its port into the pipe."""

    async def take(request: web.Request) -> web.Response:
        now_us = time.time_ns() // 1000
        await request.read()
        if request.path == HANGS:
            await asyncio.Event().wait()
        if request.path not in ASIDE:
            last_us.value = now_us
            arrived.value += 1
        return web.Response()

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/{tail:.*}", take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
