"""The live stream against the stand-in, on a clock that the test turns."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from mycartracks_harness import START, Bench, HandClock, settle, started, times

from waybridge import CredentialsRejected, Offline, Position, Profile, SourceUnavailable
from waybridge_mycartracks.payload import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from waybridge_mycartracks import MyCarTracksSimulator


async def test_last_positions_come_first_then_the_stream(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.set_vehicle(123, "Van 12", user_id=42, user_name="John Smith")
    vendor.set_vehicle(124, "Never moved")
    vendor.move(123, 48.1486, 17.1077, 42.5, 90.0)

    ours = await started(bench())
    await clock.advance(5)
    vendor.move(123, 48.1490, 17.1080, 42.5, 91.0)
    await clock.advance(0)

    first, second = ours.of(Position)
    assert first.source == ours.context.source("123")
    assert (first.latitude, first.longitude, first.heading_deg, first.online) == (48.1486, 17.1077, 90.0, True)
    assert first.speed_mps * 3.6 == pytest.approx(42.5)
    assert first.recorded_at == START
    assert first.received_at is None
    assert second.heading_deg == 91.0
    assert ours.of(Profile) == [Profile(source=first.source, nickname="Van 12", full_name="John Smith")]
    assert ours.counts["row_without_position"] == 2  # before the stream and after it was connected


async def test_the_stream_is_asked_for_as_documented(vendor: MyCarTracksSimulator, bench: Callable[..., Bench]) -> None:
    vendor.set_vehicle(123)
    await started(bench(vehicle_ids=[123], include_shared_vehicles=False, min_interval_seconds=7))
    await started(bench(vehicle_group_ids=[10], min_interval_seconds=2, fields=["speed"]))
    await started(bench())

    first, second, third = vendor.stream_bodies
    assert first == {
        "vehicleIds": [123],
        "includeSharedVehicles": False,
        "minIntervalSeconds": 7,
        "fields": list(FIELDS),
    }
    assert second == {
        "vehicleGroupIds": [10],
        "includeSharedVehicles": True,
        "minIntervalSeconds": 5,
        "fields": ["vehicleId", "latitude", "longitude", "speed", "recordedAt"],
    }
    assert "vehicleIds" not in third
    assert "vehicleGroupIds" not in third


async def test_a_too_small_interval_is_said(bench: Callable[..., Bench]) -> None:
    ours = await started(bench(min_interval_seconds=2))

    assert any("min_interval_seconds is raised" in line for line in ours.log.lines)


async def test_offline_is_reported_without_a_coordinate(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.move(1, 48.0, 17.0)
    ours = await started(bench())

    vendor.offline(1)
    await clock.advance(0)

    assert ours.of(Offline) == [Offline(source=ours.context.source("1"), last_seen_at=START)]
    assert len(ours.of(Position)) == 1


async def test_sessions_are_renewed_before_they_end_without_loss_or_duplicate(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    most = 0
    ours = await started(bench())
    for step in range(1, 601):  # 50 minutes, sessions of 9
        await clock.advance(5)
        vendor.move(1, 48.0 + step / 1e5, 17.0)
        await clock.advance(0)
        most = max(most, vendor.open_sockets)

    assert times(ours) == [5.0 * step for step in range(1, 601)]
    assert ours.ended == []
    assert vendor.streams_created == 6
    assert vendor.sockets_refused == 0
    assert (most, vendor.open_sockets) == (2, 1)


async def test_the_successor_is_open_before_the_old_socket_is_closed(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    await started(bench())

    await clock.advance(540 - 30 - 1)
    assert (vendor.sockets_opened, vendor.open_sockets) == (1, 1)
    await clock.advance(1)
    assert (vendor.sockets_opened, vendor.open_sockets) == (2, 2)
    await clock.advance(5)
    assert vendor.open_sockets == 1


async def test_renewal_goes_by_the_vendors_clock(vendor: MyCarTracksSimulator, http: Any, clock: HandClock) -> None:
    class Behind(HandClock):  # our own clock is an hour late
        def now(self) -> Any:
            return clock.now() - timedelta(hours=1)

        monotonic = staticmethod(clock.monotonic)  # type: ignore[assignment]
        sleep = staticmethod(clock.sleep)  # type: ignore[assignment]

    ours = Bench(http, Behind(), vendor.settings())
    await started(ours)
    await clock.advance(511)

    assert vendor.streams_created == 2
    assert ours.ended == []
    await ours.stop()


async def test_a_session_that_ends_at_once_is_renewed_at_most_every_five_seconds(
    bench: Callable[..., Bench], vendor: MyCarTracksSimulator, clock: HandClock
) -> None:
    vendor._session_seconds = 20
    ours = await started(bench())
    await clock.advance(60)

    assert ours.ended == []
    assert vendor.streams_created == 13


async def test_a_failed_renewal_keeps_the_old_socket_and_tries_again(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    ours = await started(bench())
    vendor.faults.refuse_next("stream", 503)
    vendor.faults.refuse_next("stream", 429, retry_after=7)
    for step in range(1, 121):
        await clock.advance(5)
        vendor.move(1, 48.0, 17.0 + step / 1e5)
        await clock.advance(0)

    assert times(ours) == [5.0 * step for step in range(1, 121)]
    assert ours.ended == []
    assert any("could not be renewed" in line for line in ours.log.lines)


async def test_a_lost_socket_is_unavailability_and_the_gap_is_filled(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.move(1, 48.0, 17.0)
    ours = await started(bench())
    await clock.advance(10)

    vendor.drop_sockets()
    await settle()
    vendor.move(1, 48.1, 17.1)  # nobody is connected
    await clock.advance(2)

    assert [type(error) for error in ours.ended] == [SourceUnavailable]
    assert "ended" in str(ours.ended[0])
    assert times(ours)[-1] == 10.0
    assert (vendor.streams_created, vendor.open_sockets) == (2, 1)


async def test_a_vehicle_that_went_offline_in_the_gap_is_told_of_once(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.move(1, 48.0, 17.0)
    ours = await started(bench())
    vendor.drop_sockets()
    await settle()
    vendor.offline(1)

    await clock.advance(2)

    assert ours.of(Offline) == [Offline(source=ours.context.source("1"), last_seen_at=START)]


async def test_what_happens_between_the_first_read_and_the_socket_is_not_lost(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.faults.refuse_next("stream", 503)
    ours = await started(bench())
    vendor.move(1, 48.0, 17.0)

    await clock.advance(2)

    assert times(ours) == [0.0]


async def test_a_gap_that_cannot_be_filled_at_once_is_filled_later_beside_the_stream(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    ours = await started(bench())
    vendor.drop_sockets()
    await settle()
    vendor.move(1, 48.0, 17.0)
    vendor.faults.refuse_next("lastPositions", 429, retry_after=20)
    await clock.advance(10)
    assert times(ours) == []

    await clock.advance(15)

    assert times(ours) == [0.0]
    assert len(ours.ended) == 1
    assert vendor.open_sockets == 1


async def test_a_refusal_while_running_ends_the_stream_for_good(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    ours = await started(bench())
    vendor.faults.refuse_next("stream", 403)

    await clock.advance(511)

    assert ours.finished
    assert isinstance(ours.ended[-1], CredentialsRejected)
    assert vendor.open_sockets == 0


async def test_a_slow_socket_loses_nothing(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.faults.frame_delay = 3
    ours = await started(bench())
    for step in range(20):
        await clock.advance(10)
        vendor.move(1, 48.0 + step / 1e4, 17.0)
    await clock.advance(10)

    assert len(times(ours)) == 20
    assert ours.ended == []


async def test_a_receiver_that_does_not_take_holds_the_socket_back_and_gets_everything(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    ours = bench(page_size=1000)
    stream = ours.provider.stream()
    for vehicle_id in range(1, 3001):
        vendor.set_vehicle(vehicle_id)
    pull = asyncio.ensure_future(anext(stream))
    await settle()
    for vehicle_id in range(1, 3001):
        vendor.move(vehicle_id, 48.0, 17.0)
    await clock.advance(300)  # longer than any watchdog: a socket that we do not read is not silent
    seen: set[str] = set()
    while len(seen) < 3000:
        said = await pull
        seen |= {one.source.external_id for one in getattr(said, "reports", [said]) if isinstance(one, Position)}
        if len(seen) < 3000:
            pull = asyncio.ensure_future(anext(stream))
            await settle()

    assert ours.counts["silent_socket"] == 0
    assert vendor.streams_created == 1
    await stream.aclose()


@pytest.mark.parametrize("how", ["cancel", "aclose", "close"])
async def test_nothing_is_left_behind(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock, how: str
) -> None:
    before = asyncio.all_tasks()
    ours = bench()
    stream = ours.provider.stream()
    waiting = asyncio.ensure_future(anext(stream))
    await settle()
    assert vendor.open_sockets == 1

    if how == "cancel":
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    elif how == "aclose":
        vendor.move(1, 48.0, 17.0)
        await waiting
        await stream.aclose()
    else:
        await ours.provider.close()
        await ours.provider.close()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await settle()

    assert vendor.open_sockets == 0
    assert [task for task in asyncio.all_tasks() - before if "mycartracks" in task.get_name()] == []
    assert clock.sleeping == 0
