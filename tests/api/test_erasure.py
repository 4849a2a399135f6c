"""Erasure: nothing of a person is left in any table, and their shares end."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import text

from waybridge.model import Profile, SharingStarted, SourceKey, from_us
from waybridge.roster import Policy
from waybridge.store.tables import metadata

NAME, HANDLE, CHAT, LATITUDE = "Zebulon Quux", "+15550001234", "chat-of-zebulon", 47.123456


async def _dump(store) -> str:
    """Every row of every table, as text."""
    lines: list[str] = []
    async with store.read() as conn:
        for table in metadata.sorted_tables:
            lines += [f"{table.name} {tuple(row)}" for row in await conn.execute(table.select())]
    return "\n".join(lines)


async def _person(site) -> None:
    """A device with a name, a handle, a trip, a share and a subscription that hears of it."""
    subscription = {"target_url": "https://h.example.com/", "subscribed_events": ["*"], "instance_id": "acme"}
    assert (await site.ask("POST", "/webhook-subscriptions", json=subscription))[0] == 201
    await site.ask("PUT", "/devices/person/metadata/profile?instance_id=acme", json={"full_name": NAME})
    now = time.time()
    await site.push(
        *({"device_token": "person", "latitude": LATITUDE, "timestamp": now - n * 60} for n in range(5, 0, -1))
    )
    await site.push({"device_token": "neighbour", "latitude": 12.5})
    house = site.running.house
    policy: Policy = house.roster.policy("acme", "native")
    key = SourceKey("native", "person")
    await house.intake.accept(
        policy,
        [
            Profile(source=key, handle=HANDLE),
            SharingStarted(source=key, began_at=from_us(house.store.now_us()), shared_by=HANDLE, chat_id=CHAT),
        ],
    )


async def test_nothing_of_a_person_is_left_anywhere(site):
    await _person(site)
    store = site.running.house.store
    before = await _dump(store)
    assert all(each in before for each in (NAME, HANDLE, str(LATITUDE)))

    status, answer = await site.ask("DELETE", "/devices/person/data?instance_id=acme")
    after = await _dump(store)

    assert (status, answer) == (200, {"device_token": "person", "erased": True})
    for each in (NAME, HANDLE, CHAT, str(LATITUDE)):
        assert each not in after, each
    assert "12.5" in after
    assert (await site.ask("GET", "/devices/person/position"))[0] == 404
    assert (await site.ask("GET", "/devices/neighbour/position"))[0] == 200
    _, page = await site.ask("GET", "/devices?instance_id=acme")
    assert [each["device_token"] for each in page["devices"]] == ["neighbour"]


async def test_integrators_hear_of_the_end_without_a_name(site):
    await _person(site)

    await site.ask("DELETE", "/devices/person/data?instance_id=acme")
    async with site.running.house.store.read() as conn:
        question = text("SELECT data FROM outbox WHERE event_type = 'location.sharing.stopped' AND cause = 'erased'")
        told = (await conn.execute(question)).scalars().all()

    assert len(told) == 1
    assert '"cause":"erased"' in told[0]


async def test_an_erased_device_that_sends_again_is_a_new_one(site):
    await _person(site)
    await site.ask("DELETE", "/devices/person/data?instance_id=acme")

    await site.push({"device_token": "person", "latitude": 5.0})
    _, position = await site.ask("GET", "/devices/person/position?instance_id=acme")
    _, track = await site.ask("GET", "/devices/person/tracks")

    assert (position["latitude"], position["display_identifier"], position["driver_profile"]) == (5.0, "person", None)
    assert track["count"] == 1


async def test_an_unknown_device_cannot_be_erased(site):
    assert (await site.ask("DELETE", "/devices/never/data?instance_id=acme"))[0] == 404


async def test_erasing_while_positions_stream_in_leaves_only_what_came_after(site):
    await _person(site)
    began = time.time()

    async def stream() -> None:
        for n in range(60):
            await site.push({"device_token": "person", "latitude": 3.0, "timestamp": began + n / 100})

    streaming = asyncio.create_task(stream())
    status, _ = await site.ask("DELETE", "/devices/person/data?instance_id=acme")
    await streaming
    house = site.running.house
    device = house.roster.device("acme", "person")
    async with house.store.read() as conn:
        owners = set((await conn.execute(text("SELECT device_id FROM positions"))).scalars())
        known = set((await conn.execute(text("SELECT id FROM devices"))).scalars())

    assert status == 200
    assert device is not None
    assert owners <= known


@pytest.mark.parametrize("moved", [True, False])
async def test_a_source_that_moved_takes_its_own_past_along(site, moved):
    await site.push({"device_token": "phone", "latitude": LATITUDE}, {"device_token": "van", "latitude": 1.0})
    if moved:
        ranked = {"sources": [{"connection_id": "native", "external_id": each} for each in ("van", "phone")]}
        status, answer = await site.ask("PUT", "/devices/van/sources?instance_id=acme", json=ranked)
        assert status == 200, answer

    await site.ask("DELETE", "/devices/van/data?instance_id=acme")

    assert (str(LATITUDE) in await _dump(site.running.house.store)) is not moved


async def test_a_fix_of_long_ago_does_not_make_erasure_walk_through_the_years(site, monkeypatch):
    now = time.time()
    await site.push({"device_token": "old", "timestamp": 946_684_800}, {"device_token": "person", "timestamp": now})
    store = site.running.house.store
    write, writes = store.write, []

    async def counted(unit, **options):
        writes.append(unit)
        return await write(unit, **options)

    monkeypatch.setattr(store, "write", counted)
    async with asyncio.timeout(20):
        status, _ = await site.ask("DELETE", "/devices/person/data?instance_id=acme")
    monkeypatch.undo()

    assert status == 200
    assert len(writes) < 20
    async with store.read() as conn:
        left = (await conn.execute(text("SELECT DISTINCT recorded_us FROM positions"))).scalars().all()
    assert left == [946_684_800_000_000]
