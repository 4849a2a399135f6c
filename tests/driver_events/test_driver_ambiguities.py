"""The ambiguities of the seed as they were decided (B1 to B30), one test each or a few."""

from datetime import UTC, datetime, timedelta

import pytest
from driver_world import ARRIVED, BOOKING, DEPARTED, DONE, LIVE, NO_SHOW, ON_TRIP, START, World, iso

PATH = f"{BOOKING}/driver/events"


async def test_b1_the_first_of_two_different_duplicates_wins(world):
    await world.booking()
    await world.journey(DEPARTED)
    kept = dict(world.state.texts)
    assert await world.event(DEPARTED, 50, place=(1, 2)) == (200, "duplicate")
    assert world.state.texts == kept


async def test_b4_a_live_location_of_the_same_time_is_a_duplicate(world):
    await world.booking()
    await world.journey(DEPARTED)
    assert await world.event(LIVE, 5) == (200, "accepted")
    assert await world.event(LIVE, 5, place=(1, 2)) == (200, "duplicate")
    assert len(world.lives) == 1
    assert world.lives[0].latitude == 53.48


@pytest.mark.parametrize("strict", [True, False])
async def test_b5_a_milestone_may_be_older_than_the_newest_live_location(strict):
    world = World(strict_later=strict)
    await world.booking()
    await world.journey(DEPARTED)
    await world.event(LIVE, 30)
    assert await world.event(ARRIVED, 28) == (200, "accepted")


async def test_b6_an_older_live_location_is_stored_late(world):
    await world.booking()
    await world.journey(DEPARTED)
    await world.event(LIVE, 30)
    assert await world.event(LIVE, 20) == (200, "stored-late")
    assert await world.event(LIVE, 20) == (200, "duplicate")
    assert await world.event(LIVE, 40) == (200, "accepted")
    assert len(world.starts) == 1


async def test_b7_a_live_location_older_than_a_later_milestone_is_taken(world):
    await world.booking()
    await world.journey(DEPARTED, ARRIVED)
    assert await world.event(LIVE, 30) == (200, "accepted")


async def test_b8_a_live_location_before_the_departure_is_refused(world):
    await world.booking()
    await world.journey(DEPARTED)
    assert await world.event(LIVE, -1) == (400, "Event time is before last event time")
    assert await world.event(LIVE, 0) == (200, "accepted")


@pytest.mark.parametrize(("event", "cause"), [(NO_SHOW, "customer_no_show"), (DONE, "arrived_at_dropoff")])
async def test_b11_both_ends_close_the_live_window_once(world, event, cause):
    await world.booking()
    await world.journey(DEPARTED, ARRIVED)
    await world.event(LIVE, 70)
    await world.event(LIVE, 75)
    if event == DONE:
        await world.event(ON_TRIP, 80)
    assert await world.event(event, 90) == (200, "accepted")
    assert await world.event(event, 90) == (200, "duplicate")
    assert [(stop.cause, stop.ended_at) for stop in world.stops] == [(cause, START + timedelta(seconds=90))]
    assert [(start.cause, start.began_at) for start in world.starts] == [
        ("first_live_location", START + timedelta(seconds=70))
    ]
    assert world.milestones[-1].completes_shares


async def test_shares_are_left_alone_where_the_setting_says_so():
    world = World(complete_shares=False)
    await world.booking()
    await world.journey(DEPARTED, ARRIVED, NO_SHOW)
    assert not world.milestones[-1].completes_shares


async def test_b14_more_than_two_a_second_for_long_is_limited(world):
    await world.booking()
    await world.journey(DEPARTED)
    now = START + timedelta(minutes=2)
    answers = [await world.event(LIVE, 60 + n / 10, received_at=now) for n in range(60)]
    assert answers[:30] == [(200, "accepted")] * 30
    refused = [answer for answer in answers if answer[0] == 429]
    assert refused
    assert len(world.lives) == 60 - len(refused)
    kept = dict(world.state.texts)
    status, _, headers = await world.send(
        "POST", PATH,
        {"event_type": LIVE, "occurred_at": iso(START + timedelta(seconds=60.05)), "latitude": 1, "longitude": 1},
        received_at=now,
    )  # fmt: skip
    assert status == 429
    assert int(headers["Retry-After"]) >= 1
    assert world.state.texts == kept
    assert await world.event(LIVE, 60, received_at=now) == (200, "duplicate")
    later = now + timedelta(seconds=int(headers["Retry-After"]) + 1)
    assert await world.event(LIVE, 66, received_at=later) == (200, "accepted")


async def test_b14_a_flushed_buffer_is_not_limited(world):
    await world.booking()
    await world.journey(DEPARTED)
    now = START + timedelta(hours=1)
    for n in range(200):
        assert await world.event(LIVE, n * 5, received_at=now) == (200, "accepted")


async def test_b15_a_little_ahead_is_taken_and_counts_from_now(world):
    await world.booking()
    now = START
    assert (await world.event(DEPARTED, 5.1, received_at=now))[1] == "Event time is in the future"
    assert await world.event(DEPARTED, 5, received_at=now) == (200, "accepted")
    assert world.milestones[0].occurred_at == now
    assert await world.event(ARRIVED, 2, received_at=now + timedelta(seconds=1)) == (200, "accepted")
    assert await world.event(LIVE, 4, received_at=now + timedelta(seconds=2)) == (200, "accepted")
    assert world.lives[0].recorded_at.replace(microsecond=0) == now + timedelta(seconds=2)
    assert await world.event(LIVE, 5, received_at=now + timedelta(seconds=2)) == (200, "accepted")
    assert await world.event(LIVE, 2, received_at=now + timedelta(seconds=9)) == (200, "accepted")
    assert len(world.lives) == len({position.recorded_at for position in world.lives}) == 3
    assert await world.event(LIVE, 4, received_at=now + timedelta(hours=1)) == (200, "duplicate")


async def test_b15_the_skew_is_a_setting():
    world = World(future_skew_seconds=60)
    await world.booking()
    assert await world.event(DEPARTED, 60, received_at=START) == (200, "accepted")


async def test_b16_the_first_assignment_counts(world):
    await world.booking(assigned_at=iso(START - timedelta(minutes=10)))
    world.clock.moment = START
    await world.send("POST", "/v2/bookings/B-1/assignDriver", {"driver": {"firstName": "Bob"}})
    assert await world.event(DEPARTED, -300) == (200, "accepted")


async def test_b16_the_second_of_an_assignment_is_after_it(world):
    await world.send("PUT", BOOKING, {})
    world.clock.moment = START + timedelta(milliseconds=900)
    await world.send("POST", "/v2/bookings/B-1/assignDriver", {"vehicle": {"make": "VW"}})
    assert await world.event(DEPARTED, -1) == (400, "Event time is before driver assignation time")
    assert await world.event(DEPARTED, 0) == (200, "accepted")


async def test_b17_a_new_driver_goes_on_where_the_old_one_stopped(world):
    await world.booking()
    await world.journey(DEPARTED, ARRIVED)
    await world.send("POST", "/v2/bookings/B-1/assignDriver", {"driver": {"firstName": "Bob"}})
    assert await world.event(DEPARTED, 100) == (200, "duplicate")
    assert await world.event(LIVE, 130) == (200, "accepted")
    assert await world.event(ON_TRIP, 120) == (200, "accepted")


@pytest.mark.parametrize(
    "text",
    [
        "2026-04-12T12:05:01Z", "2026-04-12T12:05:01.000Z", "2026-04-12T14:05:01+02:00", "2026-04-12T14:05:01+0200",
        "2026-04-12t12:05:01z", "2026-04-12T12:05:01", "2026-04-12 12:05:01", "2026-04-12T12:05:01.0000000001Z",
    ],
)  # fmt: skip
async def test_b18_times_are_iso_in_any_zone(world, text):
    await world.booking()
    assert await world.event(DEPARTED, text) == (200, "accepted")
    assert world.milestones[0].occurred_at == datetime(2026, 4, 12, 12, 5, 1, tzinfo=UTC)
    assert world.counts == ({"naive_time": 1} if text.endswith(":01") else {})


async def test_b18_fractions_are_kept_to_the_microsecond(world):
    await world.booking()
    await world.event(DEPARTED, "2026-04-12T12:05:01.1234569Z")
    assert world.milestones[0].occurred_at.microsecond == 123456


@pytest.mark.parametrize(
    "value",
    [
        "2026-04-12", "12:05:01Z", "1775995501", 1775995501, 1775995501.5, None, True, [], "", "now",
        "2026-02-30T12:00:00Z", "2026-04-12T25:00:00Z", "9999-12-31T23:59:59-12:00", "1999-12-31T23:59:59Z",
        "2026-04-12T12:05:01 Z", "2026-W15-7T12:00:00Z",
    ],
)  # fmt: skip
async def test_b18_other_times_are_refused_by_name(world, value):
    await world.booking()
    status, body, _ = await world.send("POST", PATH, {"event_type": DEPARTED, "occurred_at": value})
    assert status == 400
    assert body["message"] == "Invalid Input Parameter"
    assert body["description"].startswith("occurred_at: ")


async def test_b19_more_than_eight_decimals_are_rounded(world):
    await world.booking()
    await world.journey(DEPARTED)
    await world.event(LIVE, 1, place=(53.481141320000003, -2.240334334999))
    assert (world.lives[0].latitude, world.lives[0].longitude) == (53.48114132, -2.24033433)


@pytest.mark.parametrize("kind", [DEPARTED, LIVE])
@pytest.mark.parametrize("field", ["latitude", "longitude"])
async def test_b20_one_coordinate_alone_is_refused(world, kind, field):
    await world.booking()
    body = {"event_type": kind, "occurred_at": iso(START), field: 1.5}
    status, answer, _ = await world.send("POST", PATH, body)
    assert status == 400
    assert "itude: " in answer["description"]
    assert not answer["description"].startswith(field)


async def test_b21_null_coordinates_of_a_milestone_are_absent(world):
    await world.booking()
    assert await world.event(DEPARTED, 0, place=(None, None)) == (200, "accepted")
    assert world.positions == {}
    assert (await world.event(LIVE, 1, place=(None, None)))[1].startswith("latitude: is required")
    assert (await world.event(LIVE, 1, place=None))[1].startswith("latitude: is required")


@pytest.mark.parametrize("value", ["53.4", True, False, [], {}, 90.1, -90.1, 1e300, 10**400])
async def test_b22_what_is_no_latitude_is_refused(world, value):
    await world.booking()
    status, description = await world.event(DEPARTED, 0, place=(value, 1.0))
    assert status == 400
    assert description.startswith("latitude: ")
    status, description = await world.event(DEPARTED, 0, place=(1.0, value if value != 90.1 else 180.1))
    assert status == (200 if value == -90.1 else 400)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"event_type": "x"', b"[" * 9000,
        b'{"event_type":"DRIVER_DEPARTED_TO_PICKUP","latitude":NaN,"longitude":1,"occurred_at":"2026-04-12T12:00:00Z"}',
        b'{"event_type":"DRIVER_DEPARTED_TO_PICKUP","latitude":1e999,"longitude":1,"occurred_at":"2026-04-12T12:00:00Z"}',
        b'{"event_type":"x","event_type":"DRIVER_DEPARTED_TO_PICKUP","occurred_at":"2026-04-12T12:00:00Z"}',
    ],
)  # fmt: skip
async def test_a_body_that_is_no_event_is_refused(world, body):
    await world.booking()
    status, answer, _ = await world.send("POST", PATH, body)
    assert status == 400
    assert answer["message"] == "Invalid Input Parameter"


@pytest.mark.parametrize("kind", ["", "DRIVER_LOCATION", "driver_live_location", None, 5, ["x"], {}])
async def test_an_unknown_event_type_is_refused_by_name(world, kind):
    await world.booking()
    assert (await world.event(kind, 0))[1].startswith("event_type: ")


async def test_b23_the_zero_point_is_taken_and_marked(world):
    await world.booking()
    await world.journey(DEPARTED)
    assert await world.event(LIVE, 1, place=(0, 0)) == (200, "accepted")
    assert world.lives[0].attributes == {"driver_events.suspect": True}


async def test_b24_unknown_fields_are_ignored_but_a_known_drivers_id_is_compared(world):
    await world.booking()
    assert await world.event(DEPARTED, 0, driver_id="anything", extra={"a": 1}) == (200, "accepted")
    await world.send("POST", "/v2/bookings/B-1/assignDriver", {"driverId": 77})
    assert await world.event(LIVE, 1, driver_id="78") == (
        400,
        "The provided driver ID does not match the assigned ID",
    )
    assert await world.event(LIVE, 1, driver_id="77") == (200, "accepted")
    assert await world.event(LIVE, 2) == (200, "accepted")


async def test_b25_a_milestones_coordinate_is_known_but_opens_nothing(world):
    await world.booking()
    await world.journey(DEPARTED, ARRIVED)
    assert [position.live for position in world.positions.values()] == [False, False]
    assert world.starts == []


async def test_b25_a_milestone_and_a_live_location_of_one_second_are_two_positions(world):
    await world.booking()
    await world.journey(DEPARTED)
    assert await world.event(LIVE, 0) == (200, "accepted")
    assert await world.event(LIVE, 5) == (200, "accepted")
    assert await world.event(ARRIVED, 5) == (200, "accepted")
    assert await world.event(LIVE, 0) == (200, "duplicate")
    assert await world.event(LIVE, 5) == (200, "duplicate")
    assert len(world.positions) == 4
    seconds = sorted(int((recorded - START).total_seconds()) for _, recorded in world.positions)
    assert seconds == [0, 0, 5, 5]
    assert len(world.lives) == 2


async def test_b26_without_provisioning_a_booking_must_be_made(world):
    assert (await world.event(DEPARTED, 0))[0] == 404
    assert world.state.texts == {}


async def test_b26_the_first_event_makes_the_booking_where_that_is_set():
    world = World(auto_provision=True)
    assert (await world.event(LIVE, 0)) == (400, f"Event {LIVE} not allowed as first event")
    assert (await world.event("x", 0))[0] == 400
    assert world.state.texts == {}
    assert await world.event(DEPARTED, "2001-01-01T00:00:00Z") == (200, "accepted")
    assert [profile.source.external_id for profile in world.profiles] == ["C-1/B-1"]
    assert await world.event(LIVE, 0) == (200, "accepted")


async def test_b26_swapped_references_make_no_second_booking():
    world = World(auto_provision=True)
    await world.journey(DEPARTED)
    assert (await world.event(ARRIVED, 60, path="/v1/bookings/B-1/C-1"))[0] == 404
    assert (await world.event(DEPARTED, 60, path="/v1/bookings/other/B-1"))[0] == 404


@pytest.mark.parametrize("status", ["PENDING_AMENDMENT", "PENDING_CANCELLATION", "DRIVER_ASSIGNED"])
async def test_b27_a_pending_booking_is_still_tracked(world, status):
    await world.booking()
    await world.journey(DEPARTED)
    await world.booking(status=status)
    assert await world.event(LIVE, 1) == (200, "accepted")


@pytest.mark.parametrize("status", ["CANCELLED", "COMPLETE"])
async def test_b27_a_booking_that_is_over_takes_no_new_event(world, status):
    await world.booking()
    await world.journey(DEPARTED)
    await world.event(LIVE, 1)
    await world.booking(status=status)
    told = len(world.told)
    for kind in (ARRIVED, LIVE):
        answer = await world.event(kind, 2)
        assert answer == (400, f"Event {kind} not allowed after last event submitted {DEPARTED}: booking is {status}")
    assert await world.event(LIVE, 1) == (200, "duplicate")
    assert await world.event(DEPARTED, 0) == (200, "duplicate")
    assert len(world.told) == told


async def test_b27_a_booking_cancelled_before_it_began(world):
    await world.booking(status="CANCELLED")
    assert await world.event(DEPARTED, 0) == (400, f"Event {DEPARTED} not allowed: booking is CANCELLED")


async def test_b30_swapped_references_are_a_plain_404_with_a_hint_in_the_log(world):
    await world.booking()
    assert await world.event(DEPARTED, 0, path="/v1/bookings/B-1/C-1") == (
        404,
        "Unable to find booking with bookingReference provided",
    )
    assert [text for _, text, _ in world.log.lines] == ["a booking was asked for with its references swapped"]


@pytest.mark.parametrize("path", ["/v1/bookings/x%/y", "/v1/bookings/" + "c" * 91 + "/B-1", "/v1/bookings/a\0b/B-1"])
async def test_impossible_references_are_404(world, path):
    assert (await world.event(DEPARTED, 0, path=path))[0] == 404
