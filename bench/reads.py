"""Reads: the last position of a device by REST."""

from __future__ import annotations

from pathlib import Path

from bench.load import HttpLoad, Positions, get, seed_devices
from bench.measure import Watch, total
from bench.report import NOT_RUN, Report
from bench.servers import running


async def reads(report: Report, folder: Path, *, quick: bool) -> None:
    """P10, and a snapshot of all devices."""
    rounds, count = (2, 6_000) if quick else (4, 20_000)
    positions = Positions(100)
    async with running(folder) as gateway:
        await seed_devices(gateway, positions)
        token, works, lists = gateway.token(), [], []
        for _ in range(rounds):
            requests = [
                get(f"/api/v1/devices/{positions.token(number % 100)}/position", token) for number in range(count)
            ]
            load = HttpLoad(gateway.port, requests, 32, b'"latitude"')
            await load.open()
            with Watch([gateway.pid]) as watch:
                await load.run()
            works.append(watch.work(count))
            page = HttpLoad(
                gateway.port, [get("/api/v1/devices?instance_id=default&limit=100", token)] * 50, 4, b'"devices"'
            )
            await page.open()
            with Watch([gateway.pid]) as watch:
                await page.run()
            lists.append(watch.work(50 * 100))
    work = total(works)
    report.figure("reads", "last position by REST, 100 devices", "requests", work)
    report.figure("reads", "list of devices, pages of 100", "devices", total(lists))
    report.row("P10", NOT_RUN, f"{work.per_cpu_second:,.0f} requests a CPU-second", reached=False)
