"""An hour of everything going wrong, compressed by a clock that the test turns."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from mycartracks_harness import START, Bench, HandClock, settle
from running import soak

from waybridge import Position, SourceUnavailable
from waybridge_mycartracks import MyCarTracksSimulator

if TYPE_CHECKING:
    import aiohttp

VEHICLES = 5
HOUR = 3600


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(soak(3, 100)))
async def test_an_hour_of_drops_expiries_and_refusals_loses_nothing_after_recovery(
    http: aiohttp.ClientSession, clock: HandClock, seed: int
) -> None:
    chance = random.Random(seed)
    vendor = MyCarTracksSimulator(clock=clock, session_seconds=120, token_seconds=400)
    await vendor.start()
    before = asyncio.all_tasks()
    ours = Bench(http, clock, vendor.settings())
    ours.start()
    sent: dict[str, float] = {}
    connected_fixes: set[tuple[str, float]] = set()
    for second in range(0, HOUR, 5):
        await clock.advance(5)
        quiet = second >= HOUR - 180
        if quiet:
            vendor.faults.next.clear()
        else:
            _disturb(vendor, chance)
            await clock.advance(0)
        for vehicle_id in range(1, VEHICLES + 1):
            vendor.move(vehicle_id, 48.0 + second / 1e5, 17.0, 40.0, 90.0)
            sent[str(vehicle_id)] = clock.monotonic()
            if vendor.open_sockets and quiet:
                connected_fixes.add((str(vehicle_id), clock.monotonic()))
        await clock.advance(0)
    await clock.advance(10)

    got = [(fix.source.external_id, (fix.recorded_at - START).total_seconds()) for fix in ours.of(Position)]
    newest = {vehicle: max(at for who, at in got if who == vehicle) for vehicle in sent}
    assert newest == sent
    assert connected_fixes <= set(got)
    assert len(connected_fixes) > 100
    assert all(isinstance(error, SourceUnavailable) for error in ours.ended)
    assert len(ours.ended) > 20
    assert vendor.tokens_issued > 9
    assert vendor.sockets_refused == 0
    starts = sorted(vendor.request_times)
    busiest = max(sum(start <= moment < start + 60 for moment in starts) for start in starts)
    assert busiest <= 45  # 30 REST requests, and the token requests that 401s cause

    await ours.stop()
    await settle()
    assert vendor.open_sockets == 0
    assert clock.sleeping == 0
    assert [task.get_name() for task in asyncio.all_tasks() - before if "mycartracks" in task.get_name()] == []
    await vendor.stop()


def _disturb(vendor: MyCarTracksSimulator, chance: random.Random) -> None:
    """About every fifteen seconds something goes wrong; at most two refusals wait to be met."""
    if chance.random() > 0.35:
        return
    if sum(map(len, vendor.faults.next.values())) < 2:
        match chance.randrange(6):
            case 0:
                vendor.revoke_tokens()
            case 1:
                vendor.faults.refuse_next("stream", 429, retry_after=chance.choice([3, 20]))
            case 2:
                vendor.faults.refuse_next("lastPositions", 429)
            case 3:
                vendor.faults.refuse_next(chance.choice(["stream", "lastPositions", "token"]), 503)
    vendor.drop_sockets()
