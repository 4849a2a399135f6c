"""Many senders at once: the keyed state lets exactly one of two rivals win, and the loser is judged again."""

import asyncio

import pytest
from driver_world import ARRIVED, BOOKING, DEPARTED, DONE, LIVE, NO_SHOW, ON_TRIP


async def test_one_event_sent_fifty_times_at_once_is_accepted_once(world):
    await world.booking()
    answers = await asyncio.gather(*(world.event(DEPARTED, 0) for _ in range(50)))
    assert sorted(answers) == [(200, "accepted")] + [(200, "duplicate")] * 49
    assert len(world.milestones) == 1


async def test_one_live_location_sent_fifty_times_at_once_starts_one_period(world):
    await world.booking()
    await world.journey(DEPARTED)
    answers = await asyncio.gather(*(world.event(LIVE, 5) for _ in range(50)))
    assert sorted(answers) == [(200, "accepted")] + [(200, "duplicate")] * 49
    assert (len(world.lives), len(world.starts)) == (1, 1)


async def test_different_live_locations_at_once_are_all_kept_and_start_one_period(world):
    await world.booking()
    await world.journey(DEPARTED)
    answers = await asyncio.gather(*(world.event(LIVE, n) for n in range(1, 40)))
    assert {answer[0] for answer in answers} == {200}
    assert (len(world.lives), len(world.starts)) == (39, 1)
    assert world.conflicts


@pytest.mark.parametrize("others", [0, 1, 2, 3, 5, 8])
async def test_nothing_is_published_after_the_end_however_the_rivals_interleave(world, others):
    await world.booking()
    await world.journey(DEPARTED, ARRIVED, ON_TRIP)

    async def after(turns, kind, at):
        for _ in range(turns):
            await asyncio.sleep(0)
        return await world.event(kind, at)

    answers = await asyncio.gather(
        after(others, DONE, 300), *(after(n, LIVE, 200 + n) for n in range(10)), after(0, LIVE, 301)
    )
    kinds = [type(report).__name__ for report in world.told]
    if world.starts:
        assert kinds.count("SharingStarted") == kinds.count("SharingStopped") == 1
        stop = kinds.index("SharingStopped")
        assert not any(getattr(report, "live", False) for report in world.told[stop:])
        assert kinds.index("SharingStarted") < stop
    else:
        assert world.lives == []
        assert world.stops == []
    assert all(answer[0] == 200 for answer in answers[:-1])


async def test_rival_ends_end_once(world):
    await world.booking()
    await world.journey(DEPARTED, ARRIVED)
    await world.event(LIVE, 61)
    answers = await asyncio.gather(
        world.event(NO_SHOW, 100), world.event(ON_TRIP, 100), world.event(DONE, 110),
        world.send("PUT", BOOKING, {"status": "CANCELLED"}),
    )  # fmt: skip
    assert len(world.stops) == 1
    assert sum(answer == (200, "accepted") for answer in answers) <= 2
    assert sum(getattr(report, "completes_shares", False) for report in world.told) == 1


async def test_two_who_make_the_same_booking_make_one(world):
    answers = await asyncio.gather(
        *(world.send("PUT", BOOKING, {"driver": {"firstName": name}}) for name in "ABCDEFGH"),
        world.send("PUT", "/v1/bookings/C-2/B-1", {}),
    )
    made = [answer for answer in answers if answer[0] == 200]
    assert len({answer[1]["created_at"] for answer in made}) == 1
    assert len({answer[1]["customer_reference"] for answer in made}) == 1
