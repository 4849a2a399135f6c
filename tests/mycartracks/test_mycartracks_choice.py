"""What comes in of what the vendor says: chosen vehicles, news, names, late fixes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from mycartracks_harness import START, Bench, HandClock, settle, started, times

from waybridge import Offline, Position, Profile, SourceKey
from waybridge_mycartracks import MyCarTracks, MyCarTracksSettings
from waybridge_mycartracks.choice import Choice
from waybridge_mycartracks.ledger import Ledger
from waybridge_mycartracks.payload import Fix, parse_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from waybridge_mycartracks import MyCarTracksSimulator


async def test_only_chosen_vehicles_come_in_although_last_positions_hold_all(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    for vehicle_id in (1, 2):
        vendor.set_vehicle(vehicle_id, groups=[vehicle_id * 10])
        vendor.move(vehicle_id, 48.0, 17.0)
    by_id, by_group = await started(bench(vehicle_ids=[1])), await started(bench(vehicle_group_ids=[20]))
    assert [fix.source.external_id for fix in by_id.of(Position)] == ["1"]
    assert by_group.of(Position) == []

    await clock.advance(5)
    for vehicle_id in (1, 2):
        vendor.move(vehicle_id, 48.1, 17.0)
    await clock.advance(1)
    vendor.drop_sockets()
    await settle()
    for vehicle_id in (1, 2):
        vendor.move(vehicle_id, 48.2, 17.0)
    await clock.advance(2)

    for ours, vehicle_id, count in ((by_id, "1", 3), (by_group, "2", 2)):
        assert [fix.source.external_id for fix in ours.of(Position)] == [vehicle_id] * count
        assert ours.of(Position)[-1].latitude == 48.2


@pytest.mark.parametrize(
    ("row", "taken"),
    [
        ({"vehicleGroupIds": [20, 30]}, True),
        ({"vehicleGroupId": 20}, True),
        ({"groupIds": ["20"]}, True),
        ({"groupId": 30}, False),
        ({"vehicleGroupIds": []}, False),
        ({}, False),
    ],
)
def test_a_row_that_names_its_groups_is_believed(row: dict[str, Any], taken: bool) -> None:
    account = {"client_id": "id", "client_secret": "secret", "vehicle_group_ids": [20]}
    fix = parse_row({"vehicleId": 1, "latitude": 1.0, "longitude": 2.0} | row, "kmh")
    assert fix is not None

    assert Choice(MyCarTracksSettings.model_validate(account)).row(fix) is taken


async def test_a_profile_comes_only_with_another_name(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.set_vehicle(1, "Van 1", user_name="John Smith")
    ours = await started(bench())
    for driver in ("John Smith", "John Smith", "Jana Nováková", None):
        await clock.advance(5)
        vendor.set_vehicle(1, "Van 1", user_name=driver)
        vendor.move(1, 48.0, 17.0)
        await clock.advance(0)

    assert [said.full_name for said in ours.of(Profile)] == ["John Smith", "Jana Nováková"]
    assert len(ours.of(Position)) == 4


async def test_a_position_without_news_is_passed_on_once(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    ours = await started(bench())
    for _ in range(3):
        await clock.advance(5)
        vendor.move(1, 48.0, 17.0, recorded_at=START)
        await clock.advance(0)

    assert times(ours) == [0.0]
    assert ours.counts["duplicate"] == 2


async def test_late_fixes_are_passed_on_for_history_and_do_not_rename(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.set_vehicle(1, "Van 1", user_name="Now")
    ours = await started(bench())
    vendor.move(1, 48.0, 17.0)
    await clock.advance(5)
    vendor.set_vehicle(1, "Van 1", user_name="Then")
    vendor.move(1, 48.0, 17.0, recorded_at=START - timedelta(minutes=5))
    await clock.advance(0)

    assert times(ours) == [0.0, -300.0]
    assert [said.full_name for said in ours.of(Profile)] == ["Now"]


def test_a_row_that_is_older_than_what_came_live_takes_nothing_off() -> None:
    def fix(second: int, online: bool) -> Fix:
        recorded_at = START + timedelta(seconds=second)
        row = {"vehicleId": 1, "latitude": 48.0, "longitude": 17.0, "recordedAt": recorded_at.isoformat()}
        parsed = parse_row(row | {"onlineState": "online" if online else "offline"}, "kmh")
        assert parsed is not None
        return parsed

    ledger = Ledger(lambda external_id: SourceKey("c", external_id), lambda _: None)
    ledger.live(fix(10, online=True), START)

    late, newer = ledger.row(fix(5, online=False)), ledger.row(fix(20, online=False))

    assert [type(report) for report in late] == [Position]
    assert [type(report) for report in newer] == [Position, Offline]


async def test_profile_answers_the_vendors_names_from_one_read(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.set_vehicle(1, "Van 1", user_name="John Smith")
    vendor.move(1, 48.0, 17.0)
    provider: MyCarTracks = bench().provider
    source = provider.context.source

    assert await provider.profile(source("1")) == Profile(source=source("1"), nickname="Van 1", full_name="John Smith")
    assert await provider.profile(source("404")) is None
    assert vendor.rest_requests == 1
    await clock.advance(31)
    assert await provider.profile(source("404")) is None
    assert vendor.rest_requests == 2
