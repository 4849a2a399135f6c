"""A hop over NATS: a position that comes in at one node and is watched on another."""

from __future__ import annotations

from pathlib import Path

from bench import peers
from bench.ingest import PATH
from bench.latency import paced
from bench.load import HttpLoad, Positions, post, seed_devices
from bench.measure import Watch, percentiles
from bench.report import NOT_RUN, Report
from bench.servers import Gateway, Postgres, nats, running
from bench.viewers import Tally, close_viewers, open_viewers


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
            start, rate, seconds = 0, 50, 4.0 if quick else 15.0
            here: list[float] = []
            there: list[float] = []
            for _ in range(2 if quick else 4):
                for watched, found in ((near, here), (far, there)):
                    found += (await paced(near, watched, positions, rate, seconds, start))[0]
                    start += int(rate * seconds)
            (p50, p99), (far50, far99) = percentiles(here), percentiles(there)
            report.number("hop", "watched where it came in, ms", p50=p50, p99=p99)
            report.number("hop", "watched on the other node, ms", p50=far50, p99=far99)
            cost = await _cost(near, far, positions, start)
    report.row(
        "P15", f"{far50 - p50:+.2f} ms p50, {cost:.0f} us", f"p99 {p99:.1f} -> {far99:.1f} ms, PostgreSQL",
        reached=far50 - p50 <= 0.5 and cost <= 60,
    )  # fmt: skip


async def _cost(near: Gateway, far: Gateway, positions: Positions, start: int) -> float:
    """us of CPU that the other node spends on a position that came in here, one viewer watching there."""
    target, tally = peers.gateway_realtime(far), Tally(b'"type":"position"')
    crowd = await open_viewers(target.viewer_port, 1, tally, target.upgrade, target.hello, target.ready_mark)
    count, token = 4_000, near.token()
    load = HttpLoad(near.port, [post(PATH, token, body) for body in positions.singles(start, count)], 8, b'"accepted":1')
    await load.open()
    with Watch([far.pid]) as watch:
        await load.run()
    close_viewers(crowd)
    return watch.server_cpu / count * 1e6
