"""The rules of share sessions, on both databases (contract section 8, seeds 000 and 001)."""

from __future__ import annotations

import asyncio
import base64

import pytest
from sqlalchemy import select, update

from waybridge.bus import SessionEvent
from waybridge.errors import Conflict, Gone, Invalid, NotFound
from waybridge.model import Place
from waybridge.sharing import NewSession, cancel_for_device, complete_for_device, expire_due
from waybridge.store.sessions import ShareConfig
from waybridge.store.tables import share_sessions, sharing_periods

from .world import INSTANCE, START_US, TOKEN, World, recipients_of, sharing_of

WANTED = NewSession(
    device_token=TOKEN,
    hours=4,
    recipient_name="Jane Doe",
    notes="Your package is on the way!",
    order_id="ORD-2024-1234",
    destination=Place(51.5074, -0.1278, "123 Main Street, London"),
)


async def test_a_session_answers_as_the_seed_prints_it(world: World) -> None:
    await world.know()
    session = await world.sharing.create(INSTANCE, WANTED)
    answer = world.sharing.describe(session)
    token = answer["share_token"]
    assert answer | {"id": "", "share_token": ""} == {
        "id": "",
        "share_token": "",
        "share_url": f"https://your-frontend.com/share/{token}",
        "links": {
            "map_url": f"https://your-frontend.com/share/{token}",
            "api_url": f"https://your-api.com/api/v1/share/{token}",
            "ws_url": f"wss://your-api.com/api/v1/share/{token}/live",
        },
        "device_token": TOKEN,
        "instance_id": INSTANCE,
        "status": "active",
        "created_at": 1776000000,
        "expires_at": 1776014400,
        "order_id": "ORD-2024-1234",
        "recipient_name": "Jane Doe",
        "notes": "Your package is on the way!",
        "track_token": None,
        "destination": {"latitude": 51.5074, "longitude": -0.1278, "label": "123 Main Street, London"},
        "share_config": {
            "show_speed": True,
            "show_heading": True,
            "show_eta": True,
            "show_destination_on_map": True,
            "update_interval_seconds": 5,
        },
        "updated_at": 1776000000,
        "completed_at": None,
        "cancelled_at": None,
        "views": 0,
    }
    assert len(base64.urlsafe_b64decode(token + "==")) * 8 >= 128


async def test_the_database_never_holds_the_token_itself(world: World) -> None:
    await world.know()
    token = world.sharing.describe(await world.sharing.create(INSTANCE, WANTED))["share_token"]
    async with world.store.read() as conn:
        row = (await conn.execute(select(share_sessions))).one()
    assert all(token not in str(value) and token.encode() not in bytes(str(value), "utf-8") for value in row)
    assert token.encode() not in row.token_sealed


async def test_fifty_racing_creates_leave_exactly_ten_active(world: World) -> None:
    await world.know()
    for _ in range(9):
        await world.sharing.create(INSTANCE, WANTED)
    results = await asyncio.gather(
        *(world.sharing.create(INSTANCE, WANTED) for _ in range(50)), return_exceptions=True
    )
    assert sum(isinstance(each, Conflict) for each in results) == 49
    sessions, total = await world.sharing.sessions(
        INSTANCE, status="active", device_token=TOKEN, order_id=None, limit=500, offset=0
    )
    assert len(sessions) == total == 10


async def test_expired_sessions_do_not_count_towards_the_limit(world: World) -> None:
    await world.know()
    for _ in range(10):
        await world.sharing.create(INSTANCE, WANTED)
    with pytest.raises(Conflict):
        await world.sharing.create(INSTANCE, WANTED)
    world.clock.forward(4 * 3600)
    assert (await world.sharing.create(INSTANCE, WANTED)).status == "active"


async def test_the_same_key_and_body_is_the_same_session_also_when_they_race(world: World) -> None:
    await world.know()
    made = await asyncio.gather(*(world.sharing.create(INSTANCE, WANTED, key="k1") for _ in range(20)))
    assert len({session.id for session in made}) == 1
    with pytest.raises(Invalid):
        await world.sharing.create(INSTANCE, NewSession(device_token=TOKEN), key="k1")
    assert [kind for kind, _ in await world.told()].count("share.session.created") == 1


async def test_a_key_of_another_instance_or_of_yesterday_is_another_key(world: World) -> None:
    await world.know()
    await world.know(instance_id="other")
    first = await world.sharing.create(INSTANCE, WANTED, key="k1")
    assert (await world.sharing.create("other", WANTED, key="k1")).id != first.id
    world.clock.forward(24 * 3600 + 1)
    assert (await world.sharing.create(INSTANCE, NewSession(device_token=TOKEN), key="k1")).id != first.id


async def test_an_unknown_device_is_refused_unless_it_is_allowed(world: World) -> None:
    with pytest.raises(NotFound):
        await world.sharing.create(INSTANCE, WANTED)
    lenient = sharing_of(world.store, world.roster, allow_unknown_devices=True)
    session = await lenient.create(INSTANCE, WANTED)
    assert session.device_id is None
    assert (await world.recipients.public_state(lenient.describe(session)["share_token"], "c"))["stage"] == "waiting"


async def test_a_device_token_is_compared_canonically(world: World) -> None:
    await world.know()
    undashed = NewSession(device_token=TOKEN.replace("-", "").upper())
    assert (await world.sharing.create(INSTANCE, undashed)).device_token == TOKEN


async def test_expiry_is_by_the_clock_at_every_read(world: World) -> None:
    await world.know()
    session = await world.sharing.create(INSTANCE, WANTED)
    token = world.sharing.describe(session)["share_token"]
    world.clock.forward(4 * 3600 - 0.000001)
    assert (await world.recipients.public_state(token, "c"))["status"] == "active"
    world.clock.forward(0.000001)
    with pytest.raises(NotFound) as expired:
        await world.recipients.public_state(token, "c")
    with pytest.raises(NotFound) as unknown:
        await world.recipients.public_state("nonsense", "c")
    assert expired.value.detail == unknown.value.detail
    assert world.sharing.describe(await world.sharing.session(INSTANCE, session.id))["status"] == "expired"
    found = {
        status: (await world.sharing.sessions(INSTANCE, status=status, device_token=None, order_id=None, limit=5,
                                              offset=0))[1]
        for status in ("active", "expired")
    }  # fmt: skip
    assert found == {"active": 0, "expired": 1}
    with pytest.raises(Conflict):
        await world.sharing.complete(INSTANCE, session.id)


async def test_the_sweeper_expires_once_and_tells_of_it(world: World) -> None:
    await world.know()
    session = await world.sharing.create(INSTANCE, WANTED)
    world.clock.forward(5 * 3600)
    ended = await asyncio.gather(*(world.store.write(expire_due) for _ in range(5)))
    assert sum(ended) == 1
    told = [(kind, data) for kind, data in await world.told() if kind.endswith(("expired", "stopped"))]
    assert [kind for kind, _ in told] == ["share.session.expired", "location.sharing.stopped"]
    assert told[1][1]["ended_at"] == "2026-04-12T17:20:00Z"
    assert told[1][1]["cause"] == "expired"
    assert world.events[-2:][0] == SessionEvent("expired", INSTANCE, session.id, session.device_id, TOKEN, 2)


async def test_ending_twice_is_the_same_and_crossing_is_a_conflict(world: World) -> None:
    await world.know()
    done, gone = [await world.sharing.create(INSTANCE, WANTED) for _ in range(2)]
    first = await world.sharing.complete(INSTANCE, done.id)
    world.clock.forward(10)
    assert await world.sharing.complete(INSTANCE, done.id) == first
    with pytest.raises(Conflict):
        await world.sharing.cancel(INSTANCE, done.id)
    first = await world.sharing.cancel(INSTANCE, gone.id)
    assert await world.sharing.cancel(INSTANCE, gone.id) == first
    with pytest.raises(Conflict):
        await world.sharing.complete(INSTANCE, gone.id)
    with pytest.raises(Conflict):
        await world.sharing.change(INSTANCE, gone.id, {"notes": "late"})
    world.clock.forward(30 * 86400)
    for session, status in ((done, "completed"), (gone, "cancelled")):
        with pytest.raises(Gone, match=status):
            await world.recipients.public_state(world.sharing.describe(session)["share_token"], "c")


async def test_another_instance_sees_nothing(world: World) -> None:
    await world.know()
    session = await world.sharing.create(INSTANCE, WANTED)
    for ask in (
        world.sharing.session("other", session.id),
        world.sharing.change("other", session.id, {"notes": "x"}),
        world.sharing.complete("other", session.id),
        world.sharing.cancel("other", session.id),
    ):
        with pytest.raises(NotFound):
            await ask
    assert (await world.sharing.session(INSTANCE, session.id)).version == 1


async def test_a_change_merges_the_config_replaces_the_rest_and_clears_by_null(world: World) -> None:
    await world.know()
    session = await world.sharing.create(INSTANCE, WANTED)
    changed = await world.sharing.change(
        INSTANCE,
        session.id,
        {"share_config": {"show_speed": False}, "destination": Place(1.0, 2.0), "notes": None},
    )
    assert changed.share_config == ShareConfig(show_speed=False)
    assert changed.destination == Place(1.0, 2.0)
    assert (changed.notes, changed.recipient_name, changed.version) == (None, "Jane Doe", 2)
    again = await world.sharing.change(INSTANCE, session.id, {"share_config": {"update_interval_seconds": 9}})
    assert again.share_config == ShareConfig(show_speed=False, update_interval_seconds=9)
    reset = await world.sharing.change(INSTANCE, session.id, {"share_config": None, "destination": None})
    assert (reset.share_config, reset.destination) == (ShareConfig(), None)


async def test_racing_changes_of_the_config_are_both_kept(world: World) -> None:
    await world.know()
    session = await world.sharing.create(INSTANCE, WANTED)
    await asyncio.gather(
        *(
            world.sharing.change(INSTANCE, session.id, {"share_config": {name: False}})
            for name in ("show_speed", "show_heading", "show_eta", "show_destination_on_map")
        )
    )
    kept = (await world.sharing.session(INSTANCE, session.id)).share_config
    assert not any((kept.show_speed, kept.show_heading, kept.show_eta, kept.show_destination_on_map))


async def test_a_new_lifetime_counts_from_now_and_never_beyond_a_week_after_creation(world: World) -> None:
    await world.know()
    session = await world.sharing.create(INSTANCE, WANTED)
    world.clock.forward(3600)
    longer = await world.sharing.change(INSTANCE, session.id, {"expires_in_hours": 2})
    assert longer.expires_us == START_US + 3 * 3_600_000_000
    most = await world.sharing.change(INSTANCE, session.id, {"expires_in_hours": 168})
    assert most.expires_us == START_US + 168 * 3_600_000_000
    async with world.store.read() as conn:
        period = (await conn.execute(select(sharing_periods))).one()
    assert period.ends_us == most.expires_us


async def test_a_journeys_end_completes_and_erasure_cancels_in_the_callers_transaction(world: World) -> None:
    device = await world.know()
    await world.sharing.create(INSTANCE, NewSession(device_token=TOKEN, hours=0.5))
    open_one = await world.sharing.create(INSTANCE, WANTED)
    world.clock.forward(3600)

    async def journey_ends(tx):
        ended = await complete_for_device(tx, device.id, TOKEN, INSTANCE)
        return {session.id: session.status for session in ended}

    ended = await world.store.write(journey_ends)
    assert sorted(ended.values()) == ["completed", "expired"]
    assert ended[open_one.id] == "completed"
    last = await world.sharing.create(INSTANCE, WANTED)

    async def erase(tx):
        await cancel_for_device(tx, device.id, TOKEN, INSTANCE)

    await world.store.write(erase)
    assert (await world.sharing.session(INSTANCE, last.id)).status == "cancelled"
    causes = [data["cause"] for kind, data in await world.told() if kind == "location.sharing.stopped"]
    assert sorted(causes) == ["completed", "erased", "expired"]


async def test_a_transaction_that_fails_ends_nothing_and_tells_nothing(world: World) -> None:
    device = await world.know()
    session = await world.sharing.create(INSTANCE, WANTED)
    before = await world.told()

    async def fails(tx):
        await complete_for_device(tx, device.id, TOKEN, INSTANCE)
        raise RuntimeError("the event was refused after all")

    with pytest.raises(RuntimeError):
        await world.store.write(fails)
    assert (await world.sharing.session(INSTANCE, session.id)).status == "active"
    assert await world.told() == before


async def test_integrators_are_told_without_token_and_coordinates(world: World) -> None:
    device = await world.know()
    device.profile = {"full_name": "John Smith"}
    world.fix(device)
    session = await world.sharing.create(INSTANCE, WANTED)
    token = world.sharing.describe(session)["share_token"]
    await world.sharing.complete(INSTANCE, session.id)
    told = await world.told()
    assert [kind for kind, _ in told] == [
        "share.session.created",
        "location.sharing.started",
        "share.session.completed",
        "location.sharing.stopped",
    ]
    assert token not in str(told)
    assert "51.5" not in str(told)
    assert told[0][1]["destination"] == {"label": "123 Main Street, London"}
    started = told[1][1]
    assert started == {
        "sharing_id": told[3][1]["sharing_id"],
        "kind": "share",
        "device_token": TOKEN,
        "provider": "native",
        "connection_id": "native",
        "shared_by": "John Smith",
        "shared_with": "Jane Doe",
        "chat_id": None,
        "began_at": "2026-04-12T13:20:00Z",
        "ends_at": "2026-04-12T17:20:00Z",
        "cause": "share_created",
        "share_session_id": session.id,
    }
    assert told[3][1] == started | {"cause": "completed", "ended_at": "2026-04-12T13:20:00Z"}


async def test_views_count_addresses_once_and_sockets_each_time_and_tell_once(world: World) -> None:
    device = await world.know()
    session = await world.sharing.create(INSTANCE, WANTED)
    token = world.sharing.describe(session)["share_token"]
    await world.recipients.public_state(token, "192.0.2.1")
    assert (await world.sharing.session(INSTANCE, session.id)).views == 0  # nothing was to be seen
    world.fix(device)
    other_node = recipients_of(world.store, world.roster)
    for client in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        await world.recipients.public_state(token, client)
        await other_node.public_state(token, client)
    assert (await world.sharing.session(INSTANCE, session.id)).views == 2
    await world.recipients.count_views(session.id, 3)
    assert (await world.sharing.session(INSTANCE, session.id)).views == 5
    assert [kind for kind, _ in await world.told()].count("share.session.viewed") == 1


async def test_ended_links_are_forgotten_after_their_time(world: World) -> None:
    await world.know()
    done = await world.sharing.create(INSTANCE, WANTED)
    token = world.sharing.describe(done)["share_token"]
    await world.sharing.complete(INSTANCE, done.id)
    world.clock.forward(31 * 86400)
    kept = await world.sharing.create(INSTANCE, WANTED)
    assert await world.sharing.purge() == 1
    with pytest.raises(NotFound):
        await world.recipients.public_state(token, "c")
    assert (await world.sharing.session(INSTANCE, kept.id)).status == "active"


async def test_a_link_of_a_lost_secret_is_listed_without_its_token(world: World) -> None:
    await world.know()
    session = await world.sharing.create(INSTANCE, WANTED)

    async def spoil(tx):
        await tx.conn.execute(update(share_sessions).values(token_sealed=b"\0" * 64))

    await world.store.write(spoil)
    answer = world.sharing.describe(await world.sharing.session(INSTANCE, session.id))
    assert (answer["share_token"], answer["share_url"], answer["status"]) == (None, None, "active")


async def test_lists_filter_and_page_newest_first(world: World) -> None:
    await world.know()
    ids = []
    for number in range(5):
        world.clock.forward(1)
        made = await world.sharing.create(INSTANCE, NewSession(device_token=TOKEN, order_id=f"o{number % 2}"))
        ids.append(made.id)
    page, total = await world.sharing.sessions(
        INSTANCE, status=None, device_token=None, order_id=None, limit=2, offset=1
    )
    assert ([session.id for session in page], total) == ([ids[3], ids[2]], 5)
    page, total = await world.sharing.sessions(
        INSTANCE, status=None, device_token=TOKEN.replace("-", ""), order_id="o1", limit=50, offset=0
    )
    assert ([session.id for session in page], total) == ([ids[3], ids[1]], 2)
    assert await world.sharing.sessions(
        "other", status=None, device_token=None, order_id=None, limit=50, offset=0
    ) == ([], 0)
