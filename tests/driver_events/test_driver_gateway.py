"""Driver events through the real gateway, on both databases."""

import asyncio
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from driver_oracle import NAMES, Oracle
from driver_world import ARRIVED, DEPARTED, DONE, LIVE, ON_TRIP, iso
from running import running_gateway

STEPS = [2_000, pytest.param(100_000, marks=pytest.mark.soak)]
SAMPLE = {"latitude": 53.48, "longitude": -2.24}


@pytest.fixture
async def taxi(database_url, tmp_path):
    connection = {"id": "taxi", "provider": "driver_events", "instance_id": "default", "settings": {}}
    async with running_gateway(database_url, tmp_path, connections=[connection]) as gateway:
        yield Taxi(gateway)


class Taxi:
    """A supplier and an operator of one running gateway."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.headers = gateway.headers("ingest")
        self.reading = gateway.headers("read write")

    async def send(self, method, path, body=None, headers=None):
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(self.headers if headers is None else headers)}
        url = f"{self.gateway.url}/ingest/taxi{path}"
        async with self.gateway.http.request(method, url, data=data, headers=headers) as response:
            raw = await response.read()
            return response.status, json.loads(raw) if raw else None, response.headers

    async def event(self, booking, kind, at, **place):
        body = {"event_type": kind, "occurred_at": iso(at), **(place or SAMPLE)}
        status, answer, headers = await self.send("POST", f"/v1/bookings/{booking}/driver/events", body)
        return status, headers["X-Event-Result"] if status == 200 else answer["description"]

    async def book(self, booking, at, **fields):
        body = {"assigned_at": iso(at), "driver": {"firstName": "Ann", "lastName": "Lee"}, **fields}
        status, answer, _ = await self.send("PUT", f"/v1/bookings/{booking}", body)
        assert status == 200
        return answer["device_token"]

    async def read(self, path):
        async with self.gateway.http.get(f"{self.gateway.url}/api/v1{path}", headers=self.reading) as response:
            return response.status, await response.json()


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("steps", STEPS)
async def test_random_events_are_judged_as_the_tables_say_by_the_whole_gateway(taxi, steps):
    dice, lengths = random.Random(5), []
    while sum(lengths) < steps:
        lengths.append(min(dice.randrange(10, 120), steps - sum(lengths)))
    rides = iter(enumerate(lengths))

    async def ride_on():
        for number, length in rides:
            await ride(taxi, number, length)

    async with asyncio.TaskGroup() as side_by_side:
        for _ in range(8):
            side_by_side.create_task(ride_on())


async def ride(taxi, number, length):
    """So many random events of one booking, each answered as the oracle says."""
    dice, oracle = random.Random(number), Oracle(strict_later=False, strict_order=False, skew=5)
    start = (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0)
    booking = f"C-{number}/B-{number}"
    token = await taxi.book(booking, start)
    oracle.assigned = 0
    newest = None
    for clock in range(5, 5 + 10 * length, 10):
        kind = dice.choices(range(6), [3, 3, 1, 2, 2, 9])[0]
        sent = max(-20, clock - dice.choice([0, 0, 0, 1, 2, 10, 20, 60, 400]))
        if dice.random() < 0.03:
            sent = 200_000
        expected = oracle.answer(kind, sent, 100_000)
        place = {"latitude": round(1 + clock / 1e6, 8), "longitude": 2.0}
        answered = await taxi.event(booking, NAMES[kind], start + timedelta(seconds=sent), **place)
        assert answered == expected, (number, NAMES[kind], sent, oracle.steps, oracle.live)
        if NAMES[kind] == LIVE and expected == (200, "accepted"):
            newest = place["latitude"]
    _, tracking, _ = await taxi.send("GET", f"/v1/bookings/{booking}/tracking")
    assert tracking["live"]["count"] == oracle.kept
    assert tracking["sharing"] == bool(oracle.started and not oracle.stopped)
    if newest is not None:
        status, shown = await taxi.read(f"/devices/{token}/position?instance_id=default")
        assert (status, shown["sharing"]) == (200, not oracle.stopped)
        if not oracle.steps or max(step[1] for step in oracle.steps) < max(each[1] for each in oracle.live):
            assert shown["latitude"] == newest


async def test_rivals_for_one_booking_are_all_answered_and_one_wins(taxi):
    start = datetime.now(UTC) - timedelta(hours=1)
    await taxi.book("C/B", start)
    answers = await asyncio.gather(*(taxi.event("C/B", DEPARTED, start) for _ in range(30)))
    assert Counter(answers) == {(200, "accepted"): 1, (200, "duplicate"): 29}
    answers = await asyncio.gather(*(taxi.event("C/B", LIVE, start + timedelta(seconds=n // 2)) for n in range(2, 62)))
    told = Counter(result for _, result in answers)
    assert {status for status, _ in answers} == {200}
    assert told["duplicate"] == 30
    assert told["accepted"] + told["stored-late"] == 30


async def test_a_journey_is_seen_only_while_it_is_shared(taxi):
    start = (datetime.now(UTC) - timedelta(minutes=1)).replace(microsecond=0)
    pickup = {"latitude": 53.5, "longitude": -2.2, "label": "Airport"}
    token = await taxi.book("C/B", start, pickup=pickup)
    share = {"device_token": token, "instance_id": "default", "expires_in_hours": 1}
    base = f"{taxi.gateway.url}/api/v1"
    async with taxi.gateway.http.post(f"{base}/sharing/sessions", json=share, headers=taxi.reading) as response:
        session = await response.json()
        assert response.status == 201, session

    async def viewed():
        async with taxi.gateway.http.get(f"{base}/share/{session['share_token']}") as response:
            return response.status, await response.json()

    assert (await viewed())[1]["driver"] is None
    await taxi.event("C/B", DEPARTED, start)
    status, view = await viewed()
    assert (status, view["driver"], view["stage"]) == (200, None, "en_route_to_pickup")
    assert view["destination"]["label"] == "Airport"
    assert await taxi.event("C/B", LIVE, start, latitude=53.4, longitude=-2.3) == (200, "accepted")
    status, view = await viewed()
    assert (view["driver"]["latitude"], view["driver"]["longitude"]) == (53.4, -2.3)
    status, position = await taxi.read(f"/devices/{token}/position?instance_id=default")
    assert (position["latitude"], position["timestamp"], position["sharing"]) == (53.4, int(start.timestamp()), True)
    for number, kind in enumerate((ARRIVED, ON_TRIP, DONE), 10):
        assert await taxi.event("C/B", kind, start + timedelta(seconds=number)) == (200, "accepted")
    assert (await viewed())[0] == 410
    status, position = await taxi.read(f"/devices/{token}/position?instance_id=default")
    assert (status, position["sharing"]) == (200, False)
    assert await taxi.event("C/B", LIVE, start + timedelta(seconds=5)) == (200, "stored-late")


async def test_what_arrives_after_the_end_is_in_the_track_and_moves_nothing(taxi):
    start = (datetime.now(UTC) - timedelta(minutes=1)).replace(microsecond=0)
    token = await taxi.book("C/B", start)
    await taxi.event("C/B", DEPARTED, start)
    await taxi.event("C/B", LIVE, start + timedelta(seconds=1), latitude=53.4, longitude=-2.3)
    for number, kind in enumerate((ARRIVED, ON_TRIP, DONE), 10):
        nowhere = {"latitude": None, "longitude": None}
        assert await taxi.event("C/B", kind, start + timedelta(seconds=number), **nowhere) == (200, "accepted")
    late = await taxi.event("C/B", LIVE, start + timedelta(seconds=5), latitude=54.0, longitude=-2.3)
    assert late == (200, "stored-late")
    _, position = await taxi.read(f"/devices/{token}/position?instance_id=default")
    assert (position["latitude"], position["sharing"]) == (53.4, False)
    _, track = await taxi.read(f"/devices/{token}/tracks?instance_id=default")
    assert [point["latitude"] for point in track["points"]] == [53.4, 54.0]


async def test_tokens_are_refused_in_the_dialect(taxi):
    expected = {
        "message": "Invalid Authorization Token",
        "description": "Invalid authorization token in header",
    }
    path = "/v1/bookings/C/B/driver/events"
    for headers in (
        {}, {"Authorization": "Bearer nonsense"}, {"Authorization": "nonsense"}, taxi.gateway.headers("read"),
        taxi.gateway.headers("ingest", "other"),
    ):  # fmt: skip
        status, body, _ = await taxi.send("POST", path, {}, headers=headers)
        assert (status, body) == (401, expected), headers
    bare = {"Authorization": taxi.gateway.token("ingest")}
    assert (await taxi.send("POST", path, {}, headers=bare))[0] == 404


async def test_large_bodies_are_refused(taxi):
    await taxi.book("C/B", datetime.now(UTC))
    status, body, _ = await taxi.send("POST", "/v1/bookings/C/B/driver/events", b" " * 20_000)
    assert (status, set(body)) == (413, {"message", "description"})
    assert (await taxi.send("POST", "/v1/bookings/C/B/driver/events", b" " * 1_000_000))[0] == 413


@pytest.mark.postgres
async def test_rivals_on_two_nodes_are_one_event(postgres_url, tmp_path):
    connection = {"id": "taxi", "provider": "driver_events", "instance_id": "default", "settings": {}}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        running_gateway(postgres_url, tmp_path / "a", connections=[connection]) as first,
        running_gateway(postgres_url, tmp_path / "b", connections=[connection]) as second,
    ):
        nodes = [Taxi(first), Taxi(second)]
        start = (datetime.now(UTC) - timedelta(hours=1)).replace(microsecond=0)
        await nodes[0].book("C/B", start)
        answers = await asyncio.gather(*(nodes[n % 2].event("C/B", DEPARTED, start) for n in range(20)))
        assert Counter(answers) == {(200, "accepted"): 1, (200, "duplicate"): 19}
        answers = await asyncio.gather(
            *(nodes[n % 2].event("C/B", LIVE, start + timedelta(seconds=1 + n // 2)) for n in range(20))
        )
        assert {status for status, _ in answers} == {200}
        assert Counter(result for _, result in answers)["duplicate"] == 10
        _, tracking, _ = await nodes[1].send("GET", "/v1/bookings/C/B/tracking")
        assert tracking["live"]["count"] == 10


async def test_an_erased_device_leaves_nothing_of_its_booking_behind(taxi):
    start = (datetime.now(UTC) - timedelta(hours=1)).replace(microsecond=0)
    token = await taxi.book("C/B", start)
    await taxi.book("C/BB", start)
    await taxi.event("C/B", DEPARTED, start)
    await taxi.event("C/B", LIVE, start)
    url = f"{taxi.gateway.url}/api/v1/devices/{token}/data?instance_id=default"
    async with taxi.gateway.http.delete(url, headers=taxi.reading) as response:
        assert response.status in {200, 204}
    assert (await taxi.send("GET", "/v1/bookings/C/B"))[0] == 404
    assert (await taxi.send("GET", "/v1/bookings/C/BB"))[0] == 200
    state = taxi.gateway.house.supervisor.runtime("taxi").provider.context.state
    assert [key for key in await state.items() if key.endswith("/C/B") or "/C/B/" in key] == []
    assert await taxi.book("C/B", start) == token
    assert await taxi.event("C/B", DEPARTED, start) == (200, "accepted")
