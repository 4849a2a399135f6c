"""Devices that nobody asks about rest: they take less memory and are as they were when somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from waybridge.model import to_us
from waybridge.roster import Roster
from waybridge.store import fleet

if TYPE_CHECKING:
    from intake.conftest import House

    from waybridge.roster import Source


def known_of(source: Source) -> tuple[Any, ...]:
    return source.last, source.milestone, source.period, source.trip, source.highest_sent_us, source.sharing


async def test_a_source_is_after_its_rest_what_it_was_before(house: House) -> None:
    house.now(2)
    await house.intake.accept(
        house.policy(), [house.fix("truck", 0, battery=0.5, attributes={"gear": 2}), house.fix("truck", 1, live=False)]
    )
    source = house.roster.source("default", "native", "truck")
    assert source is not None
    before = known_of(source)
    source.rest()
    source.rest()
    assert source.resting
    assert known_of(source) == before
    source.rest()
    source.last = None
    assert known_of(source) == (None, *before[1:])


async def test_a_device_that_fell_silent_rests_and_goes_on_where_it_was(house: House) -> None:
    house.now(1)
    policy = house.policy()
    await house.intake.accept(policy, [house.fix("truck", 0, speed_mps=9.0)])
    source = house.roster.source("default", "native", "truck")
    assert source is not None
    trip = source.trip
    house.now(120)
    await house.presence.turn()
    assert source.resting
    outcome = await house.intake.accept(
        policy, [house.fix("truck", 0, speed_mps=9.0), house.fix("truck", 119, speed_mps=9.0)]
    )
    assert (outcome.accepted, outcome.duplicates) == (1, 1)
    assert (source.device.online, source.trip) == (True, trip)


async def test_a_restart_reads_all_devices_in_parts_and_knows_what_was_known(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.now(1)
    policy = house.policy()
    tokens = [f"device-{number}" for number in range(7)]
    await house.intake.accept(policy, [house.fix(token, 0, speed_mps=9.0) for token in tokens])
    monkeypatch.setattr(fleet, "AT_ONCE", 3)
    roster = Roster()
    roster.set_policy(policy)
    async with house.store.read() as conn:
        await fleet.load_all(conn, roster, lambda *_: policy)
    for token in tokens:
        before, after = (each.source("default", "native", token) for each in (house.roster, roster))
        assert before is not None
        assert after is not None
        assert after.resting  # until somebody asks
        assert known_of(after) == known_of(before)
        assert after.device.winner is after
        assert after.device.online_since_us == before.device.online_since_us == to_us(house.at(1))


async def test_a_device_watched_for_two_reasons_changes_once(house: House) -> None:
    """Its position puts off what silence does, and an event of its own makes the clock look at it again."""
    house.now(1)
    await house.intake.accept(house.policy(), [house.fix("truck", 0)])
    house.now(61.5)
    for _ in range(3):
        await house.presence.turn()
    kinds = [kind for kind, _ in await house.outbox()]
    assert kinds.count("device.offline") == 1
    house.now(400)
    for _ in range(3):
        await house.presence.turn()
    kinds = [kind for kind, _ in await house.outbox()]
    assert (kinds.count("device.offline"), kinds.count("location.sharing.stopped")) == (1, 1)
