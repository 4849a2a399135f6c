"""Bookings and assignments: made, changed, shown, ended by the clock, forgotten."""

import json
import uuid
from datetime import timedelta

import pytest
from driver_world import ARRIVED, BOOKING, DEPARTED, DONE, LIVE, ON_TRIP, START, World, iso

from waybridge import Milestone, Place, Stage

ASSIGN = "/v2/bookings/B-1/assignDriver"
PICKUP = {"latitude": 53.5, "longitude": -2.2, "label": "Airport"}
DROPOFF = {"latitude": 53.4, "longitude": -2.3, "label": None}


async def test_a_put_makes_a_booking_with_its_device(world):
    status, booking, _ = await world.send(
        "PUT", BOOKING,
        {
            "driver": {"firstName": "Ann", "lastName": "Lee", "telephoneNumber": "+441", "photoURL": "https://x/p.jpg"},
            "vehicle": {"make": "VW", "model": "Caddy", "registration": "AB1", "colour": "blue"},
            "pickup": PICKUP, "dropoff": DROPOFF, "assigned_at": "2026-04-12T11:00:00Z",
        },
    )  # fmt: skip
    assert status == 200
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "waybridge")
    assert booking["device_token"] == str(uuid.uuid5(namespace, "acme/taxi/C-1/B-1"))
    assert (booking["customer_reference"], booking["booking_reference"]) == ("C-1", "B-1")
    assert booking["status"] == "DRIVER_ASSIGNED"
    assert booking["assigned_at"] == "2026-04-12T11:00:00Z"
    assert booking["driver"]["lastName"] == "Lee"
    assert booking["vehicle"]["colour"] == "blue"
    assert (booking["pickup"], booking["dropoff"]) == (PICKUP, DROPOFF)
    (profile,) = world.profiles
    assert (profile.full_name, profile.first_name, profile.last_name, profile.phone) == (
        "Ann Lee",
        "Ann",
        "Lee",
        "+441",
    )
    assert profile.source.external_id == "C-1/B-1"
    assert (await world.send("GET", BOOKING))[1] == booking


async def test_a_put_without_a_body_makes_a_bare_booking(world):
    status, booking, _ = await world.send("PUT", BOOKING)
    assert (status, booking["assigned"], booking["driver"]) == (200, False, None)


async def test_our_own_times_are_unix_seconds_too(world):
    body = {"assigned_at": START.timestamp(), "pickup_at": int(START.timestamp()) + 60}
    _, booking, _ = await world.send("PUT", BOOKING, body)
    assert (booking["assigned_at"], booking["pickup_at"]) == (iso(START), iso(START + timedelta(seconds=60)))


async def test_a_booking_without_a_driver_is_known_but_not_assigned(world):
    status, booking, _ = await world.send("PUT", BOOKING, {"pickup": PICKUP})
    assert (status, booking["assigned"], booking["status"]) == (200, False, "ACCEPTED")
    assert len(world.profiles) == 1
    assert await world.event(DEPARTED, 0) == (400, "Driver is not assigned to the booking")


async def test_assigning_is_repeatable_and_answers_204(world):
    await world.send("PUT", BOOKING, {})
    world.clock.moment = START - timedelta(minutes=5)
    for name in ("Ann", "Bob"):
        body = {"driver": {"firstName": name}, "vehicle": {"make": "VW"}, "stateHash": "abc"}
        assert await world.send("POST", ASSIGN, body) == (204, None, {})
        world.clock.moment += timedelta(minutes=20)
    booking = (await world.send("GET", BOOKING))[1]
    assert booking["driver"] == {"firstName": "Bob"}
    assert booking["assigned_at"] == iso(START - timedelta(minutes=5))
    assert [profile.full_name for profile in world.profiles] == [None, "Ann", "Bob"]


async def test_a_new_driver_inherits_nothing_of_the_old_one(world):
    await world.booking(driver={"firstName": "Ann", "lastName": "Lee", "telephoneNumber": "+441"})
    await world.send("POST", ASSIGN, {"driver": {"lastName": "Ray"}})
    profile = world.profiles[-1]
    assert (profile.first_name, profile.last_name, profile.full_name, profile.phone) == ("", "Ray", "Ray", "")


@pytest.mark.parametrize(
    "body",
    [
        {}, {"stateHash": "x"}, {"driver": None, "vehicle": None}, {"driver": "Ann"}, {"vehicle": []},
        {"driver": {"firstName": 5}}, {"driver": {"firstName": "a\0b"}}, {"driver": {"firstName": "x" * 301}},
        {"driverId": True},
    ],
)  # fmt: skip
async def test_an_assignment_of_nobody_is_refused(world, body):
    await world.send("PUT", BOOKING, {})
    status, answer, _ = await world.send("POST", ASSIGN, body)
    assert (status, answer["message"]) == (400, "Invalid Input Parameter")
    assert not json.loads(world.state.texts["booking/C-1/B-1"]).get("assigned")


async def test_an_unknown_booking_cannot_be_assigned(world):
    status, answer, _ = await world.send("POST", ASSIGN, {"driverId": "1"})
    assert (status, answer["description"]) == (404, "Unable to find booking with bookingReference provided")


@pytest.mark.parametrize("status", ["NEW", "CANCELLED", "COMPLETE"])
async def test_a_driver_is_not_assigned_in_every_state(world, status):
    await world.send("PUT", BOOKING, {"status": status})
    assert (await world.send("POST", ASSIGN, {"driverId": "1"}))[0] == 400


async def test_a_put_changes_only_what_it_names(world):
    await world.booking(pickup=PICKUP)
    _, booking, _ = await world.send("PUT", BOOKING, {"dropoff": DROPOFF})
    assert booking["driver"] == {"firstName": "Ann"}
    assert (booking["pickup"], booking["dropoff"]) == (PICKUP, DROPOFF)
    _, booking, _ = await world.send("PUT", BOOKING, {"pickup": None})
    assert (booking["pickup"], booking["dropoff"]) == (None, DROPOFF)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"pickup": {"latitude": 1}}, "pickup"), ({"pickup": 5}, "pickup"), ({"status": "GONE"}, "status"),
        ({"status": 5}, "status"), ({"assigned_at": "soon"}, "assigned_at"),
        ({"assigned_at": 1e30}, "assigned_at"), ({"assigned_at": 5}, "assigned_at"),
        ({"assigned_at": True}, "assigned_at"),
        ({"driver": []}, "driver"),
        ({"dropoff": {"latitude": "1", "longitude": 2}}, "latitude"), ([], "body"),
        ({"dropoff": {"latitude": 1, "longitude": 2, "label": 5}}, "dropoff.label"),
    ],
)  # fmt: skip
async def test_a_put_that_is_wrong_is_refused_by_name(world, body, field):
    status, answer, _ = await world.send("PUT", BOOKING, body)
    assert (status, answer["message"]) == (400, "Invalid Input Parameter")
    assert answer["description"].startswith(f"{field}: ")
    assert world.state.texts == {}


async def test_a_booking_reference_belongs_to_one_booking(world):
    await world.booking()
    status, answer, _ = await world.send("PUT", "/v1/bookings/C-2/B-1", {})
    assert (status, answer["message"]) == (409, "Conflict")


async def test_a_share_without_destination_is_shown_the_pickup_and_then_the_dropoff(world):
    await world.booking(pickup=PICKUP, dropoff=DROPOFF)

    def targets():
        return [milestone.target for milestone in world.reported(Milestone) if milestone.target is not None]

    assert targets() == [Place(53.5, -2.2, "Airport")]
    await world.journey(DEPARTED, ARRIVED, ON_TRIP)
    assert targets()[1:] == [Place(53.4, -2.3, None)]
    await world.booking(dropoff={"latitude": 1, "longitude": 2})
    assert targets()[-1] == Place(1, 2, None)


async def test_milestones_tell_stages_and_references(world):
    await world.booking()
    await world.journey(DEPARTED, ARRIVED, ON_TRIP, DONE)
    assert [milestone.stage for milestone in world.milestones] == [
        Stage.EN_ROUTE_TO_PICKUP, Stage.AT_PICKUP, Stage.ON_TRIP, Stage.ARRIVED,
    ]  # fmt: skip
    assert [milestone.event_type for milestone in world.milestones] == [DEPARTED, ARRIVED, ON_TRIP, DONE]
    assert world.milestones[0].references == {"customer_reference": "C-1", "booking_reference": "B-1"}
    assert [milestone.completes_shares for milestone in world.milestones] == [False, False, False, True]


async def test_a_cancellation_stops_the_sharing_and_completes_the_shares(world):
    await world.booking()
    await world.journey(DEPARTED)
    await world.event(LIVE, 1)
    world.clock.moment = START + timedelta(minutes=9)
    for _ in range(2):
        await world.booking(status="CANCELLED")
    assert [(stop.cause, stop.ended_at) for stop in world.stops] == [("booking_cancelled", world.clock.moment)]
    closing = [milestone for milestone in world.reported(Milestone) if milestone.completes_shares]
    assert [(each.event_type, each.stage) for each in closing] == [(None, Stage.TRIP_ENDED)]
    status, answer, _ = await world.send("PUT", BOOKING, {"status": "DRIVER_ASSIGNED"})
    assert (status, answer["description"]) == (409, "Booking is CANCELLED")


async def test_a_cancellation_after_the_dropoff_ends_nothing_twice(world):
    await world.booking()
    await world.journey(DEPARTED)
    await world.event(LIVE, 1)
    for number, kind in enumerate((ARRIVED, ON_TRIP, DONE)):
        await world.event(kind, 60 + number)
    await world.booking(status="CANCELLED")
    assert [stop.cause for stop in world.stops] == ["arrived_at_dropoff"]
    assert sum(milestone.completes_shares for milestone in world.reported(Milestone)) == 1


async def test_a_booking_completes_six_hours_after_its_pickup_time(world):
    await world.booking(pickup_at=iso(START + timedelta(hours=2)))
    await world.journey(DEPARTED)
    await world.event(LIVE, 1)
    world.clock.moment = START + timedelta(hours=8) - timedelta(seconds=1)
    await world.sweep()
    assert world.stops == []
    world.clock.moment += timedelta(seconds=1)
    await world.sweep()
    await world.sweep()
    assert [(stop.cause, stop.ended_at) for stop in world.stops] == [("completed", world.clock.moment)]
    assert (await world.send("GET", BOOKING))[1]["status"] == "COMPLETE"
    assert "open/C-1/B-1" not in world.state.texts
    assert world.clock.slept == [60.0] * 3


async def test_without_a_pickup_time_the_six_hours_run_from_the_drivers_own_events(world):
    await world.booking(assigned_at="2020-01-01T00:00:00Z")
    world.clock.moment = START
    await world.event(DEPARTED, "2020-01-01T10:00:00Z", received_at=START)
    await world.sweep()
    assert world.stops == []
    await world.event(ARRIVED, "2020-01-01T11:00:00Z", received_at=START + timedelta(hours=1))
    world.clock.moment = START + timedelta(hours=7) - timedelta(seconds=1)
    await world.sweep()
    assert (await world.send("GET", BOOKING))[1]["status"] == "DRIVER_ASSIGNED"
    world.clock.moment += timedelta(seconds=1)
    await world.sweep()
    assert (await world.send("GET", BOOKING))[1]["status"] == "COMPLETE"


async def test_a_finished_booking_is_not_completed_again_and_is_forgotten_in_the_end(world):
    await world.booking()
    await world.journey(DEPARTED, ARRIVED)
    await world.event(LIVE, 70)
    await world.event(ON_TRIP, 80)
    await world.event(DONE, 90)
    await world.event(LIVE, 91)
    told = len(world.told)
    world.clock.moment = START + timedelta(days=89)
    await world.sweep()
    assert await world.event(LIVE, 70) == (200, "duplicate")
    assert len(world.told) == told
    world.clock.moment = START + timedelta(days=95)
    await world.sweep()
    assert [key for key in world.state.texts if not key.startswith("forget/")] == []
    assert (await world.event(LIVE, 70))[0] == 404
    world.clock.moment = START + timedelta(days=366)
    await world.sweep()
    assert world.state.texts == {}


async def test_a_token_bound_to_a_device_opens_its_own_booking_only(world):
    own = (await world.booking())["device_token"]
    assert (await world.send("GET", BOOKING, device=own.upper()))[0] == 200
    status, answer, _ = await world.send("GET", BOOKING, device=str(uuid.uuid4()))
    assert (status, answer["message"]) == (401, "Invalid Authorization Token")
    assert (await world.send("POST", ASSIGN, {"driverId": "1"}, device="someone"))[0] == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", BOOKING, 405), ("GET", f"{BOOKING}/driver/events", 405), ("PUT", ASSIGN, 405),
        ("POST", f"{BOOKING}/tracking", 405), ("GET", "/v1/bookings", 404), ("GET", "/", 404),
        ("POST", f"{BOOKING}/driver", 404), ("GET", f"{BOOKING}/tracking", 404),
    ],
)  # fmt: skip
async def test_other_addresses_are_answered_in_the_dialect(world, method, path, status):
    answered, body, headers = await world.send(method, path)
    assert answered == status
    assert set(body) == {"message", "description"}
    assert ("Allow" in headers) == (status == 405)


async def test_bodies_over_16_kib_and_other_media_are_refused_in_the_dialect(world):
    await world.booking()
    path = f"{BOOKING}/driver/events"
    status, answer, _ = await world.send("POST", path, b" " * 16_385)
    assert (status, set(answer)) == (413, {"message", "description"})
    status, answer, _ = await world.send("POST", path, b"<a/>", headers={"content-type": "application/xml"})
    assert (status, set(answer)) == (415, {"message", "description"})
    assert (await world.send("POST", path, b"{}", headers={"content-type": "application/vnd.a+json; v=1"}))[0] == 400


# How well a booking was tracked.


async def tracked(world, *seconds, end=None):
    await world.booking()
    await world.event(DEPARTED, 0)
    for second in seconds:
        assert (await world.event(LIVE, second))[0] == 200
    if end is not None:
        for kind in (ARRIVED, ON_TRIP, DONE):
            assert (await world.event(kind, end))[0] == 200
    status, answer, _ = await world.send("GET", f"{BOOKING}/tracking")
    assert status == 200
    return answer


async def test_tracking_figures_of_a_journey(world):
    answer = await tracked(world, 0, 5, 10, 40, end=50)
    assert answer["gap"] == {"count": 3, "p50": 5.0, "p95": 30.0, "max": 30.0, "over_20s": 1}
    assert answer["coverage"] == {"5s": 0.4, "20s": 0.8}
    assert answer["live"]["count"] == 4
    assert answer["live"]["first_at"] == iso(START)
    assert answer["live"]["last_at"] == iso(START + timedelta(seconds=40))


async def test_a_late_live_location_closes_the_gap_it_was_missing_in(world):
    answer = await tracked(world, 0, 30, 10, 20, end=30)
    assert answer["gap"] == {"count": 3, "p50": 10.0, "p95": 10.0, "max": 10.0, "over_20s": 0}
    assert answer["live"]["late"] == 2
    assert answer["coverage"] == {"5s": 0.5, "20s": 1.0}


async def test_an_open_window_is_measured_up_to_the_newest_live_location(world):
    answer = await tracked(world, 5, 10)
    assert answer["coverage"] == {"5s": 0.5, "20s": 0.5}


async def test_nothing_is_made_up_where_nothing_is_known(world):
    await world.booking()
    _, answer, _ = await world.send("GET", f"{BOOKING}/tracking")
    assert answer["gap"] == {"count": 0, "p50": None, "p95": None, "max": None, "over_20s": 0}
    assert answer["coverage"] == {"5s": None, "20s": None}


async def test_a_long_journey_is_measured_over_all_its_stretches(world):
    answer = await tracked(world, *range(0, 3600, 5), end=3600)
    assert answer["gap"] == {"count": 719, "p50": 5.0, "p95": 5.0, "max": 5.0, "over_20s": 0}
    assert answer["coverage"] == {"5s": 1.0, "20s": 1.0}
    assert len([key for key in world.state.texts if key.startswith("times/")]) == 6


async def test_refusals_are_counted_by_reason(world):
    await world.booking()
    await world.event(LIVE, 0)
    await world.event(LIVE, 0)
    await world.event("x", 0)
    _, answer, _ = await world.send("GET", f"{BOOKING}/tracking")
    assert answer["refused"] == {"first": 2, "field": 1}
    assert world.counts == {"refused_first": 2, "refused_field": 1}


# Our own batch.


def live(second, **more):
    place = {"latitude": 53.4, "longitude": -2.2}
    return {"event_type": LIVE, "occurred_at": iso(START + timedelta(seconds=second)), **place, **more}


async def test_a_batch_is_judged_item_by_item(world):
    await world.booking()
    step = {"event_type": DEPARTED, "occurred_at": iso(START)}
    items = [live(1), step, live(5), live(3), live(5), {"event_type": "x"}, step, 7]
    world.clock.moment = START + timedelta(hours=1)
    status, answer, _ = await world.send("POST", f"{BOOKING}/driver/events:batch", {"events": items})
    assert status == 200
    told = [result.get("result") or result["description"].split(":")[0] for result in answer["results"]]
    assert told == [
        f"Event {LIVE} not allowed as first event", "accepted", "accepted", "stored-late", "duplicate", "event_type",
        "duplicate", "body",
    ]  # fmt: skip
    assert [result["index"] for result in answer["results"]] == list(range(8))
    assert len(world.lives) == 2
    assert len(world.starts) == 1
    again = await world.send("POST", f"{BOOKING}/driver/events:batch", items[1:5])
    assert {result["result"] for result in again[1]["results"]} == {"duplicate"}


@pytest.mark.parametrize("items", [[], [1] * 501, {}, {"events": 5}, 5])
async def test_a_batch_has_1_to_500_events(world, items):
    await world.booking()
    status, answer, _ = await world.send("POST", f"{BOOKING}/driver/events:batch", items)
    assert status == 400
    assert answer["description"].startswith("events: ")


async def test_a_batch_of_500_may_be_larger_than_a_single_body(world):
    await world.booking()
    world.clock.moment = START + timedelta(hours=1)
    await world.event(DEPARTED, 0)
    items = [live(n * 5, note="x" * 60) for n in range(500)]
    assert len(json.dumps(items)) > 65_536
    status, answer, _ = await world.send("POST", f"{BOOKING}/driver/events:batch", items)
    assert status == 200
    assert {result["result"] for result in answer["results"]} == {"accepted"}


async def test_a_batch_that_is_refused_as_a_whole_makes_no_booking():
    world = World(auto_provision=True)
    status, answer, _ = await world.send("POST", f"{BOOKING}/driver/events:batch", [live(1)])
    assert (status, answer["results"][0]["status"]) == (200, 400)
    assert world.state.texts == {}
    assert world.told == []
