"""What a recipient sees: stages, consent, the session's own trip, hidden fields (contract sections 2 and 8)."""

from __future__ import annotations

from dataclasses import asdict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from waybridge.bus import Fix
from waybridge.model import Place, Stage
from waybridge.roster import Device, Period, Policy, Source, Trip
from waybridge.sharing import NewSession, sight, view
from waybridge.sharing.view import PastTrip
from waybridge.store.changes import Changes
from waybridge.store.fixes import record, row
from waybridge.store.sessions import ShareConfig, ShareSession

from .world import INSTANCE, TOKEN, World

NOW = 1_776_000_000_000_000
OLD, CURRENT = Trip(1, "old", NOW - 9, NOW - 5), Trip(2, "current", NOW - 4)


def session_with(**changes: object) -> ShareSession:
    values = {
        "id": "s", "instance_id": INSTANCE, "device_token": TOKEN, "device_id": 1, "token_sealed": b"",
        "created_us": NOW, "updated_us": NOW, "expires_us": NOW + 1, "order_id": "o", "notes": "n",
    }  # fmt: skip
    return ShareSession(**values | changes)  # type: ignore[arg-type]


def device_with(
    fix: Fix | None, *, consent: str = "none", shares: bool = False, ended: bool = False, trip: Trip | None = None,
    stage: Stage | None = None,
) -> Device:  # fmt: skip
    device = Device(1, INSTANCE, TOKEN)
    policy = Policy(instance_id=INSTANCE, connection_id="c", provider="p", consent=consent)  # type: ignore[arg-type]
    source = Source(1, "c", "x", device, policy)
    device.sources, device.winner, device.stage = [source], source, stage
    source.last, source.trip = fix, trip
    source.period = Period(1, "s", NOW, None, "consent", None, None, None) if shares else None
    source.last_ended_us = NOW - 1 if ended else None
    return device


def fix_of(trip: Trip | None = None, **changes: object) -> Fix:
    values = {"latitude": 51.5, "longitude": -0.1, "speed": 12.5, "heading": 245.0} | changes
    return Fix(NOW - 3_000_000, NOW, NOW, trip_id=trip.id if trip else None, **values)  # type: ignore[arg-type]


def seen(device: Device | None, past: PastTrip | None = None, **changes: object) -> tuple[bool, str]:
    found = sight(session_with(**changes), device, past)
    return found.fix is not None, found.stage.value


def test_stages_say_why_nothing_is_to_be_seen_or_what_is() -> None:
    fix = fix_of()
    assert seen(None) == (False, "waiting")
    assert seen(device_with(None)) == (False, "waiting")
    assert seen(device_with(fix)) == (True, "live")
    assert seen(device_with(fix, stage=Stage.AT_PICKUP)) == (True, "at_pickup")
    assert seen(device_with(None, consent="public")) == (False, "waiting")
    assert seen(device_with(None, consent="public", stage=Stage.EN_ROUTE_TO_PICKUP)) == (False, "en_route_to_pickup")
    assert seen(device_with(fix, consent="public", shares=True, stage=Stage.ON_TRIP)) == (True, "on_trip")
    assert seen(device_with(fix, consent="public", ended=True, stage=Stage.ON_TRIP)) == (False, "not_sharing")
    assert seen(device_with(fix, consent="public", ended=True, stage=Stage.ARRIVED)) == (False, "arrived")
    assert seen(device_with(fix, consent="public", ended=True, stage=Stage.NO_SHOW)) == (False, "no_show")
    assert seen(device_with(None, consent="all", ended=True)) == (False, "not_sharing")


def test_a_session_of_a_trip_shows_that_trip_alone() -> None:
    wanted = {"track_token": "old"}
    running = Trip(1, "old", NOW - 9)
    assert seen(device_with(fix_of(running), trip=running), **wanted) == (True, "live")
    assert seen(device_with(fix_of(OLD), trip=OLD), **wanted) == (True, "trip_ended")
    assert seen(device_with(fix_of(CURRENT), trip=CURRENT), **wanted) == (False, "waiting")
    assert seen(device_with(fix_of(CURRENT), trip=OLD), **wanted) == (False, "trip_ended")
    shown = sight(session_with(**wanted), device_with(fix_of(CURRENT), trip=CURRENT), PastTrip(fix_of(OLD), NOW - 5))
    assert (shown.fix, shown.stage, shown.stage_at_us) == (fix_of(OLD), Stage.TRIP_ENDED, NOW - 5)
    assert seen(device_with(None, trip=CURRENT), PastTrip(None, NOW), **wanted) == (False, "trip_ended")


@given(
    st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.integers(1, 300),
    st.sampled_from(["none", "public", "all"]), st.booleans(), st.sampled_from([None, *Stage]),
    st.sampled_from([None, "old", "current"]), st.sampled_from([None, OLD, CURRENT]),
)  # fmt: skip
def test_nothing_hidden_and_nothing_unshared_is_ever_in_an_answer(
    speed: bool, heading: bool, eta: bool, place: bool, interval: int, consent: str, shares: bool, stage: Stage | None,
    track_token: str | None, trip: Trip | None,
) -> None:  # fmt: skip
    config = ShareConfig(
        show_speed=speed, show_heading=heading, show_eta=eta, show_destination_on_map=place,
        update_interval_seconds=interval,
    )  # fmt: skip
    session = session_with(share_config=config, destination=Place(1, 2, "d"), track_token=track_token)
    device = device_with(fix_of(trip), consent=consent, shares=shares, trip=trip, stage=stage)
    found = sight(session, device)
    answer = view.answer(session, found, now_us=NOW, eta=7 if found.fix else None, brand={})
    if consent != "none" and not shares:
        assert found.fix is None
    if track_token is not None and (trip is None or trip.track_token != track_token):
        assert found.fix is None
    assert (answer["destination"] is None) is (not place)
    if found.fix is None:
        assert (answer["driver"], answer["eta_seconds"], answer["last_updated"], answer["age_seconds"]) == (None,) * 4
        return
    frame = view.position(session, found, found.fix, now_us=NOW, eta=7)
    assert answer["driver"]["speed"] == frame["speed"] == (12.5 if speed else None)
    assert answer["driver"]["heading"] == frame["heading"] == (245.0 if heading else None)
    assert answer["eta_seconds"] == frame["eta_seconds"] == (7 if eta else None)
    assert answer["last_updated"] == frame["timestamp"] == NOW // 10**6 - 3
    assert answer["age_seconds"] == frame["age_seconds"] == 3
    assert set(frame) == {
        "type", "latitude", "longitude", "heading", "speed", "driver_display_name", "eta_seconds", "timestamp",
        "stale", "stale_after", "age_seconds", "stage",
    }  # fmt: skip


@given(st.fixed_dictionaries(dict.fromkeys(
    ("full_name", "first_name", "last_name", "nickname", "email", "phone", "client_id"),
    st.sampled_from([None, "", " ", "x"]),
)), st.sampled_from(["full_name", "nickname", "email", "phone", "client_id"]))  # fmt: skip
def test_a_recipient_reads_a_name_or_nothing_never_what_reaches_the_driver(
    present: dict[str, str | None], chosen: str
) -> None:
    device = device_with(fix_of())
    device.display_field = chosen
    device.profile = {name: f"{name}!" if value == "x" else value for name, value in present.items()}
    name = sight(session_with(), device).name
    assert name is None or not any(word in name for word in ("email", "phone", "client_id", TOKEN))


async def test_the_public_answer_is_the_seeds_with_what_tells_its_age(small_world: World) -> None:
    world = small_world
    device = await world.know()
    device.profile = {"full_name": "John Smith"}
    session = await world.sharing.create(
        INSTANCE,
        NewSession(device_token=TOKEN, notes="n", order_id="o", recipient_name="Jane", hours=1,
                   destination=Place(51.52, -0.08, "Office")),
    )  # fmt: skip
    token = world.sharing.describe(session)["share_token"]
    world.fix(device, age=3)
    assert await world.recipients.public_state(token, "c") == {
        "status": "active",
        "driver": {"latitude": 51.5074, "longitude": -0.1278, "heading": 245.0, "speed": 12.5},
        "destination": {"latitude": 51.52, "longitude": -0.08, "label": "Office"},
        "eta_seconds": 374,
        "order_id": "o",
        "recipient_name": "Jane",
        "notes": "n",
        "driver_display_name": "John Smith",
        "last_updated": 1775999997,
        "stale": False,
        "stale_after": 60,
        "age_seconds": 3,
        "stage": "live",
        "stage_at": None,
        "expires_at": 1776003600,
        "server_time": 1776000000,
        "update_interval_seconds": 5,
        "brand": {"name": "Waybridge", "color": "#1a5cff"},
    }
    world.clock.forward(58)
    answer = await world.recipients.public_state(token, "c")
    assert (answer["stale"], answer["age_seconds"], answer["eta_seconds"]) == (True, 61, None)


async def test_a_booking_without_destination_heads_for_the_devices_target(small_world: World) -> None:
    world = small_world
    device = await world.know()
    device.target = Place(51.5074, -0.1278, "Pickup")
    world.fix(device)
    session = await world.sharing.create(INSTANCE, NewSession(device_token=TOKEN))
    answer = await world.recipients.public_state(world.sharing.describe(session)["share_token"], "c")
    assert (answer["destination"]["label"], answer["eta_seconds"]) == ("Pickup", 0)
    hidden = await world.sharing.change(INSTANCE, session.id, {"share_config": {"show_destination_on_map": False}})
    answer = await world.recipients.public_state(world.sharing.describe(hidden)["share_token"], "c")
    assert (answer["destination"], answer["eta_seconds"]) == (None, 0)


async def test_the_last_position_of_an_ended_trip_is_found_in_the_history(world: World) -> None:
    device = await world.know()
    trip = Trip(77, "route-14", world.clock.now_us, None)
    ended = replace_trip(trip, ended_us=world.clock.now_us + 60_000_000)
    fixes = [replace_fix(world.fix(device, trip=trip), world.clock.now_us + n * 10_000_000, n) for n in range(3)]
    source = device.sources[0]

    async def unit(tx):
        changes = Changes(tx)
        changes.begin_trip(device.id, source.id, ended)
        changes.write()
        record(tx, [row(source.id, device.id, 0, fix) for fix in fixes], [])

    await world.store.write(unit)
    session = await world.sharing.create(INSTANCE, NewSession(device_token=TOKEN, track_token="route-14"))
    world.clock.forward(300)
    world.fix(device, trip=Trip(78, "route-15", world.clock.now_us), latitude=60.0)
    answer = await world.recipients.public_state(world.sharing.describe(session)["share_token"], "c")
    assert answer["stage"] == "trip_ended"
    assert answer["driver"]["latitude"] == 2.0
    assert answer["stage_at"] == 1776000060


def replace_trip(trip: Trip, **changes: object) -> Trip:
    return replace(trip, **changes)


def replace_fix(fix: Fix, at_us: int, latitude: float) -> Fix:
    return Fix(at_us, at_us, at_us, latitude, fix.longitude, trip_id=fix.trip_id)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**62))
def test_ages_are_whole_and_never_negative(recorded: int) -> None:
    fix = Fix(recorded, recorded, recorded, 0, 0)
    assert view.age(fix, NOW) == max(0, (NOW - recorded) // 10**6)


def test_the_config_has_the_seeds_defaults() -> None:
    assert asdict(ShareConfig()) == {
        "show_speed": True,
        "show_heading": True,
        "show_eta": True,
        "show_destination_on_map": True,
        "update_interval_seconds": 5,
    }
