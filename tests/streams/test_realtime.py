"""The realtime socket in both dialects (contract section 9, seed 001)."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from sharing.world import INSTANCE, TOKEN

from waybridge.roster import Trip

from .conftest import TOKEN_ALL, Live, ended, read


async def frames(ws: Any, count: int) -> list[dict[str, Any]]:
    return [await read(ws) for _ in range(count)]


async def test_the_seeds_dialect(live: Live) -> None:
    device = await live.know()
    device.profile = {"full_name": "John Smith"}
    trip = Trip(5, "trip-5", 0)
    fix = live.fix(device, trip=trip, accuracy=4.0)
    ws = await live.realtime(jwt=TOKEN_ALL, units="metric", timezone="UTC", date_format="unix")
    welcome, position = await frames(ws, 2)
    assert set(welcome) == {
        "type", "connection_id", "server_time", "instance_id", "units", "timezone", "date_format",
    }  # fmt: skip
    assert (welcome["type"], welcome["units"], welcome["instance_id"]) == ("welcome", "metric", INSTANCE)
    assert position == {
        "type": "position",
        "DeviceToken": TOKEN,
        "Lat": 51.5074,
        "Lng": -0.1278,
        "Speed": 12.5,
        "Heading": 245.0,
        "Accuracy": 4.0,
        "TrackToken": "trip-5",
        "DisplayIdentifier": "John Smith",
        "Timestamp": fix.recorded_us // 1_000_000,
        "SpeedConverted": 45.0,
        "SpeedUnit": "km/h",
    }
    live.move(device, latitude=52.0, speed=None, trip=trip)
    moved = await read(ws)
    assert (moved["Lat"], moved["Speed"], moved["SpeedConverted"]) == (52.0, None, None)
    await ws.close()


async def test_the_older_dialect_in_a_zone_and_miles(live: Live) -> None:
    device = await live.know()
    live.fix(device)
    ws = await live.realtime(
        access_token=TOKEN_ALL, units="imperial", timezone="Europe/Berlin", date_format="iso",
        device_token=TOKEN.upper(),
    )
    authenticated, welcome, subscribed, update = await frames(ws, 4)
    assert [authenticated["type"], welcome["type"], subscribed] == [
        "authenticated",
        "welcome",
        {"type": "subscribed", "topic": f"device:{TOKEN}"},
    ]
    assert set(update) == {"type", "device_token", "track_token", "position", "display_identifier"}
    assert update["type"] == "device_update"
    assert (update["position"]["Speed"], update["position"]["SpeedConverted"]) == (12.5, 27.96)
    assert update["position"]["SpeedUnit"] == "mph"
    assert update["position"]["Timestamp"][-6:] in ("+01:00", "+02:00")
    await ws.close()


async def test_one_device_alone_and_no_other_instance(live: Live) -> None:
    mine, other, foreign = await live.know(), await live.know("other"), await live.know("foreign", "elsewhere")
    for device in (mine, other, foreign):
        live.fix(device)
    everything = await live.realtime(jwt=TOKEN_ALL)
    assert {frame.get("DeviceToken") for frame in (await frames(everything, 3))[1:]} == {TOKEN, "other"}
    one = await live.realtime(jwt=TOKEN_ALL, device_token="other")
    assert [frame.get("DeviceToken") for frame in await frames(one, 2)] == [None, "other"]
    for device in (foreign, mine, other):
        live.move(device, latitude=1.0)
    assert [(await read(everything))["DeviceToken"] for _ in range(2)] == [TOKEN, "other"]
    assert (await read(one))["DeviceToken"] == "other"
    await everything.close()
    await one.close()


async def test_consent_is_kept_and_its_end_is_told(live: Live) -> None:
    device = await live.know(consent="all")
    live.fix(device)
    ws = await live.realtime(jwt=TOKEN_ALL)
    old = await live.realtime(access_token=TOKEN_ALL)
    assert (await read(ws))["type"] == "welcome"
    await frames(old, 3)
    live.move(device)
    live.share(device)
    live.move(device, latitude=3.0)
    assert ((await read(ws))["Lat"], (await read(old))["position"]["Latitude"]) == (3.0, 3.0)
    live.withdraw(device)
    live.happen(device, "sharing_stopped")
    assert await read(ws) == {"type": "sharing_stopped", "DeviceToken": TOKEN}
    assert await read(old) == {"type": "sharing_stopped", "device_token": TOKEN}
    live.share(device)
    live.roster.remove_device(device)
    live.happen(device, "erased")
    assert (await read(ws))["type"] == "sharing_stopped"
    await ws.close()
    await old.close()


@pytest.mark.parametrize(
    ("first", "code", "close"),
    [
        ({"jwt": "nonsense"}, 401, 4001),
        ({"jwt": f"read@{INSTANCE}@0"}, 401, 4001),
        ({"jwt": ""}, 401, 4001),
        ({"jwt": 5}, 401, 4001),
        ({"jwt": None, "instance_id": None}, 401, 4001),
        ({"type": "subscribe", "jwt": TOKEN_ALL}, 401, 4001),
        ({"jwt": f"write@{INSTANCE}@9"}, 403, 4003),
        ({"jwt": "read@other@9"}, 403, 4003),
        ({"jwt": "read@*@9", "instance_id": "nowhere"}, 403, 4003),
        ({"jwt": TOKEN_ALL, "units": "furlongs"}, 422, 1008),
        ({"jwt": TOKEN_ALL, "timezone": "Nowhere/Land"}, 422, 1008),
        ({"jwt": TOKEN_ALL, "date_format": "roman"}, 422, 1008),
        ({"jwt": TOKEN_ALL, "instance_id": 5}, 422, 1008),
        ({"jwt": TOKEN_ALL, "device_token": "\n"}, 422, 1008),
    ],
)
async def test_what_is_refused_is_told_and_closed(live: Live, first: dict[str, Any], code: int, close: int) -> None:
    await live.know()
    found, closed = await ended(await live.realtime(**first))
    assert ([(frame["type"], frame["code"]) for frame in found], closed) == ([("error", code)], close)


async def test_a_foreign_and_a_missing_instance_look_the_same(live: Live) -> None:
    foreign = await ended(await live.realtime(jwt="read@other@9"))
    missing = await ended(await live.realtime(jwt="read@*@9", instance_id="nowhere"))
    assert foreign == missing


async def test_text_that_is_no_json_is_no_authentication(live: Live) -> None:
    for text in ("", "{", "[]", "null", "\x00", '{"type":"authenticate","instance_id":"acme","jwt":"\\ud800"}'):
        ws = await live.realtime()
        await ws.send_str(text)
        assert (await ended(ws))[1] == 4001
    ws = await live.realtime()
    await ws.send_bytes(b"{}")
    assert (await ended(ws))[1] == 4001


async def test_a_client_that_leaves_first_is_told_nothing(live: Live) -> None:
    ws = await live.realtime()
    await ws._writer.close(4999)
    async with asyncio.timeout(10):
        assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_silence_ends_after_the_time_to_authenticate(limited: Live) -> None:
    ws = await limited.realtime()
    assert await ended(ws, 3) == (
        [{"type": "error", "code": 401, "message": "no credentials came in time"}],
        4001,
    )


async def test_a_token_that_expires_ends_the_connection_unless_it_is_renewed(live: Live) -> None:
    await live.know()
    ws = await live.realtime(jwt=f"read@{INSTANCE}@0.4")
    await read(ws)
    renewed = await live.realtime(jwt=f"read@{INSTANCE}@0.4")
    await read(renewed)
    await renewed.send_json({"type": "authenticate", "jwt": TOKEN_ALL, "instance_id": INSTANCE})
    assert (await read(renewed))["type"] == "welcome"
    found, code = await ended(ws)
    assert (found[0]["code"], code) == (401, 4001)
    await renewed.send_json({"type": "ping"})
    assert (await read(renewed))["type"] == "pong"
    await renewed.send_json({"type": "authenticate", "jwt": "read@other@9", "instance_id": "other"})
    assert (await ended(renewed))[1] == 4003


async def test_pings_are_answered_and_nonsense_is_told_then_closed(live: Live) -> None:
    await live.know()
    ws = await live.realtime(jwt=TOKEN_ALL)
    await read(ws)
    await ws.send_json({"type": "ping", "timestamp": 1234, "id": "a"})
    assert await read(ws) == {"type": "pong", "timestamp": 1234, "id": "a"}
    for strange in (10**40, float("nan"), "x" * 101, [1], {"a": 1}):
        await ws.send_json({"type": "ping", "id": strange})
        assert "id" not in await read(ws)
    await ws.send_str('{"type":"ping","id":"\\ud800"}')
    assert set(await read(ws)) == {"type", "timestamp"}
    await ws.send_json({"type": "pong"})
    for _ in range(10):
        await ws.send_json({"type": "subscribe"})
        assert (await read(ws))["code"] == 400
    await ws.send_json({"type": "subscribe"})
    assert (await ended(ws))[1] == 1008


async def test_a_feed_ends_with_its_last_viewer(live: Live) -> None:
    await live.know()
    ws = await live.realtime(jwt=TOKEN_ALL)
    await read(ws)
    await ws.close()
    await asyncio.wait_for(live.fanout._empty.wait(), 2)
    assert (live.feeds._feeds, live.feeds._by_instance) == ({}, {})
