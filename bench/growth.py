"""Growth: what a device costs in memory, start-up with many devices, and cost per position as both sides grow."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from bench import peers
from bench.fanout import saturate
from bench.ingest import shape
from bench.load import Positions, seed_devices
from bench.measure import Watch, memory_bytes
from bench.report import Report
from bench.servers import running

KNOWN, KNOWN_QUICK = 100_000, 10_000
HISTORY = 1_000_000


async def growth(report: Report, folder: Path, *, quick: bool) -> None:
    """P13 and P14."""
    costs = []
    known = KNOWN_QUICK if quick else KNOWN
    for devices in sorted({100, 1_000, 10_000, known}):
        async with running(folder / str(devices)) as gateway:
            before = memory_bytes(gateway.pid)
            positions = Positions(devices)
            with Watch([gateway.pid]) as watch:
                await seed_devices(gateway, positions, 1000)
            report.figure("growth", f"new devices, 1,000 a request, up to {devices:,}", "devices", watch.work(devices))
            if devices == known:
                grown = memory_bytes(gateway.pid) - before
                report.number("growth", "memory a device while it is made", kB=grown / known / 1000)
            # Every device moves once first: where making them took long, they come online again by it.
            await shape(gateway, "http batch", positions, 0, devices)
            work = await shape(gateway, "http batch", positions, devices, 20_000 if quick else 200_000)
            report.figure("growth", f"batches, {devices:,} devices", "positions", work)
            costs.append(1e6 / work.per_cpu_second)
            report.point("us of CPU a position, by devices", devices, costs[-1])
    await _known(report, folder / str(known), folder / "empty", known)
    frames = []
    for viewers in (10, 100, 1_000, 4_000 if quick else 10_000):
        async with running(folder / f"viewers-{viewers}") as gateway:
            positions = Positions(100)
            await seed_devices(gateway, positions)
            count = max(3, min(200, (20_000 if quick else 200_000) // viewers))
            work = await saturate(peers.gateway_realtime(gateway), positions, count, 0, viewers)
            report.figure("growth", f"frames, {viewers:,} viewers", "frames", work)
            cost = work.server_cpu / count * 1e6
            report.point("us of CPU a position, by viewers", viewers, cost)
            frames.append(cost / viewers)
    report.row(
        "P13", f"{costs[-1] / costs[1]:.1f}x from 1,000 to {known:,} devices", f"{frames[-1] / frames[-2]:.2f}x a frame from"
        " 1,000 viewers to the most", reached=costs[-1] / costs[1] <= 1.25 and known >= KNOWN and frames[-1] / frames[-2] <= 1.25,
    )  # fmt: skip


async def _known(report: Report, folder: Path, empty: Path, known: int) -> None:
    """What a restarted gateway needs for the devices that it knows."""
    async with running(empty) as gateway:
        bare, quick = memory_bytes(gateway.pid), gateway.started_seconds
    _add_history(folder / "waybridge.db", HISTORY)
    async with running(folder) as gateway:
        each = (memory_bytes(gateway.pid) - bare) / known / 1000
        report.number(
            "growth", f"start-up with {known:,} devices, seconds", seconds=gateway.started_seconds, empty=quick
        )
    note = f"{known:,} devices, {HISTORY:,} rows of history more, start-up {gateway.started_seconds:.1f} s, {quick:.1f} s without"
    report.row("P14", f"{each:.2f} kB", note, reached=each <= 1 and known >= KNOWN)


def _add_history(database: Path, count: int) -> None:
    """A month of one device, some positions a minute, straight into the table of a gateway that is not running."""
    db = sqlite3.connect(database)
    source_id, device_id = db.execute("SELECT id, device_id FROM sources LIMIT 1").fetchone()
    ends_us = time.time_ns() // 1000 - 3600 * 1_000_000
    step_us = 30 * 86_400 * 1_000_000 // count
    db.executemany(
        "INSERT INTO positions (minute, source_id, recorded_us, device_id, received_us, latitude, longitude, flags)"
        " VALUES (?1, ?2, ?3, ?4, ?3, 52.0, 13.0, 0) ON CONFLICT DO NOTHING",
        ((us // 60_000_000, source_id, us, device_id) for us in range(ends_us - count * step_us, ends_us, step_us)),
    )
    db.commit()
    db.close()
