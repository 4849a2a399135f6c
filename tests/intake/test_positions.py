from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest

from waybridge.bus import PositionEvent
from waybridge.model import Milestone, Offline, Place, Profile, SharingStarted, SharingStopped, SourceKey, Stage, to_us
from waybridge.provider import CompareAndSet, PutIfAbsent
from waybridge.roster import Roster
from waybridge.store import fleet
from waybridge.store.state import StateConflict
from waybridge.store.tracks import newest_points

if TYPE_CHECKING:
    from intake.conftest import House

TOKEN = "1e653223-8efe-4904-baaa-23f0972924e0"


async def test_a_fix_makes_its_device_moves_its_marker_and_is_published_after_the_commit(house: House) -> None:
    outcome = await house.intake.accept(house.policy(), [house.fix(TOKEN.upper(), 0, speed_mps=12.5, heading_deg=360)])
    assert (outcome.accepted, outcome.duplicates, outcome.rejected) == (1, 0, [])
    device = house.roster.device("default", TOKEN)
    assert device is not None
    assert device.public_fix is not None
    assert (device.public_fix.speed, device.public_fix.heading) == (12.5, 0.0)
    assert device.online is True
    shown = [event for event in house.events if isinstance(event, PositionEvent)]
    assert [(event.device_token, event.shown, event.visible) for event in shown] == [(TOKEN, True, True)]
    assert await house.count("positions") == 1
    kinds = [kind for kind, _ in await house.outbox()]
    assert sorted(kinds) == ["device.online", "location.sharing.started"]


async def test_duplicates_are_absorbed_and_late_fixes_go_to_history_without_moving_the_marker(house: House) -> None:
    policy = house.policy()
    house.now(60)
    batch = [house.fix(TOKEN, second) for second in (0, 10, 10, 5)]
    outcome = await house.intake.accept(policy, batch)
    assert (outcome.accepted, outcome.duplicates, outcome.late) == (3, 1, 1)
    again = await house.intake.accept(policy, batch)
    assert (again.accepted, again.duplicates) == (0, 4)
    device = house.roster.device("default", TOKEN)
    assert device.public_fix.recorded_us == to_us(house.at(10))
    assert await house.count("positions") == 3
    assert [event.fix.recorded_us for event in house.events if isinstance(event, PositionEvent)] == [
        to_us(house.at(0)),
        to_us(house.at(10)),
    ]


@pytest.mark.parametrize("token", [None, "trip-1"])
async def test_a_trip_whose_fixes_arrive_newest_first_holds_them_all(house: House, token: str | None) -> None:
    policy = house.policy()
    house.now(300)
    outcome = await house.intake.accept(
        policy, [house.fix(TOKEN, second, track_token=token) for second in (250, 130, 10)]
    )
    assert (outcome.accepted, outcome.late) == (3, 2)
    device = house.roster.device("default", TOKEN)
    trip = device.trip
    assert trip.started_us == to_us(house.at(10))
    async with house.store.read() as conn:
        key = device.winner.id, trip.track_token
        kept = (await fleet.trips_by_token(conn, [key], house.store.dialect))[key]
        points, _ = await newest_points(
            conn,
            source_id=device.winner.id,
            trip_id=trip.id,
            first_us=kept.started_us,
            last_us=to_us(house.at(250)),
            limit=10,
        )
    assert [point.recorded_us for point in points] == [to_us(house.at(second)) for second in (10, 130, 250)]


async def test_a_late_fix_of_long_before_a_trip_is_no_part_of_it(house: House) -> None:
    policy = house.policy()
    house.now(1000)
    await house.intake.accept(policy, [house.fix(TOKEN, 900), house.fix(TOKEN, 599)])
    assert house.roster.device("default", TOKEN).trip.started_us == to_us(house.at(900))


async def test_impossible_fixes_are_rejected_by_index_and_the_rest_is_kept(house: House) -> None:
    bad = [
        house.fix(TOKEN, 0, latitude=90.1),
        house.fix(TOKEN, 1, longitude=-180.5),
        house.fix(TOKEN, 2, latitude=math.nan),
        house.fix(TOKEN, 3, latitude=True),
        house.fix(TOKEN, 4, latitude="60.1"),
        house.fix(TOKEN, 86_402, longitude=24.0),
        house.fix(TOKEN, -900_000_000, longitude=24.0),
        house.fix("bad\x00token", 5),
        house.fix(TOKEN, 6, heading_deg=400, speed_mps=-1),
    ]
    outcome = await house.intake.accept(house.policy(), bad)
    assert [(each.index, each.field) for each in outcome.rejected] == [
        (0, "latitude"),
        (1, "longitude"),
        (2, "latitude"),
        (3, "latitude"),
        (4, "latitude"),
        (5, "recorded_at"),
        (6, "recorded_at"),
        (7, "device_token"),
    ]
    assert outcome.accepted == 1
    fix = house.roster.device("default", TOKEN).public_fix
    assert (fix.heading, fix.speed) == (None, None)


async def test_a_future_fix_is_clamped_and_suspect_and_never_freezes_the_marker(house: House) -> None:
    policy = house.policy()
    first = await house.intake.accept(policy, [house.fix(TOKEN, 3600)])
    assert first.accepted == 1
    device = house.roster.device("default", TOKEN)
    assert device.public_fix.recorded_us == to_us(house.at(0))
    assert device.public_fix.flags == 2
    house.now(5)
    await house.intake.accept(policy, [house.fix(TOKEN, 5)])
    assert device.public_fix.recorded_us == to_us(house.at(5))
    again = await house.intake.accept(policy, [house.fix(TOKEN, 3600)])
    assert again.duplicates == 1
    accepted = await house.intake.accept(policy, [house.fix(TOKEN, 30)])
    assert accepted.accepted == 1
    assert device.public_fix.flags == 0


async def test_many_callers_share_a_commit_and_each_gets_its_own_outcome(house: House) -> None:
    policy = house.policy()
    house.now(100)
    outcomes = await asyncio.gather(
        *(house.intake.accept(policy, [house.fix(f"bus-{n % 7}", n / 10)]) for n in range(100))
    )
    assert sum(each.accepted for each in outcomes) == 100
    assert await house.count("positions") == 100
    assert len(list(house.roster.devices("default"))) == 7


async def test_a_restart_finds_the_roster_as_it_was(house: House) -> None:
    await house.intake.accept(house.policy(), [house.fix(TOKEN, 0, battery=0.5, track_token="t1")])
    await house.intake.accept(house.policy(), [Profile(source=SourceKey("native", TOKEN), full_name="John Smith")])
    roster = Roster()
    async with house.store.read() as conn:
        await fleet.load_all(conn, roster, lambda i, c, p: house.policy())
    before, after = house.roster.device("default", TOKEN), roster.device("default", TOKEN)
    assert after.public_fix == before.public_fix
    assert after.winner.trip == before.winner.trip
    assert after.winner.period == before.winner.period
    assert (after.online, after.display_name) == (True, "John Smith")


async def test_silence_takes_a_device_offline_ends_its_trip_and_its_sharing_once(house: House) -> None:
    await house.intake.accept(house.policy(), [house.fix(TOKEN, 0)])
    device = house.roster.device("default", TOKEN)
    house.now(59)
    await house.presence.turn()
    assert device.online is True
    house.now(61)
    await house.presence.turn()
    await house.presence.turn()
    assert device.online is False
    assert device.sharing
    house.now(302)
    await house.presence.turn()
    await house.presence.turn()
    assert not device.sharing
    assert device.trip.ended_us == to_us(house.at(0))
    told = await house.outbox()
    assert [kind for kind, _ in told] == [
        "location.sharing.started",
        "device.online",
        "device.offline",
        "location.sharing.stopped",
    ]
    assert told[0][1]["sharing_id"] == told[3][1]["sharing_id"]
    assert (told[0][1]["cause"], told[3][1]["cause"]) == ("online", "offline")
    assert told[3][1]["ended_at"] == "2026-04-12T12:00:00Z"
    house.now(400)
    await house.intake.accept(house.policy(), [house.fix(TOKEN, 400)])
    assert device.online
    assert device.sharing


async def test_a_vendor_that_says_offline_ends_sharing_and_the_next_fix_begins_it_again(house: House) -> None:
    policy = house.policy("vans")
    await house.intake.accept(policy, [house.fix("123", 0, "vans", online=True)])
    await house.intake.accept(policy, [Offline(source=SourceKey("vans", "123"))])
    source = house.roster.source("default", "vans", "123")
    assert (source.device.online, source.period) == (False, None)
    house.now(5)
    await house.intake.accept(policy, [house.fix("123", 5, "vans", online=True)])
    assert source.device.online
    assert source.period is not None


async def test_nothing_is_kept_or_shown_of_a_source_that_does_not_share(house: House) -> None:
    policy = house.policy("line", consent="all", begins="report", stale_after_us=600_000_000)
    key = SourceKey("line", "+15551234567")
    refused = await house.intake.accept(policy, [house.fix(key.external_id, 0, "line")])
    assert [each.error for each in refused.rejected] == ["does not share its location"]
    await house.intake.accept(
        policy, [SharingStarted(source=key, began_at=house.at(0)), house.fix(key.external_id, 1, "line")]
    )
    device = house.roster.source("default", "line", key.external_id).device
    assert device.public_fix is not None
    await house.intake.accept(policy, [SharingStopped(source=key, ended_at=house.at(10))])
    assert (device.public_fix, device.operator_fix, device.hidden) == (None, None, True)
    late = await house.intake.accept(policy, [house.fix(key.external_id, 2, "line")])
    assert late.accepted == 0
    resurrected = SharingStarted(source=key, began_at=house.at(0))
    await house.intake.accept(policy, [resurrected])
    assert not device.sharing
    assert await house.count("last") == 0


async def test_a_booking_is_public_only_between_first_live_location_and_terminal_event(house: House) -> None:
    policy = house.policy("taxi", consent="public", begins="report", stale_after_us=20_000_000)
    key = SourceKey("taxi", "c/b")
    await house.intake.accept(
        policy,
        [
            Milestone(source=key, occurred_at=house.at(0), event_type="DRIVER_DEPARTED_TO_PICKUP",
                      stage=Stage.EN_ROUTE_TO_PICKUP, target=Place(60.2, 24.9, "Pickup"),
                      references={"customer_reference": "c", "booking_reference": "b"}),
            house.fix("c/b", 0, "taxi", live=False),
        ],
    )  # fmt: skip
    device = house.roster.source("default", "taxi", "c/b").device
    assert (device.stage, device.target) == (Stage.EN_ROUTE_TO_PICKUP, Place(60.2, 24.9, "Pickup"))
    assert device.public_fix is None
    assert device.operator_fix is not None
    house.now(5)
    await house.intake.accept(
        policy,
        [SharingStarted(source=key, began_at=house.at(5), cause="first_live_location"), house.fix("c/b", 5, "taxi")],
    )
    assert device.public_fix.recorded_us == to_us(house.at(5))
    house.now(9)
    await house.intake.accept(
        policy,
        [
            Milestone(source=key, occurred_at=house.at(9), event_type="DRIVER_ARRIVED_AT_DROPOFF", stage=Stage.ARRIVED,
                      completes_shares=True),
            SharingStopped(source=key, ended_at=house.at(9), cause="arrived_at_dropoff"),
        ],
    )  # fmt: skip
    assert device.public_fix is None
    assert device.operator_fix is not None
    assert house.shares.completed == [device.token]
    kinds = [kind for kind, _ in await house.outbox()]
    assert kinds.count("driver.event") == 2
    assert kinds.count("location.sharing.started") == kinds.count("location.sharing.stopped") == 1


async def test_intents_hold_or_nothing_of_the_push_is_kept(house: House) -> None:
    policy = house.policy()
    await house.intake.accept(policy, [house.fix("a", 0)], intents=[PutIfAbsent("k", {"n": 1})])
    with pytest.raises(StateConflict):
        await house.intake.accept(policy, [house.fix("a", 1)], intents=[PutIfAbsent("k", {"n": 1})])
    with pytest.raises(StateConflict):
        await house.intake.accept(
            policy, [house.fix("a", 1)], intents=[CompareAndSet("k", {"n": 1}, {"n": 2}), PutIfAbsent("k", {"n": 3})]
        )
    await house.intake.accept(policy, [house.fix("a", 2)], intents=[CompareAndSet("k", {"n": 1}, {"n": 5})])
    assert await house.count("positions") == 2


async def test_racing_writers_of_one_state_leave_exactly_one_winner(house: House) -> None:
    results = await asyncio.gather(
        *(
            house.intake.accept(house.policy(), [house.fix("a", n)], intents=[PutIfAbsent("race", n)])
            for n in range(20)
        ),
        return_exceptions=True,
    )
    assert sum(not isinstance(each, BaseException) for each in results) == 1
    assert sum(isinstance(each, StateConflict) for each in results) == 19
    assert await house.count("positions") == 1


async def test_trips_are_cut_by_silence_by_standstill_and_by_the_vendors_token(house: House) -> None:
    policy = house.policy()
    house.now(5000)
    for second in (0, 10, 20, 400, 410):
        await house.intake.accept(policy, [house.fix("a", second)])
    assert await house.count("trips") == 2
    still = {"latitude": 60.0, "longitude": 24.0, "speed_mps": 0.2}
    for second in range(500, 900, 50):
        await house.intake.accept(policy, [house.fix("a", second, **still)])
    source = house.roster.source("default", "native", "a")
    assert source.trip.ended_us is not None
    assert source.last.trip_id is None
    await house.intake.accept(policy, [house.fix("a", 900, speed_mps=8.0)])
    assert await house.count("trips") == 3
    await house.intake.accept(policy, [house.fix("a", 905, track_token="T"), house.fix("a", 906, track_token="T")])
    assert source.trip.track_token == "T"
    assert await house.count("trips") == 4


async def test_a_fallback_source_takes_over_and_the_better_one_returns_after_its_hold(house: House) -> None:
    van, phone = house.policy("vans"), house.policy("phones")
    await house.intake.accept(van, [house.fix("v", 0, "vans")])
    device = house.roster.source("default", "vans", "v").device
    await house.intake.accept(phone, [house.fix("p", 0, "phones")])
    other = house.roster.source("default", "phones", "p")
    first = house.roster.source("default", "vans", "v")

    async def attach(tx) -> None:
        await fleet.rank_sources(tx, device.id, 30, [(first.id, 20), (other.id, 20)])

    await house.store.write(attach)
    async with house.store.read() as conn:
        await fleet.load(conn, house.roster, lambda i, c, p: van, [device.id, other.device.id])
    assert [each.external_id for each in device.sources] == ["v", "p"]
    for second in range(5, 45, 5):
        house.now(second)
        await house.intake.accept(phone, [house.fix("p", second, "phones")])
        expected = "v" if second <= 20 else "p"
        assert device.winner.external_id == expected, second
    for second in range(45, 100, 5):
        house.now(second)
        await house.intake.accept(van, [house.fix("v", second, "vans")])
        await house.intake.accept(phone, [house.fix("p", second + 0.1, "phones")])
        expected = "p" if second < 75 else "v"
        assert device.winner.external_id == expected, second
    changes = [data for kind, data in await house.outbox() if kind == "source.changed"]
    assert [(each["from"]["external_id"], each["to"]["external_id"]) for each in changes] == [("v", "p"), ("p", "v")]
    shown = [e.fix.recorded_us for e in house.events if isinstance(e, PositionEvent) and e.shown
             and e.device_id == device.id]  # fmt: skip
    assert shown == sorted(shown)
