"""Ingest: single positions and batches, over HTTP and the live socket, on each store; raw executemany beside it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from bench.load import HttpLoad, LiveLoad, Positions, post, seed_devices
from bench.measure import Watch, Work, total
from bench.report import Report
from bench.servers import Gateway, Postgres, running

PATH = "/ingest/native/positions"
BATCH = 100
SHAPES = ("http single", "http batch", "live single", "live batch")


async def shape(gateway: Gateway, name: str, positions: Positions, start: int, count: int) -> Work:
    """One kind of ingest; `count` positions from number `start` on. Counts positions."""
    way, _, kind = name.partition(" ")
    single = kind == "single"
    bodies = positions.singles(start, count) if single else positions.batches(start, count // BATCH, BATCH)
    load: HttpLoad | LiveLoad
    if way == "http":
        token = gateway.token()
        requests = [post(PATH, token, body) for body in bodies]
        load = HttpLoad(gateway.port, requests, 32, b'"accepted":%d,"duplicates":0' % (1 if single else BATCH))
    else:
        load = LiveLoad(gateway, bodies, 8)
    await load.open()
    with Watch([gateway.pid]) as watch:
        await load.run()
    return watch.work(count)


async def on_store(
    folder: Path, database_url: str | None, rounds: int, singles: int, batched: int, **environ: str
) -> dict[str, Work]:
    """All shapes in turn, `rounds` times, on one store with 1,000 devices known."""
    found: dict[str, list[Work]] = {name: [] for name in SHAPES}
    positions = Positions(1000)
    async with running(folder, database_url, **environ) as gateway:
        await seed_devices(gateway, positions)
        start = 0
        for _ in range(rounds):
            for name in SHAPES:
                count = singles if name.endswith("single") else batched
                found[name].append(await shape(gateway, name, positions, start, count))
                start += count
    return {name: total(works) for name, works in found.items()}


def raw(folder: Path, count: int, group: int) -> Work:
    """sqlite3's own executemany into the gateway's tables: history and newest, `group` positions a commit, FULL.

    Run on the database that the gateway made, of which the rows of the runs before are taken out.
    """
    found = next(folder.glob("waybridge.db"))
    db = sqlite3.connect(found, isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA cache_size=-65536"):
        db.execute(statement)
    history = [row[1] for row in db.execute("PRAGMA table_info(positions)")]
    newest = [row[1] for row in db.execute("PRAGMA table_info(last)")]
    sources = db.execute("SELECT id, device_id FROM sources ORDER BY id LIMIT 1000").fetchall()
    now = time.time_ns() // 1000
    values: dict[str, Any] = {
        "milestone": 0, "trip_id": None, "altitude": None, "accuracy": 4.7, "speed": 8.4, "heading": 12.5, "flags": 0,
        "extra": None, "received_us": now,
    }  # fmt: skip
    rows = []
    for number in range(count):
        turn, place = divmod(number, len(sources))
        sent = now + turn * 10_000 + 1
        source_id, device_id = sources[place]
        rows.append(
            values
            | {"minute": sent // 60_000_000, "source_id": source_id, "device_id": device_id, "recorded_us": sent}
            | {"sent_us": sent, "latitude": 52.0 + number * 1e-6, "longitude": 13.0}
        )
    insert = f"INSERT INTO positions ({','.join(history)}) VALUES ({','.join('?' * len(history))}) ON CONFLICT DO NOTHING"
    changed = ",".join(f"{name}=excluded.{name}" for name in newest[2:])
    upsert = (
        f"INSERT INTO last ({','.join(newest)}) VALUES ({','.join('?' * len(newest))}) ON CONFLICT (source_id, milestone)"
        f" DO UPDATE SET {changed} WHERE excluded.recorded_us >= last.recorded_us"
    )
    groups = [
        ([tuple(row[n] for n in history) for row in part], [tuple(row[n] for n in newest) for row in part])
        for part in (rows[first : first + group] for first in range(0, count, group))
    ]
    began, cpu = time.perf_counter(), time.process_time()
    for fixes, lasts in groups:
        db.execute("BEGIN IMMEDIATE")
        db.executemany(insert, fixes)
        db.executemany(upsert, lasts)
        db.execute("COMMIT")
    work = Work(count, time.perf_counter() - began, time.process_time() - cpu, 0.0)
    db.close()
    return work


async def ingest(report: Report, folder: Path, server: Postgres | None, *, quick: bool) -> None:
    """P1 to P5."""
    rounds, singles, batched = (2, 6_000, 40_000) if quick else (4, 20_000, 200_000)
    full = await on_store(folder / "full", None, rounds, singles, batched)
    stores: dict[str, dict[str, Work]] = {"SQLite FULL": full}
    beside = {group: raw(folder / "full", batched, group) for group in (BATCH, 1000)}
    stores["SQLite NORMAL"] = await on_store(
        folder / "normal", None, rounds, singles, batched, WAYBRIDGE_STORE__DURABILITY="normal"
    )
    if server is not None:
        stores["PostgreSQL"] = await on_store(folder / "pg", await server.database(), rounds, singles, batched)
    for store, works in stores.items():
        for name, work in works.items():
            report.figure("ingest", f"{store}, {name}", "positions", work)
    for group, work in beside.items():
        report.figure("ingest", f"raw executemany, {group} a commit, FULL", "positions", work)
    _rows(report, stores, beside)


def _rows(report: Report, stores: dict[str, dict[str, Work]], beside: dict[int, Work]) -> None:
    single = {store: works["http single"] for store, works in stores.items()}
    report.row("P1", "not run", f"{single['SQLite NORMAL'].per_cpu_second:,.0f} requests a CPU-second, NORMAL", reached=False)
    report.row("P2", "not run", f"{single['SQLite FULL'].per_cpu_second:,.0f} requests a CPU-second, FULL", reached=False)
    parts, good = [], "PostgreSQL" in stores
    for store, least in (("SQLite FULL", 6), ("PostgreSQL", 12)):
        if store in stores:
            batch, one = stores[store]["http batch"], stores[store]["http single"]
            ratio = batch.per_second / one.per_second
            good = good and ratio >= least
            parts.append(f"{ratio:.1f}x {store}")
    report.row("P3", ", ".join(parts), "positions a second, batches of 100 against singles, both over HTTP", reached=good)
    works = stores["SQLite FULL"]
    live = works["live single"].per_cpu_second / works["http single"].per_cpu_second
    batch_ratio = works["live batch"].per_cpu_second / works["http batch"].per_cpu_second
    report.row(
        "P4", f"{live:.1f}x / {batch_ratio:.1f}x", "per CPU-second, SQLite FULL", reached=live >= 3 and batch_ratio >= 1.3
    )
    ours = works["http batch"].per_cpu_second
    ratio, other = (ours / beside[group].per_cpu_second for group in (1000, BATCH))
    report.row(
        "P5", f"{ratio:.2f}x", f"per CPU-second, against 1,000 a commit ({other:.2f}x against 100 a commit)",
        reached=ratio >= 0.6,
    )  # fmt: skip
