"""The transition matrix of the vendor's page, cell by cell, and the order of checks."""

from datetime import timedelta

import pytest
from driver_world import ARRIVED, BOOKING, DEPARTED, DONE, LIVE, NO_SHOW, ON_TRIP, START, World, iso

EVENTS = [DEPARTED, ARRIVED, NO_SHOW, ON_TRIP, DONE, LIVE]
BEFORE = {
    None: [],
    DEPARTED: [DEPARTED],
    ARRIVED: [DEPARTED, ARRIVED],
    ON_TRIP: [DEPARTED, ARRIVED, ON_TRIP],
    NO_SHOW: [DEPARTED, ARRIVED, NO_SHOW],
    DONE: [DEPARTED, ARRIVED, ON_TRIP, DONE],
}
MATRIX = {
    None: "ok first first first first first",
    DEPARTED: "dup ok seq seq seq ok",
    ARRIVED: "dup dup ok ok seq ok",
    ON_TRIP: "dup dup seq dup ok ok",
    NO_SHOW: "dup dup dup seq seq seq",
    DONE: "dup dup seq dup dup seq",
}


@pytest.mark.parametrize("last", MATRIX)
@pytest.mark.parametrize("event", EVENTS)
async def test_every_cell_of_the_matrix(world, last, event):
    await world.booking()
    await world.journey(*BEFORE[last])
    before = dict(world.state.texts), len(world.told)
    cell = MATRIX[last].split()[EVENTS.index(event)]
    answer = await world.event(event, 1000)
    assert (
        answer
        == {
            "ok": (200, "accepted"),
            "dup": (200, "duplicate"),
            "first": (400, f"Event {event} not allowed as first event"),
            "seq": (400, f"Event {event} not allowed after last event submitted {last}"),
        }[cell]
    )
    unchanged = {key: text for key, text in world.state.texts.items() if not key.startswith("refused/")}
    assert ((unchanged, len(world.told)) == before) == (cell != "ok")


@pytest.mark.parametrize("end", [NO_SHOW, DONE])
async def test_a_live_location_in_flight_at_the_end_is_stored_and_never_published(world, end):
    await world.booking()
    await world.journey(*BEFORE[end])
    ended = (len(BEFORE[end]) - 1) * 60
    assert await world.event(LIVE, ended - 1) == (200, "stored-late")
    assert await world.event(LIVE, ended) == (200, "stored-late")
    assert await world.event(LIVE, ended) == (200, "duplicate")
    assert (await world.event(LIVE, ended + 1))[0] == 400
    assert world.lives == []
    assert world.starts == []
    assert world.stops == []


async def test_the_seeds_bodies_are_exact(world):
    await world.booking(assigned_at="2020-08-28T12:00:00Z")
    path = f"{BOOKING}/driver/events"
    sample = {
        "event_type": DEPARTED, "latitude": 53.4883114, "longitude": -2.2522131, "occurred_at": "2020-08-28T12:05:01Z",
    }  # fmt: skip
    live = {
        "event_type": LIVE,
        "latitude": 53.48114132,
        "longitude": -2.24033433,
        "occurred_at": "2020-11-17T12:05:01Z",
    }
    assert await world.send("POST", path, live) == (
        400,
        {"message": "Invalid Input Parameter", "description": f"Event {LIVE} not allowed as first event"},
        {},
    )
    early = {**sample, "occurred_at": "2020-08-28T11:59:59Z"}
    assert (await world.send("POST", path, early))[1] == {
        "message": "Invalid Input Parameter",
        "description": "Event time is before driver assignation time",
    }
    assert await world.send("POST", path, sample) == (200, {}, {"X-Event-Result": "accepted"})
    assert await world.send("POST", path, sample) == (200, {}, {"X-Event-Result": "duplicate"})
    assert await world.send("POST", path, live) == (200, {}, {"X-Event-Result": "accepted"})
    assert (await world.send("POST", path, {**sample, "event_type": DONE}))[1] == {
        "message": "Invalid Input Parameter",
        "description": f"Event {DONE} not allowed after last event submitted {DEPARTED}",
    }
    (position,) = world.lives
    assert (position.latitude, position.longitude) == (53.48114132, -2.24033433)
    assert iso(position.recorded_at) == "2020-11-17T12:05:01Z"
    assert position.source.external_id == "C-1/B-1"


def test_the_dialects_401_is_exact():
    answer = World().provider.capabilities.unauthorized
    assert answer.status == 401
    assert answer.body == (
        b'{"message":"Invalid Authorization Token","description":"Invalid authorization token in header"}'
    )


async def test_an_unknown_booking_is_404_before_anything_else_is_looked_at(world):
    assert await world.send("POST", f"{BOOKING}/driver/events", b"{") == (
        404,
        {"message": "Not Found", "description": "Unable to find booking with bookingReference provided"},
        {"Content-Type": "application/json"},
    )


async def test_checks_come_in_the_vendors_order(world):
    future = {"event_type": DONE, "occurred_at": iso(START + timedelta(days=1)), "latitude": "x"}
    path = f"{BOOKING}/driver/events"

    async def description(body):
        return (await world.send("POST", path, body))[1]["description"]

    await world.send("PUT", BOOKING, {})
    assert (await description(future)).startswith("latitude: ")
    del future["latitude"]
    assert await description(future) == "Event time is in the future"
    past = {**future, "occurred_at": iso(START - timedelta(days=1)), "driver_id": "other"}
    assert await description(past) == "Driver is not assigned to the booking"
    await world.booking(driver={"driverId": "d1"}, assigned_at=iso(START - timedelta(hours=1)))
    assert await description(past) == "The provided driver ID does not match the assigned ID"
    del past["driver_id"]
    assert await description(past) == "Event time is before driver assignation time"
    assert await description({**past, "occurred_at": iso(START)}) == f"Event {DONE} not allowed as first event"
    await world.journey(DEPARTED)
    too_old = iso(START - timedelta(seconds=1))
    assert await description({**past, "occurred_at": too_old}) == (
        f"Event {DONE} not allowed after last event submitted {DEPARTED}"
    )
    assert await description({**past, "event_type": ARRIVED, "occurred_at": too_old}) == (
        "Event time is before last event time"
    )


async def test_a_duplicate_is_told_before_any_test_of_time_or_order(world):
    await world.booking()
    await world.journey(DEPARTED, ARRIVED, ON_TRIP)
    assert await world.event(DEPARTED, -10_000) == (200, "duplicate")
    assert await world.event(ARRIVED, 3600) == (200, "duplicate")
    assert (await world.event(ARRIVED, 3700))[1] == "Event time is in the future"


async def test_strict_later_refuses_equal_times():
    world = World(strict_later=True)
    await world.booking()
    await world.journey(DEPARTED)
    assert (await world.event(ARRIVED, 0))[1] == "Event time is before last event time"
    assert await world.event(ARRIVED, 1) == (200, "accepted")


async def test_equal_times_are_taken_by_default(world):
    await world.booking()
    await world.journey(DEPARTED, ARRIVED, ON_TRIP, DONE, step=0)


@pytest.mark.parametrize("strict", [False, True])
async def test_strict_order_lets_live_locations_count_in_the_chronology(strict):
    world = World(strict_order=strict)
    await world.booking()
    await world.journey(DEPARTED)
    assert await world.event(LIVE, 10) == (200, "accepted")
    refused = (400, "Event time is before last event time")
    assert await world.event(LIVE, 5) == (refused if strict else (200, "stored-late"))
    assert await world.event(ARRIVED, 8) == (refused if strict else (200, "accepted"))
    assert await world.event(ARRIVED, 10) == ((200, "accepted") if strict else (200, "duplicate"))
