"""The supplier's client over real HTTP against the provider: what it sends, and what its faults lead to."""

import asyncio
import json
import random
from datetime import datetime, timedelta

import pytest
import typer
from aiohttp import web
from aiohttp.test_utils import TestServer
from driver_world import START, World
from typer.testing import CliRunner

from waybridge import DemoSite
from waybridge_driver_events import waybridge_commands
from waybridge_driver_events.demo import DriverEventsDemo
from waybridge_driver_events.simulator import DONE, LIVE, NO_SHOW, Faults, Ride, Supplier
from waybridge_driver_events.simulator_command import parse_faults, read_routes, run

ROUTE = [(-2.2301, 53.4774), (-2.2374, 53.4802), (-2.2446, 53.4808)]


@pytest.fixture
async def gateway():
    """The provider behind a real socket; `fail` is a list of statuses to answer first."""
    world, bodies, fail, prefix = World(), [], [], []

    async def answer(request):
        raw = await request.read()
        bodies.append((request, json.loads(raw) if raw else None))
        if fail:
            return web.Response(status=fail.pop(0), headers={"Retry-After": "3"})
        path = request.path.removeprefix("".join(prefix))
        status, body, headers = await world.send(
            request.method, path, raw, headers={"content-type": request.content_type}
        )
        plain = {name: value for name, value in headers.items() if name != "Content-Type"}
        return web.Response(status=status, body=b"" if body is None else json.dumps(body).encode(), headers=plain)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app)
    await server.start_server()
    server.world, server.bodies, server.fail, server.prefix = world, bodies, fail, prefix
    yield server
    await server.close()


def supplier(gateway, **options):
    clock = gateway.world.clock
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        clock.moment += timedelta(seconds=seconds)

    made = Supplier(str(gateway.make_url("/")), "jwt", clock=clock.now, sleep=sleep, dice=random.Random(7), **options)
    made.slept = slept
    return made


def ride(**more):
    return Ride(customer="C-1", reference="B-1", route=ROUTE, **more)


async def test_a_ride_is_played_from_departure_to_dropoff(gateway):
    async with supplier(gateway) as sender:
        booking = await sender.announce(ride())
        assert booking["device_token"]
        gateway.world.clock.moment = START + timedelta(seconds=1)
        await sender.play(ride(), every=5.0)
    world = gateway.world
    assert [milestone.event_type.removeprefix("DRIVER_") for milestone in world.milestones] == [
        "DEPARTED_TO_PICKUP", "ARRIVED_AT_PICKUP", "DEPARTED_TO_DROPOFF", "ARRIVED_AT_DROPOFF",
    ]  # fmt: skip
    assert (len(world.starts), len(world.stops)) == (1, 1)
    assert set(sender.answers) == {"200", "204", "200 accepted"}
    assert len(world.lives) == sender.sent[LIVE] > 10
    assert world.profiles[-1].full_name == "Ann Lee"
    steps = [b.recorded_at - a.recorded_at for a, b in zip(world.lives, world.lives[1:], strict=False)]
    assert {round(step.total_seconds()) for step in steps} == {5}


async def test_what_it_sends_is_what_the_seed_shows(gateway):
    async with supplier(gateway) as sender:
        await sender.announce(ride())
        await sender.event(ride(), LIVE, (53.481141324, -2.24033433))
    request, body = gateway.bodies[-1]
    assert request.path == "/v1/bookings/C-1/B-1/driver/events"
    assert request.headers["Authorization"] == "Bearer jwt"
    sample = {
        "event_type": LIVE,
        "latitude": 53.48114132,
        "longitude": -2.24033433,
        "occurred_at": "2020-11-17T12:05:01Z",
    }
    assert {key: type(value) for key, value in body.items()} == {key: type(value) for key, value in sample.items()}
    assert body | {"occurred_at": sample["occurred_at"]} == sample
    datetime.strptime(body["occurred_at"], "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007 - only the form
    assign = gateway.bodies[1]
    assert assign[0].path == "/v2/bookings/B-1/assignDriver"
    assert set(assign[1]) == {"driver", "vehicle", "stateHash"}


async def test_no_shows_end_at_the_pickup(gateway):
    async with supplier(gateway, bearer=False) as sender:
        await sender.announce(ride())
        await sender.play(ride(no_show=True))
    assert gateway.world.milestones[-1].event_type == NO_SHOW
    assert [stop.cause for stop in gateway.world.stops] == ["customer_no_show"]
    assert gateway.bodies[0][0].headers["Authorization"] == "jwt"


async def test_duplicates_and_lost_answers_change_nothing(gateway):
    async with supplier(gateway, faults=Faults(duplicates=1, lost_answers=1)) as sender:
        await sender.announce(ride())
        await sender.play(ride())
    assert sender.answers["200 duplicate"] == 2 * sender.answers["200 accepted"]
    assert len(gateway.world.lives) == sender.sent[LIVE] / 3
    assert (len(gateway.world.milestones), len(gateway.world.starts), len(gateway.world.stops)) == (4, 1, 1)


async def test_disorder_is_stored_late_and_nothing_is_lost(gateway):
    async with supplier(gateway, faults=Faults(disorder=0.3)) as sender:
        await sender.announce(ride())
        await sender.play(ride())
    assert sender.answers["200 stored-late"] > 0
    assert not [status for status in sender.answers if status.startswith("4")]
    _, answer, _ = await gateway.world.send("GET", "/v1/bookings/C-1/B-1/tracking")
    assert answer["gap"]["max"] == 5.0


async def test_a_buffer_is_flushed_after_a_time_offline(gateway):
    async with supplier(gateway, faults=Faults(offline_every=30, offline_seconds=30)) as sender:
        await sender.announce(ride())
        await sender.play(ride())
    assert not [status for status in sender.answers if status.startswith("4")]
    _, answer, _ = await gateway.world.send("GET", "/v1/bookings/C-1/B-1/tracking")
    assert answer["gap"]["max"] == 5.0


async def test_dropped_live_locations_show_in_the_figures(gateway):
    async with supplier(gateway, faults=Faults(drops=0.6)) as sender:
        await sender.announce(ride())
        await sender.play(ride())
    _, answer, _ = await gateway.world.send("GET", "/v1/bookings/C-1/B-1/tracking")
    assert answer["gap"]["max"] > 5.0
    assert answer["coverage"]["5s"] < 0.8


async def test_a_clock_that_is_ahead_is_refused(gateway):
    async with supplier(gateway, faults=Faults(skew_seconds=60)) as sender:
        await sender.announce(ride())
        await sender.play(ride())
    assert set(sender.answers) == {"200", "204", "400"}
    assert gateway.world.counts["refused_future"] == sender.answers["400"]


async def test_it_waits_as_long_as_it_is_told_and_sends_again(gateway):
    async with supplier(gateway) as sender:
        await sender.announce(ride())
        gateway.fail += [503, 429, 500]
        await sender.event(ride(), "DRIVER_DEPARTED_TO_PICKUP", (1.0, 2.0))
    assert sender.slept == [3.0, 3.0, 3.0]
    assert sender.answers["200 accepted"] == 1


async def test_it_gives_up_on_a_gateway_that_is_gone(unused_tcp_port):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    async with Supplier(f"http://127.0.0.1:{unused_tcp_port}", "jwt", sleep=sleep) as sender:
        await sender.event(ride(), LIVE, (1.0, 2.0))
    assert sender.answers["lost"] == 8
    assert slept == [1, 2, 4, 8, 16, 32, 64, 128]


async def test_several_bookings_are_played_side_by_side(gateway):
    said, announced = [], []
    gateway.world.clock.now = lambda: datetime.now().astimezone()
    await asyncio.wait_for(
        run(
            url=str(gateway.make_url("/")), token="jwt", bookings=3, routes=[ROUTE], speed_kmh=200_000, every=0.01,
            wait_seconds=0.03, repeat=False, say=said.append, announced=announced.append,
        ),
        20,
    )  # fmt: skip
    assert len({booking["device_token"] for booking in announced}) == 3
    assert len([milestone for milestone in gateway.world.milestones if milestone.event_type == DONE]) == 3
    assert said[-1].startswith("sent ")


async def test_playing_stops_when_it_is_told_to(gateway):
    gateway.world.clock.now = lambda: datetime.now().astimezone()
    stop = asyncio.Event()
    playing = asyncio.create_task(
        run(url=str(gateway.make_url("/")), token="jwt", every=30.0, stop=stop, say=lambda line: None)
    )
    async with asyncio.timeout(5):
        while not gateway.world.lives:
            await asyncio.sleep(0)
        stop.set()
        await playing


def test_faults_are_read_from_the_command_line():
    assert parse_faults(["duplicates=0.5", "naive", "skew_seconds=-3"]) == Faults(
        duplicates=0.5, naive=True, skew_seconds=-3.0
    )
    with pytest.raises(ValueError, match="there is no fault 'x'"):
        parse_faults(["x"])
    with pytest.raises(ValueError, match="could not convert"):
        parse_faults(["drops=often"])


def test_routes_are_read_from_a_file(tmp_path):
    path = tmp_path / "routes.json"
    path.write_text(json.dumps({"a": ROUTE}))
    assert read_routes(path) == [[list(point) for point in ROUTE]]
    path.write_text("[1]")
    with pytest.raises(ValueError, match="no list of routes"):
        read_routes(path)
    with pytest.raises(ValueError, match="two points"):
        Ride(customer="c", reference="r", route=[(1, 2)])


def test_the_command_line_has_it():
    simulate = typer.Typer()
    simulate.callback()(lambda: None)
    waybridge_commands(simulate)
    answer = CliRunner().invoke(simulate, ["driver-events", "--url", "http://x", "--token", "t", "--fault", "nonsense"])
    assert answer.exit_code == 2
    assert "there is no fault" in answer.output


async def test_the_demos_taxis_are_seen_and_do_not_arrive_too_soon(gateway):
    site = DemoSite(
        gateway_url=str(gateway.make_url("")).rstrip("/"), connection_id="demo-driver-events", token="jwt",
        routes=[ROUTE] * 4,
    )  # fmt: skip
    demo = DriverEventsDemo()
    assert await demo.start(site) == {}
    assert [name for name, _ in demo.sources] == ["DEMO-1/TAXI-1", "DEMO-2/TAXI-2"]
    for ride_ in demo._rides:
        assert ride_.length / (28 / 3.6) > 20 * 60
    gateway.world.clock.now = lambda: datetime.now().astimezone()
    gateway.prefix.append("/ingest/demo-driver-events")
    driving = asyncio.create_task(demo.drive())
    async with asyncio.timeout(5):
        while len(gateway.world.starts) < 2:
            await asyncio.sleep(0)
    driving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driving
    assert {start.source.external_id for start in gateway.world.starts} == {name for name, _ in demo.sources}
    await demo.stop()
