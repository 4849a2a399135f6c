"""Positions are read while somebody shares, and never published after an end."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from imessage_harness import START, KeyedState, OwnClock, gateway

from waybridge import CredentialsRejected, Profile, SourceKey, SourceUnavailable

if TYPE_CHECKING:
    from imessage_harness import Gateway

    from waybridge_imessage.simulator import LinqSimulator

ANNA = "+14155550101"
BOB = "+14155550102"


def connect(door: Gateway, linq: LinqSimulator, **settings: object) -> None:
    secret = linq.subscribe(f"{door.url}/webhook")
    door.connect(**{"api_key": linq.api_key, "base_url": linq.base_url, "webhook_signing_secret": secret, **settings})


async def begin(door: Gateway, linq: LinqSimulator, **settings: object) -> str:
    """A running connection with one chat in which Anna has just begun to share."""
    connect(door, linq, **settings)
    chat = linq.add_chat("+1 (415) 555-0101", ANNA)
    linq.chats[chat].handles = [ANNA]
    door.start()
    await door.quiet()
    linq.share(chat, ANNA, 60.17, 24.94, address="Mannerheimintie 1", locality="Helsinki")
    await linq.delivered()
    return chat


async def test_a_share_begins_with_its_profile_and_consent_and_is_read_after_two_and_ten_seconds(
    door: Gateway, linq: LinqSimulator
) -> None:
    chat = await begin(door, linq)

    profile, started = door.reports
    assert profile == Profile(source=SourceKey("imessage", ANNA), handle=ANNA, phone=ANNA)
    assert (started.cause, started.shared_by, started.shared_with) == ("consent", ANNA, linq.line)
    assert (started.chat_id, started.began_at, started.ends_at) == (chat, START, None)
    await door.pass_time(1)
    assert linq.calls["GET location"] == 0
    await door.pass_time(2)
    assert linq.calls["GET location"] == 1
    [position] = door.positions
    assert (position.latitude, position.longitude) == (60.17, 24.94)
    assert (position.address, position.locality) == ("Mannerheimintie 1", "Helsinki")
    assert (position.speed_mps, position.heading_deg, position.recorded_at) == (None, None, START)
    await door.pass_time(9)
    assert linq.calls["GET location"] == 2
    assert len(door.positions) == 1, "the same updated_at is no new fix"


async def test_reads_go_on_at_the_interval_while_somebody_shares(door: Gateway, linq: LinqSimulator) -> None:
    await begin(door, linq)
    await door.pass_time(15)
    before = linq.calls["GET location"]

    for minute in range(18):
        linq.move(ANNA, 60.2 + minute / 1000, 24.94)
        await door.pass_time(60, step=5)

    reads = linq.calls["GET location"] - before
    assert 5 <= reads <= 8, "1080 s are six intervals of 180 s, and one reconciliation"
    assert [p.recorded_at for p in door.positions] == sorted({p.recorded_at for p in door.positions})


async def test_nothing_is_read_while_nobody_shares_but_at_start_and_every_ten_minutes(
    door: Gateway, linq: LinqSimulator
) -> None:
    chat = linq.add_chat(ANNA)
    connect(door, linq, chats=[chat])
    door.start()
    await door.quiet()
    assert linq.calls["GET location"] == 1

    await door.pass_time(599, step=5)
    assert linq.calls["GET location"] == 1
    await door.pass_time(5)
    assert linq.calls["GET location"] == 2


async def test_a_stop_ends_reading_and_is_told_once(door: Gateway, linq: LinqSimulator) -> None:
    await begin(door, linq)
    await door.pass_time(3)
    linq.stop_sharing(ANNA)
    await linq.delivered()
    reads = linq.calls["GET location"]

    await door.pass_time(500, step=5)

    assert linq.calls["GET location"] == reads
    [stopped] = door.stopped
    assert (stopped.cause, stopped.ended_at) == ("consent_withdrawn", START + timedelta(seconds=3))


async def test_a_read_that_was_in_flight_when_the_stop_came_is_thrown_away(door: Gateway, linq: LinqSimulator) -> None:
    await begin(door, linq)
    linq.faults.hold = 0.2
    linq.faults.linger = True
    door.clock.advance(2)
    await door.until(lambda: linq.calls["GET location"] == 1)

    linq.stop_sharing(ANNA)
    await linq.delivered()
    await door.quiet()

    assert len(door.stopped) == 1
    assert door.positions == []
    assert door.counts["position_after_stop"] == 1


async def test_an_echo_at_the_vendor_does_not_bring_an_ended_share_back(door: Gateway, linq: LinqSimulator) -> None:
    chat = await begin(door, linq, poll_interval_seconds=1)
    await door.pass_time(3)
    linq.stop_sharing(ANNA)
    await linq.delivered()
    linq.faults.linger = True
    count = len(door.reports)

    await door.pass_time(1300, step=5)

    assert linq.calls["GET location"] > 0
    assert door.reports[count:] == []
    assert chat in linq.chats


async def test_a_share_whose_start_was_lost_is_found_by_reading_and_its_true_start_changes_nothing(
    door: Gateway, linq: LinqSimulator
) -> None:
    chat = linq.add_chat(ANNA)
    connect(door, linq, chats=[chat])
    sharing = linq.share(chat, ANNA, 60.17, 24.94, notify=False)
    door.clock.advance(100)
    door.start()
    await door.quiet()

    [started] = door.started
    assert (started.cause, started.began_at, started.shared_with) == ("consent", START + timedelta(seconds=100), None)
    assert len(door.positions) == 1
    linq.notify("started", sharing)
    await linq.delivered()
    assert len(door.started) == 1
    linq.stop_sharing(ANNA)
    await linq.delivered()
    assert len(door.stopped) == 1


async def test_a_found_share_is_ended_by_its_stop_even_when_the_start_never_comes(
    door: Gateway, linq: LinqSimulator
) -> None:
    chat = linq.add_chat(ANNA)
    connect(door, linq, chats=[chat])
    linq.share(chat, ANNA, 60.17, 24.94, notify=False, began_at=START - timedelta(hours=1))
    door.start()
    await door.quiet()
    door.clock.advance(5)
    linq.stop_sharing(ANNA)
    await linq.delivered()
    assert [s.cause for s in door.stopped] == ["consent_withdrawn"]


async def test_reads_that_stay_empty_end_the_share_as_lapsed(door: Gateway, linq: LinqSimulator) -> None:
    await begin(door, linq, lapse_after=600)
    linq.faults.hide = True
    await door.pass_time(500, step=5)
    assert door.stopped == []
    assert door.counts["no_location"] == 1

    await door.pass_time(400, step=5)

    assert [s.cause for s in door.stopped] == ["lapsed"]


async def test_a_share_after_a_lapse_is_given_its_own_time_to_lapse(door: Gateway, linq: LinqSimulator) -> None:
    chat = await begin(door, linq, lapse_after=300)
    linq.faults.hide = True
    await door.pass_time(700, step=5)
    assert len(door.stopped) == 1
    linq.share(chat, ANNA, 60.17, 24.94)
    await linq.delivered()
    await door.pass_time(15)
    assert len(door.started) == 2
    assert len(door.stopped) == 1


async def test_a_share_whose_time_is_up_is_confirmed_by_one_read_and_ended_as_expired(
    door: Gateway, linq: LinqSimulator
) -> None:
    connect(door, linq)
    chat = linq.add_chat(ANNA)
    door.start()
    await door.quiet()
    linq.share(chat, ANNA, 60.17, 24.94, seconds=100)
    await linq.delivered()
    assert door.started[0].ends_at == START + timedelta(seconds=100)
    await door.pass_time(160)
    assert door.stopped == []

    await door.pass_time(3)

    assert [(s.cause, s.ended_at) for s in door.stopped] == [("expired", START + timedelta(seconds=100))]


async def test_a_share_that_goes_on_after_its_time_stays(door: Gateway, linq: LinqSimulator) -> None:
    connect(door, linq)
    chat = linq.add_chat(ANNA)
    door.start()
    await door.quiet()
    linq.share(chat, ANNA, 60.17, 24.94, seconds=100)
    linq.faults.linger = True
    await linq.delivered()
    await door.pass_time(400, step=5)
    assert door.stopped == []


async def test_a_share_without_any_chat_to_read_lapses_too(door: Gateway, linq: LinqSimulator) -> None:
    connect(door, linq, lapse_after=60)
    door.start()
    await door.quiet()
    linq.share(None, "anna@icloud.example", 60.17, 24.94)
    await linq.delivered()
    assert [r.email for r in door.of(Profile)] == ["anna@icloud.example"]
    await door.pass_time(100, step=5)
    assert [s.cause for s in door.stopped] == ["lapsed"]
    assert any("handle_mismatch" in line for line in door.log.lines)


async def test_a_group_shows_each_person_once_and_one_bad_feature_hides_nobody(
    door: Gateway, linq: LinqSimulator
) -> None:
    group = linq.add_chat(ANNA, BOB)
    direct = linq.add_chat(ANNA)
    connect(door, linq, chats=[group, direct])
    linq.share(group, ANNA, 60.17, 24.94, notify=False)
    linq.share(group, BOB, 60.18, 24.95, altitude=12.5, notify=False)
    linq.faults.features = [{"type": "Feature", "geometry": None, "properties": {"handle": "+1999"}}, "nonsense"]

    door.start()
    await door.quiet()

    assert sorted(s.source.external_id for s in door.started) == [ANNA, BOB]
    assert sorted(p.source.external_id for p in door.positions) == [ANNA, BOB]
    assert {p.altitude_m for p in door.positions} == {None, 12.5}
    assert door.counts["feature_skipped"] == 4


async def test_without_the_vendors_time_only_another_place_is_a_new_fix(door: Gateway, linq: LinqSimulator) -> None:
    linq.faults.omit = frozenset({"updated_at"})
    await begin(door, linq, poll_interval_seconds=1)
    await door.pass_time(5)
    assert len(door.positions) == 1
    assert door.positions[0].attributes == {"linq.time_source": "received"}
    linq.move(ANNA, 60.18, 24.94)
    await door.pass_time(3)
    assert [p.latitude for p in door.positions] == [60.17, 60.18]


async def test_bare_geojson_is_read_as_well(door: Gateway, linq: LinqSimulator) -> None:
    linq.faults.bare = True
    await begin(door, linq)
    await door.pass_time(3)
    assert len(door.positions) == 1


async def test_what_is_kept_outlives_a_restart(clock: OwnClock, linq: LinqSimulator) -> None:
    state = KeyedState()
    async with gateway(clock, state) as first:
        await begin(first, linq)
        await first.pass_time(3)
        assert len(first.positions) == 1
    async with gateway(clock, state) as second:
        connect(second, linq)
        second.start()
        await second.quiet()
        assert second.reports == [], "the share goes on, and the fix is known"
        linq.move(ANNA, 60.18, 24.94)
        clock.advance(1)
        await second.pass_time(11)
        assert [p.latitude for p in second.positions] == [60.18]


async def test_an_unreachable_vendor_is_unavailable_and_heals(door: Gateway, linq: LinqSimulator) -> None:
    await begin(door, linq)
    port = int(linq.base_url.split(":")[2].split("/")[0])
    await linq.stop()
    await door.pass_time(15)
    assert isinstance(door.stream_error, SourceUnavailable)
    await linq.start(port=port)
    await door.stop()
    door.start()
    await door.quiet()
    assert len(door.positions) == 1
    assert len(door.started) == 1


async def test_one_chat_that_fails_does_not_stop_the_others(door: Gateway, linq: LinqSimulator) -> None:
    chats = [linq.add_chat(ANNA), linq.add_chat(BOB)]
    connect(door, linq, chats=[*chats, "no-such-chat"], poll_interval_seconds=1)
    for chat, handle in zip(chats, (ANNA, BOB), strict=True):
        linq.share(chat, handle, 60.17, 24.94, notify=False)
    door.start()
    await door.quiet()
    await door.pass_time(5)
    assert door.stream_error is None
    assert len(door.positions) == 2
    assert door.counts["read_refused"] == 1


@pytest.mark.parametrize("retry_after", [7, None])
async def test_a_rate_limit_is_waited_for_inside_the_read(
    door: Gateway, linq: LinqSimulator, retry_after: int | None
) -> None:
    await begin(door, linq)
    linq.faults.rate_limited, linq.faults.retry_after = 1, retry_after
    await door.pass_time(2)
    assert linq.calls["GET location"] == 1
    if retry_after:
        await door.pass_time(6.5, step=0.5)
        assert door.positions == []
    await door.pass_time(1)
    assert len(door.positions) == 1
    assert door.stream_error is None


async def test_a_long_rate_limit_is_handed_to_the_gateway(door: Gateway, linq: LinqSimulator) -> None:
    await begin(door, linq)
    linq.faults.rate_limited, linq.faults.retry_after = 99, 120
    await door.pass_time(3)
    assert isinstance(door.stream_error, SourceUnavailable)
    assert door.stream_error.retry_after == 120


async def test_a_refused_key_is_said_and_not_tried_again(door: Gateway, linq: LinqSimulator) -> None:
    await begin(door, linq)
    linq.faults.status = (401, 2004, f"the key {linq.api_key} is unknown")
    await door.pass_time(3)
    assert isinstance(door.stream_error, CredentialsRejected)
    assert linq.api_key not in str(door.stream_error)
    assert linq.calls["GET location"] == 1


@pytest.mark.parametrize("fault", [{"truncate": True}, {"oversize": 10_000_000}])
async def test_nonsense_from_the_vendor_is_unavailable(
    door: Gateway, linq: LinqSimulator, fault: dict[str, object]
) -> None:
    await begin(door, linq)
    for name, value in fault.items():
        setattr(linq.faults, name, value)
    await door.pass_time(3)
    assert isinstance(door.stream_error, SourceUnavailable)
    assert door.positions == []


async def test_a_stream_that_is_closed_leaves_no_task_behind(door: Gateway, linq: LinqSimulator) -> None:
    await begin(door, linq)
    linq.faults.hold = 5
    door.clock.advance(2)
    await door.until(lambda: linq.calls["GET location"] == 1)
    linq.faults.hold = 0
    await door.stop()
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not any(name.startswith("imessage") for name in names)


async def test_a_share_that_began_before_the_last_end_begins_after_it(door: Gateway, linq: LinqSimulator) -> None:
    """The vendor sees a stop late: a share that really followed must not be taken for the one that ended."""
    chat = await begin(door, linq)
    await door.pass_time(5)
    linq.stop_sharing(ANNA)
    await linq.delivered()
    linq.share(chat, ANNA, 60.17, 24.94, began_at=START + timedelta(seconds=3))
    await linq.delivered()
    assert [s.began_at for s in door.started] == [START, START + timedelta(seconds=5, microseconds=1)]


async def test_a_phone_whose_clock_is_ahead_begins_now(door: Gateway, linq: LinqSimulator) -> None:
    connect(door, linq)
    linq.share(linq.add_chat(ANNA), ANNA, 60.17, 24.94, began_at=START + timedelta(hours=2))
    await linq.delivered()
    assert [s.began_at for s in door.started] == [START]
