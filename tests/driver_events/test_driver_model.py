"""Driver events at random against an independent table of the rules.

The oracle below is written from the vendor's tables alone and shares no code with the provider: it keeps lists
of what happened and looks answers up. WAYBRIDGE_SOAK sets the number of steps (2,000 by default).
"""

import os
import random
from datetime import timedelta

import pytest
from driver_world import START, World, iso

STEPS = int(os.environ.get("WAYBRIDGE_SOAK", "2000"))
NAMES = [
    "DRIVER_DEPARTED_TO_PICKUP", "DRIVER_ARRIVED_AT_PICKUP", "DRIVER_SUBMITTED_CUSTOMER_NO_SHOW",
    "DRIVER_DEPARTED_TO_DROPOFF", "DRIVER_ARRIVED_AT_DROPOFF", "DRIVER_LIVE_LOCATION",
]  # fmt: skip
TABLE = """
    last        | DEP_PICKUP ARR_PICKUP NO_SHOW DEP_DROPOFF ARR_DROPOFF LIVE
    nothing     | take       first      first   first       first       first
    DEP_PICKUP  | dup        take       seq     seq         seq         take
    ARR_PICKUP  | dup        dup        take    take        seq         take
    DEP_DROPOFF | dup        dup        seq     dup         take        take
    NO_SHOW     | dup        dup        dup     seq         seq         late
    ARR_DROPOFF | dup        dup        seq     dup         dup         late
"""
SHORT = ["DEP_PICKUP", "ARR_PICKUP", "NO_SHOW", "DEP_DROPOFF", "ARR_DROPOFF", "LIVE"]
ROWS = {row.split("|")[0].strip(): row.split("|")[1].split() for row in TABLE.strip().splitlines()[1:]}


class Oracle:
    """What the pages say must happen to one booking."""

    def __init__(self, strict_later, strict_order, skew):
        self.strict_later, self.strict_order, self.skew = strict_later, strict_order, skew
        self.steps = []
        self.live = []
        self.assigned = None
        self.state = "ok"
        self.started = self.stopped = 0
        self.published = []
        self.kept = 0

    def answer(self, number, sent, now):  # noqa: PLR0911 - one line a rule
        """-> (status, text). Times are seconds; `sent` as the supplier wrote it."""
        name, short = NAMES[number], SHORT[number]
        if sent > now + self.skew:
            return 400, "Event time is in the future"
        if self.assigned is None:
            return 400, "Driver is not assigned to the booking"
        is_live = short == "LIVE"
        if is_live and any(each[0] == sent for each in self.live):
            return 200, "duplicate"
        if not is_live and short in [each[0] for each in self.steps]:
            return 200, "duplicate"
        if sent < self.assigned:
            return 400, "Event time is before driver assignation time"
        last = self.steps[-1] if self.steps else ("nothing", None, None)
        cell = ROWS[last[0]][number]
        last_name = None if last[0] == "nothing" else NAMES[SHORT.index(last[0])]
        if self.state != "ok":
            after = f" after last event submitted {last_name}" if last_name else ""
            return 400, f"Event {name} not allowed{after}: booking is {self.state}"
        if cell == "first":
            return 400, f"Event {name} not allowed as first event"
        at = min(sent, now)
        if cell == "seq" or (cell == "late" and sent > last[2] and at > last[1]):
            return 400, f"Event {name} not allowed after last event submitted {last_name}"
        return self.take_live(sent, at, cell) if is_live else self.take_step(short, sent, at)

    def take_step(self, short, sent, at):
        floor = [self.steps[-1][1]] if self.steps else []
        if self.strict_order:
            floor += [max(each[1] for each in self.live)] if self.live else []
        if floor and (at < max(floor) or (self.strict_later and at == max(floor))):
            return 400, "Event time is before last event time"
        self.steps.append((short, at, sent))
        if short in {"NO_SHOW", "ARR_DROPOFF"}:
            self.end()
        return 200, "accepted"

    def take_live(self, sent, at, cell):
        floor = self.steps[0][1]
        if self.strict_order and cell != "late":
            floor = max([self.steps[-1][1], *(each[1] for each in self.live)])
        if at < floor:
            return 400, "Event time is before last event time"
        older = any(each[1] > at for each in self.live)
        self.live.append((sent, at))
        self.kept += 1
        if cell == "late":
            return 200, "stored-late"
        self.started = 1
        self.published.append(at)
        return 200, "stored-late" if older else "accepted"

    def end(self):
        self.stopped = self.started


@pytest.mark.parametrize("seed", range(4))
async def test_random_events_are_judged_as_the_tables_say(seed):
    dice = random.Random(seed)
    strict = {"strict_later": seed == 1, "strict_order": seed == 2, "future_skew_seconds": [5, 0, 5, 30][seed]}
    steps, bookings, tally, done = STEPS // 4, 0, {}, 0
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
