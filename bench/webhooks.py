"""How fast webhooks are: from commit to first attempt, and how fast a backlog drains.

    python -m bench.webhooks [--database URL] [--rows 100000] [--targets 50]

Prints p50/p95 of commit to first attempt on an idle gateway, then the drain of a backlog to one fast target,
to many fast targets, and to the same with one of them hanging. The targets run in a process of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web
from sqlalchemy import func, select, text

from waybridge import logs
from waybridge.bus import MemoryBus
from waybridge.settings import Settings
from waybridge.store import tables
from waybridge.store.engine import Store, Tx
from waybridge.store.migrate import migrate
from waybridge.vault import Vault
from waybridge.webhooks import Webhooks

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

HANGS = "/hang"
DEVICES = 2_000


def serve(pipe: Connection) -> None:
    """The targets' process: `/hang` never answers; the times of arrivals at `/timed` go into the pipe."""

    async def main() -> None:
        async def take(request: web.Request) -> web.Response:
            arrived = time.time_ns() // 1000
            await request.read()
            if request.path == HANGS:
                await asyncio.sleep(3600)
            if request.path == "/timed":
                pipe.send(arrived)
            return web.Response()

        app = web.Application()
        app.router.add_post("/{tail:.*}", take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())


async def gateway(url: str) -> tuple[Store, Webhooks]:
    settings = Settings.model_validate({"secret_keys": ["k" * 40], "webhooks": {"allow_private_targets": True}})
    bus = MemoryBus()
    store = Store(url, publish=bus.publish)
    await store.start()
    await migrate(store)
    return store, Webhooks(store, bus, Vault(settings.secrets), settings)


async def latency(store: Store, webhooks: Webhooks, base: str, pipe: Connection, rounds: int) -> None:
    made = await webhooks.subscriptions.create("acme", {"target_url": f"{base}/timed", "subscribed_events": ["*"]})
    await webhooks.start()
    await asyncio.sleep(0.5)
    delays = []
    for number in range(rounds):
        await store.write(lambda tx, number=number: told(tx, number))
        committed = time.time_ns() // 1000
        arrived = await asyncio.to_thread(pipe.recv)
        delays.append((arrived - committed) / 1000)
        await asyncio.sleep(0.02)
    await webhooks.subscriptions.remove(None, made["id"])
    cuts = statistics.quantiles(delays, n=100)
    print(f"commit to first attempt, ms: p50 {cuts[49]:.1f}  p95 {cuts[94]:.1f}  max {max(delays):.1f}")


async def told(tx: Tx, number: int) -> str:
    token = f"van-{number % DEVICES}"
    return tx.emit("device.online", instance_id="acme", data={"device_token": token}, device_token=token)


async def backlog(store: Store, webhooks: Webhooks, targets: list[str], rows: int) -> None:
    """Fills the outbox and expands it; every event goes to one subscription (by its cause)."""
    for number, target in enumerate(targets):
        fields = {"target_url": target, "subscribed_events": ["*"], "groups": [f"g{number}"]}
        await webhooks.subscriptions.create("acme", fields)

    async def groups(tx: Tx) -> None:
        for number in range(len(targets)):
            row = {"instance_id": "acme", "group_id": f"g{number}", "created_us": 1, "updated_us": 1}
            key = (await tx.conn.execute(tables.groups.insert().values(row).returning(tables.groups.c.id))).scalar_one()
            members = [
                {"group_number": key, "device_token": f"van-{each}"} for each in range(number, DEVICES, len(targets))
            ]
            await tx.conn.execute(tables.group_members.insert(), members)

    await store.write(groups)
    for start in range(0, rows, 1_000):

        async def fill(tx: Tx, start: int = start) -> None:
            for number in range(start, min(rows, start + 1_000)):
                await told(tx, number)

        await store.write(fill)


async def left(store: Store, hanging: str | None) -> int:
    question = select(func.count()).select_from(tables.deliveries).where(text("state = 'pending'"))
    if hanging is not None:
        question = question.where(
            tables.deliveries.c.subscription_id.not_in(
                select(tables.subscriptions.c.id).where(tables.subscriptions.c.target_url == hanging)
            )
        )
    async with store.read() as conn:
        return (await conn.execute(question)).scalar_one()


async def drain(name: str, url: str, targets: list[str], rows: int, hanging: str | None = None) -> tuple[float, float]:
    """(deliveries a second, deliveries a CPU-second of the gateway)"""
    store, webhooks = await gateway(url)
    try:
        await backlog(store, webhooks, targets, rows)
        began = time.perf_counter()
        expanded = await webhooks.dispatcher.expand()
        expanding = time.perf_counter() - began
        wanted = await left(store, hanging)
        began, cpu = time.perf_counter(), time.process_time()
        await webhooks.start()
        while await left(store, hanging):  # noqa: ASYNC110 - the database is asked
            await asyncio.sleep(0.25)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(
            f"{name}: {wanted} deliveries in {took:.1f} s = {wanted / took:.0f}/s ({wanted / cpu:.0f} a CPU-second); "
            f"expanded {expanded / expanding:.0f} events/s"
        )
        return wanted / took, wanted / cpu
    finally:
        await webhooks.close()
        await store.close()


async def main(arguments: argparse.Namespace, base: str, pipe: Connection) -> None:
    with tempfile.TemporaryDirectory(prefix="waybridge-bench-") as folder:

        def database(name: str) -> str:
            return arguments.database or f"sqlite+aiosqlite:///{Path(folder) / name}.db"

        store, webhooks = await gateway(database("latency"))
        await latency(store, webhooks, base, pipe, arguments.rounds)
        await webhooks.close()
        await store.close()
        if arguments.database:
            return
        await drain("one fast target", database("one"), [f"{base}/fast"], arguments.rows)
        many = [f"{base}/{number}" for number in range(arguments.targets)]
        well = await drain(f"{len(many)} fast targets", database("many"), many, arguments.rows)
        hanging = f"{base}{HANGS}"
        ill = await drain("one of them hanging", database("hanging"), [hanging, *many[1:]], arguments.rows, hanging)
        wall, cpu = (100 * (1 - after / before) for before, after in zip(well, ill, strict=True))
        print(f"the others lose {wall:.1f} % (by CPU-seconds {cpu:.1f} %)")


def parsed() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="measures only the latency, on this empty database")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--targets", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=300)
    return parser.parse_args()


if __name__ == "__main__":
    logs.configure("text", "warning")
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        asyncio.run(main(parsed(), f"http://127.0.0.1:{ours.recv()}", ours))
    finally:
        process.terminate()
