"""From POST to viewer by the clock (open loop): latency from the scheduled time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bench import peers
from bench.fanout import MARK, publisher
from bench.load import Positions, seed_devices
from bench.measure import Watch, percentiles
from bench.report import Report
from bench.servers import Gateway, running
from bench.viewers import Tally, close_viewers, open_viewers


async def paced(
    source: Gateway, watched: Gateway, positions: Positions, rate: float, seconds: float, start: int = 0, viewers: int = 1
) -> tuple[list[float], float]:
    """(latencies in ms, share seen): single positions at a rate, over 8 connections, to viewers of the fleet.

    What is not seen was overtaken by a newer position of the same device before it went out.
    """
    into, target, tally = peers.gateway_realtime(source), peers.gateway_realtime(watched), Tally(MARK)
    crowd = await open_viewers(target.viewer_port, viewers, tally, target.upgrade, target.hello, target.ready_mark)
    await asyncio.sleep(1.0)
    for viewer in crowd:
        viewer.timed = True
    made = [await publisher(into) for _ in range(8)]
    count = int(rate * seconds)
    frames = [into.publication(body) for body in positions.singles(start, count)]
    begun = time.perf_counter() + 0.05
    number = 0
    while number < count:
        now = time.perf_counter()
        while number < count and begun + number / rate <= now:
            tally.scheduled[(start + number) % 1_000_000] = begun + number / rate
            made[number % 8].transport.write(frames[number])
            number += 1
        await asyncio.sleep(max(0.0, min(0.001, begun + number / rate - time.perf_counter())))
    await asyncio.sleep(1.0)
    close_viewers(crowd)
    for each in made:
        if each.refused is not None:
            raise RuntimeError(each.refused[:300].decode(errors="replace"))
        each.transport.abort()
    return [each * 1000 for each in tally.latencies], len(tally.latencies) / (count * viewers)


async def latency(report: Report, folder: Path, *, quick: bool) -> None:
    """P9."""
    positions = Positions(1000)
    async with running(folder) as gateway:
        await seed_devices(gateway, positions)
        start = 0
        for rate in (50, 200, 1000):
            seconds = 5.0 if quick else 20.0
            with Watch([gateway.pid]) as watch:
                found, seen = await paced(gateway, gateway, positions, rate, seconds, start)
            start += int(rate * seconds)
            p50, p99 = percentiles(found)
            cost = watch.server_cpu / (rate * seconds) * 1e6
            report.number(
                "latency", f"POST to viewer at {rate}/s, FULL, ms", p50=p50, p99=p99, seen=seen, cpu_us_a_position=cost
            )
    report.row("P9", f"p50 {p50:.2f} ms, p99 {p99:.1f} ms", "at 1,000/s", reached=p50 <= 0.6 and p99 <= 4)
