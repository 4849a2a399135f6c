"""A hop over NATS: a position that comes in at one node and is watched on another."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bench import peers
from bench.ingest import BATCH, PATH
from bench.latency import paced
from bench.load import HttpLoad, Positions, post, seed_devices
from bench.measure import Watch, percentiles
from bench.report import NOT_RUN, Report
from bench.servers import Gateway, Postgres, nats, running
from bench.viewers import Tally, close_viewers, open_viewers

RATES = (50, 1000)
IDLE_SECONDS = 4.0


async def hop(report: Report, folder: Path, server: Postgres | None, *, quick: bool) -> None:
    """P15: A B A B, the same gateway watched itself and through its neighbour."""
    async with nats() as broker:
        if server is None or broker is None:
            report.row("P15", NOT_RUN, "PostgreSQL or NATS is not installed", reached=False)
            return
        url = await server.database()
        environ = {"WAYBRIDGE_BUS_URL": broker[0]}
        async with running(folder / "a", url, **environ) as near, running(folder / "b", url, **environ) as far:
            positions = Positions(200)
            await seed_devices(near, positions)
            start, seconds = 0, 3.0 if quick else 12.0
            added = {}
            for rate in RATES:
                here: list[float] = []
                there: list[float] = []
                for _ in range(2 if quick else 4):
                    for watched, found in ((near, here), (far, there)):
                        found += (await paced(near, watched, positions, rate, seconds, start))[0]
                        start += int(rate * seconds)
                (p50, p99), (far50, far99) = percentiles(here), percentiles(there)
                report.number("hop", f"{rate}/s, watched where it came in, ms", p50=p50, p99=p99)
                report.number("hop", f"{rate}/s, watched on the other node, ms", p50=far50, p99=far99)
                added[rate] = (far50 - p50, f"{rate}/s p99 {p99:.1f} -> {far99:.1f} ms")
            count = 2_000 if quick else 8_000
            follows = await _cost(near, far, positions, start, count, viewers=0)
            shows = await _cost(near, far, positions, start + count, count, viewers=1)
            batched = await _cost(near, far, positions, start + 2 * count, count * 5, viewers=0, batch=BATCH)
    report.number(
        "hop", "CPU of the other node a position, us",
        without_viewers=follows, with_one_viewer=shows, in_batches_without=batched,
    )  # fmt: skip
    worst = max(added.values())[0]
    report.row(
        "P15", f"{worst:+.2f} ms p50, {follows:.0f} us", "; ".join(note for _, note in added.values()) + ", PostgreSQL",
        reached=worst <= 0.5 and follows <= 60,
    )  # fmt: skip


async def _cost(
    near: Gateway, far: Gateway, positions: Positions, start: int, count: int, *, viewers: int, batch: int = 1
) -> float:
    """us of CPU that the other node spends on a position that came in here, beyond what it spends on nothing."""
    target, tally = peers.gateway_realtime(far), Tally(b'"type":"position"')
    crowd = await open_viewers(target.viewer_port, viewers, tally, target.upgrade, target.hello, target.ready_mark)
    await asyncio.sleep(1.0)
    with Watch([far.pid]) as idle:
        await asyncio.sleep(IDLE_SECONDS)
    token = near.token()
    bodies = positions.singles(start, count) if batch == 1 else positions.batches(start, count // batch, batch)
    load = HttpLoad(near.port, [post(PATH, token, body) for body in bodies], 8, b'"duplicates":0')
    await load.open()
    with Watch([far.pid]) as watch:
        await load.run()
        await asyncio.sleep(0.2)
    close_viewers(crowd)
    return max(0.0, watch.server_cpu - idle.server_cpu * watch.seconds / idle.seconds) / count * 1e6
