"""An hour of faults on a clock that the test owns: nothing is lost after it, nothing storms, nothing is left."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from imessage_harness import soak

from waybridge import SourceUnavailable

if TYPE_CHECKING:
    from imessage_harness import Gateway

    from waybridge_imessage.simulator import LinqSimulator

PEOPLE = [f"+1415555{number:04d}" for number in range(5)]


def trouble(linq: LinqSimulator, dice: random.Random) -> None:
    """One of the vendor's bad moments."""
    faults = linq.faults
    match dice.randrange(6):
        case 0:
            faults.server_errors = dice.randrange(1, 12)
        case 1:
            faults.rate_limited, faults.retry_after = dice.randrange(1, 8), dice.choice([None, 1, 5, 90])
        case 2:
            faults.lose_answers = dice.randrange(1, 6)
        case 3:
            faults.truncate = not faults.truncate
        case 4:
            faults.drop_webhooks = not faults.drop_webhooks
        case _:
            faults.bare = not faults.bare


@pytest.mark.parametrize("seed", range(soak(2, 100)))
async def test_an_hour_of_faults(door: Gateway, linq: LinqSimulator, seed: int) -> None:
    dice = random.Random(seed)
    before = asyncio.all_tasks()
    secret = linq.subscribe(f"{door.url}/webhook")
    chats = [linq.add_chat(handle) for handle in PEOPLE]
    door.connect(
        api_key=linq.api_key,
        base_url=linq.base_url,
        webhook_signing_secret=secret,
        chats=chats,
        poll_interval_seconds=30,
        lapse_after=7200,
    )
    door.start()
    await door.quiet()
    for handle, chat in zip(PEOPLE, chats, strict=True):
        linq.share(chat, handle, 60.0, 24.9)
    await linq.delivered()
    calls_at, restart_at, restarts, busiest = 0, 0.0, 0, 0

    for second in range(3600):
        if second % 45 == 0 and second < 3000:
            trouble(linq, dice)
        if second == 3000:
            linq.faults = type(linq.faults)()
        if second % 20 == 0:
            linq.move(PEOPLE[dice.randrange(5)], 60.0 + second / 100_000, 24.9)
        if door.stream_error is not None and door.clock.elapsed >= restart_at:
            assert isinstance(door.stream_error, SourceUnavailable)
            await door.stop()
            door.start()
            restarts += 1
            restart_at = door.clock.elapsed + dice.uniform(1, 30)
        door.clock.advance(1)
        await door.quiet()
        if second % 60 == 59:
            busiest = max(busiest, linq.calls["GET location"] - calls_at)
            calls_at = linq.calls["GET location"]

    assert restarts > 0, "the faults were felt"
    assert busiest <= 5 * (2 + 3) * 8, "reads a minute are bounded: chats x (regular + early) x tries and restarts"
    assert len(door.started) == 5
    assert door.stopped == []
    for handle in PEOPLE:
        there = next(s for s in linq.sharings if s.handle == handle)
        newest = max((p for p in door.positions if p.source.external_id == handle), key=lambda p: p.recorded_at)
        lag = door.clock.now() - there.updated_at
        if lag.total_seconds() > 40:
            assert newest.latitude == there.latitude
        own = [p.recorded_at for p in door.positions if p.source.external_id == handle]
        assert own == sorted(set(own)), "no fix twice, none out of order"
    await door.stop()
    assert {t for t in asyncio.all_tasks() if t.get_name().startswith("imessage")} <= before
