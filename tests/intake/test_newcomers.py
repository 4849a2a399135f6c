"""Many devices that nobody heard of yet, and all that begins and ends within one group of reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from waybridge.model import Position, Report, SharingStarted, SharingStopped, SourceKey, to_us
from waybridge.recording import Work
from waybridge.roster import Policy, Roster
from waybridge.store import newcomers
from waybridge.trips import TripRules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intake.conftest import House

    from waybridge.store.engine import Tx

MANY = 300


def fixes_of_many(house: House, seconds: float) -> list[Position]:
    return [house.fix(f"device-{number:03}", seconds) for number in range(MANY)]


def events_of(house: House, kind: str) -> list[str]:
    return [each.device_token for each in house.events if getattr(each, "kind", None) == kind]


async def rows(house: House, question: str) -> list[tuple[Any, ...]]:
    async with house.store.read() as conn:
        return [tuple(row) for row in await conn.exec_driver_sql(question)]


async def test_a_batch_of_new_devices_makes_all_that_each_alone_would_have(house: House) -> None:
    house.now(1)
    outcome = await house.intake.accept(house.policy(), fixes_of_many(house, 0))
    assert outcome.accepted == MANY
    tokens = sorted(fix.source.external_id for fix in fixes_of_many(house, 0))
    assert sorted(device.token for device in house.roster.everything()) == tokens
    for kind in ("created", "sharing_started", "trip_started", "online"):
        assert sorted(events_of(house, kind)) == tokens
    kinds = [kind for kind, _ in await house.outbox()]
    assert (kinds.count("location.sharing.started"), kinds.count("device.online")) == (MANY, MANY)
    for table in ("devices", "sources", "last", "positions", "trips", "sharing_periods"):
        assert await house.count(table) == MANY
    stored = await rows(
        house,
        "SELECT d.device_token FROM devices d JOIN sources s ON s.device_id = d.id AND s.id = d.winner_source_id"
        " JOIN last l ON l.source_id = s.id JOIN trips t ON t.id = l.trip_id WHERE d.online ORDER BY d.device_token",
    )
    assert [token for (token,) in stored] == tokens


async def test_statements_do_not_grow_with_the_devices_of_a_group(house: House) -> None:
    asked: list[str] = []

    def count(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    house.now(1)
    policy = house.policy()
    event.listen(house.store._writer.sync_engine, "before_cursor_execute", count)
    await house.intake.accept(policy, fixes_of_many(house, 0))
    making = len(asked)
    house.now(120)
    await house.presence.turn()
    assert not any(device.online for device in house.roster.everything())
    asked.clear()
    await house.intake.accept(policy, fixes_of_many(house, 119))
    assert all(device.online for device in house.roster.everything())
    assert (making <= 20, len(asked) <= 20) == (True, True)


async def test_a_device_that_is_met_twice_keeps_its_number(house: House) -> None:
    async def unit(tx: Tx) -> tuple[dict[str, tuple[int, bool]], dict[str, tuple[int, int, bool]]]:
        devices = await newcomers.make_devices(tx, "default", ["a", "b", "a"])
        return devices, await newcomers.make_sources(tx, "default", "native", "native", {"a": devices["a"][0]})

    devices, sources = await house.store.write(unit, alone=True)
    again, still = await house.store.write(unit, alone=True)
    assert [made for _, made in (*devices.values(), *again.values())] == [True, True, False, False]
    assert [number for number, _ in again.values()] == [number for number, _ in devices.values()]
    assert (sources["a"][2], still["a"]) == (True, (*sources["a"][:2], False))


async def test_a_source_that_another_node_made_first_is_taken_over_with_all_that_it_has(house: House) -> None:
    house.now(1)
    policy = house.policy()
    await house.intake.accept(policy, [house.fix("truck", 0)])
    elsewhere = Roster()

    async def unit(tx: Tx) -> None:
        work = Work(
            tx, elsewhere, rules=TripRules(), shares=house.shares, default_policy=lambda *_: policy, history=True
        )
        await work.meet([(policy, "truck", None), (policy, "van", None)])
        work.settle()

    await house.store.write(unit, alone=True)
    here, there = (roster.source("default", "native", "truck") for roster in (house.roster, elsewhere))
    assert here is not None
    assert there is not None
    assert (there.id, there.last, there.trip, there.period) == (here.id, here.last, here.trip, here.period)
    assert elsewhere.device("default", "van") is not None
    assert events_of(house, "created") == ["truck", "van"]


async def test_a_trip_that_is_left_and_named_again_in_one_batch_goes_on(house: House) -> None:
    house.now(10)
    policy = house.policy()
    await house.intake.accept(policy, [house.fix("truck", 0, track_token="out")])
    names = (("back", 1), ("out", 2), ("back", 3), ("other", 4), ("out", 5))
    await house.intake.accept(policy, [house.fix("truck", second, track_token=name) for name, second in names])
    kept = await rows(house, "SELECT track_token, started_us, ended_us FROM trips ORDER BY started_us")
    at = [to_us(house.at(second)) for second in range(6)]
    assert kept == [("out", at[0], None), ("back", at[1], at[3]), ("other", at[4], at[4])]
    assert await rows(house, "SELECT count(DISTINCT trip_id) FROM positions") == [(3,)]


@pytest.mark.parametrize("known", [False, True])
async def test_a_period_may_end_and_the_next_begin_in_one_batch(house: House, known: bool) -> None:
    house.now(20)
    policy = Policy(instance_id="default", connection_id="hub", provider="test", consent="all", begins="report")
    house.roster.set_policy(policy)
    key = SourceKey("hub", "+4915112345")
    first: Sequence[Report] = [SharingStarted(source=key, began_at=house.at(0))]
    then: Sequence[Report] = [
        house.fix(key.external_id, 1, "hub"),
        SharingStopped(source=key, ended_at=house.at(2)),
        SharingStarted(source=key, began_at=house.at(0)),  # a late word about what is over
        house.fix(key.external_id, 3, "hub"),
        SharingStarted(source=key, began_at=house.at(4), ends_at=house.at(60)),
        house.fix(key.external_id, 5, "hub"),
    ]
    parts = [first, then] if known else [[*first, *then]]
    outcomes = [await house.intake.accept(policy, part) for part in parts]
    assert sum(each.accepted for each in outcomes) == 2
    assert len(outcomes[-1].rejected) == 1  # between the periods
    at = [to_us(house.at(second)) for second in (0, 2, 4, 60)]
    kept = await rows(house, "SELECT began_us, ended_us, ends_us FROM sharing_periods ORDER BY began_us")
    assert kept == [(at[0], at[1], None), (at[2], None, at[3])]
    assert await rows(house, "SELECT recorded_us FROM last") == [(to_us(house.at(5)),)]
    kinds = [kind.rpartition(".")[2] for kind, _ in await house.outbox()]
    assert [kind for kind in kinds if kind in ("started", "stopped")] == ["started", "stopped", "started"]
