"""Driver events at random against an independent table of the rules (driver_oracle.py)."""

import random
from datetime import timedelta

import pytest
from driver_oracle import NAMES, Oracle
from driver_world import START, World, iso

STEPS = [2_000, pytest.param(100_000, marks=pytest.mark.soak)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("seed", range(4))
async def test_random_events_are_judged_as_the_tables_say(seed, steps):
    dice = random.Random(seed)
    strict = {"strict_later": seed == 1, "strict_order": seed == 2, "future_skew_seconds": [5, 0, 5, 30][seed]}
    steps, bookings, tally, done = steps // 4, 0, {}, 0
    while done < steps:
        bookings += 1
        world = World(**strict)
        oracle = Oracle(strict["strict_later"], strict["strict_order"], strict["future_skew_seconds"])
        await world.send("PUT", "/v1/bookings/C-1/B-1", {})
        now, length = 0, dice.randrange(5, 120)
        for _ in range(min(length, steps - done)):
            done += 1
            now += dice.choice([0, 1, 1, 2, 7, 30])
            world.clock.moment = START + timedelta(seconds=now)
            roll = dice.random()
            if roll < 0.05 or (oracle.assigned is None and roll < 0.6):
                await assign(world, oracle, now)
            elif roll < 0.06:
                await close(world, oracle, dice.choice(["CANCELLED", "COMPLETE"]))
            else:
                number = dice.choices(range(6), [3, 3, 1, 2, 2, 9])[0]
                sent = now - dice.choice([0, 0, 0, 1, 1, 2, 5, 20, 60, 400, -1, -3, -5, -6, -40])
                expected = oracle.answer(number, sent, now)
                answered = await world.event(
                    NAMES[number], sent, place=(1 + done / 1e4, 2), received_at=world.clock.moment
                )
                assert answered == expected, (seed, done, NAMES[number], sent, now, oracle.steps, oracle.live)
                tally[expected[1].split("DRIVER")[0]] = tally.get(expected[1].split("DRIVER")[0], 0) + 1
            check(world, oracle)
    assert bookings > steps / 120
    if steps >= 5000:
        assert len(tally) >= 7, tally


async def assign(world, oracle, now):
    status, _, _ = await world.send("POST", "/v2/bookings/B-1/assignDriver", {"driver": {"firstName": f"D{now}"}})
    if oracle.state == "ok":
        assert status == 204
        oracle.assigned = now if oracle.assigned is None else oracle.assigned
    else:
        assert status == 400


async def close(world, oracle, state):
    status, _, _ = await world.send("PUT", "/v1/bookings/C-1/B-1", {"status": state})
    assert status == (200 if oracle.state in {"ok", state} else 409)
    if oracle.state == "ok":
        oracle.state = state
        oracle.end()


def check(world, oracle):
    assert [milestone.occurred_at for milestone in world.milestones] == [
        START + timedelta(seconds=step[1]) for step in oracle.steps
    ]
    times = [milestone.occurred_at for milestone in world.milestones]
    assert times == sorted(times), "stored lifecycle times never decrease"
    assert len(world.starts) == oracle.started
    assert len(world.stops) == oracle.stopped
    assert [position.recorded_at.replace(microsecond=0) for position in world.lives] == [
        START + timedelta(seconds=at) for at in oracle.published
    ]
    assert len(world.positions) == oracle.kept + len(oracle.steps), f"a position is lost at {iso(world.clock.moment)}"
    if world.stops:
        stop = world.told.index(world.stops[0])
        assert not any(getattr(report, "live", False) for report in world.told[stop:])
