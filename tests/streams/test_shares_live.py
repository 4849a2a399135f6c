"""The live WebSocket of a share link (contract section 8's table, seed 001)."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from sharing.world import INSTANCE, TOKEN
from sqlalchemy import update

from waybridge.roster import Trip
from waybridge.sharing import cancel_for_device
from waybridge.store.tables import share_sessions

from .conftest import Live, ended, read

EVERY_SECOND = {"update_interval_seconds": 1}


async def test_a_position_comes_at_once_as_the_seed_prints_it(live: Live) -> None:
    device = await live.know()
    device.profile = {"full_name": "John Smith"}
    fix = live.fix(device, age=2)
    _, token = await live.link(
        device_token=TOKEN, destination={"latitude": 51.52, "longitude": -0.08, "label": "Office"}
    )
    ws = await live.watch(token)
    assert await read(ws) == {
        "type": "position",
        "latitude": 51.5074,
        "longitude": -0.1278,
        "heading": 245.0,
        "speed": 12.5,
        "driver_display_name": "John Smith",
        "eta_seconds": 374,
        "timestamp": fix.recorded_us // 1_000_000,
        "stale": False,
        "stale_after": 60,
        "age_seconds": 2,
        "stage": "live",
    }
    await ws.send_json({"type": "ping"})
    assert await read(ws) == {"type": "pong"}
    await ws.close()


async def test_nothing_comes_until_there_is_a_position_and_consent_ends_it(live: Live) -> None:
    device = await live.know(consent="all")
    _, token = await live.link(device_token=TOKEN, share_config=EVERY_SECOND)
    ws = await live.watch(token)
    with pytest.raises(TimeoutError):
        await read(ws, 0.2)
    live.share(device)
    live.move(device, latitude=1.0)
    assert (await read(ws))["latitude"] == 1.0
    live.withdraw(device)
    live.happen(device, "sharing_stopped")
    assert await read(ws) == {"type": "status", "stage": "not_sharing"}
    live.move(device, latitude=2.0)
    with pytest.raises(TimeoutError):
        await read(ws, 1.3)
    live.share(device)
    live.move(device, latitude=3.0)
    assert (await read(ws))["latitude"] == 3.0
    await ws.close()


async def test_positions_are_paced_and_the_last_is_repeated(live: Live) -> None:
    device = await live.know()
    live.fix(device, latitude=0.0)
    _, token = await live.link(device_token=TOKEN, share_config=EVERY_SECOND)
    ws = await live.watch(token)
    arrivals = []
    began = time.monotonic()

    async def keep_moving() -> None:
        for number in range(1, 15):
            live.move(device, latitude=float(number))
            await asyncio.sleep(0.1)

    moving = asyncio.create_task(keep_moving())
    for _ in range(4):
        frame = await read(ws)
        arrivals.append((time.monotonic() - began, frame["latitude"]))
    await moving
    times = [at for at, _ in arrivals]
    assert times[0] < 0.5
    assert all(0.9 <= later - earlier <= 1.4 for earlier, later in itertools.pairwise(times))
    assert arrivals[2][1] == arrivals[3][1] == 14.0
    await ws.close()


async def test_a_change_is_pushed_and_hides_at_once(live: Live) -> None:
    device = await live.know()
    live.fix(device)
    session_id, token = await live.link(device_token=TOKEN, share_config={"update_interval_seconds": 300})
    ws = await live.watch(token)
    assert (await read(ws))["speed"] == 12.5
    body = {"notes": "Updated: driver will arrive from the back entrance", "share_config": {"show_speed": False}}
    status, _ = await live.call("PATCH", f"/sharing/sessions/{session_id}?instance_id={INSTANCE}", json=body)
    assert status == 200
    updated = await read(ws)
    assert (updated["type"], updated["notes"], updated["driver"]["speed"]) == ("session_updated", body["notes"], None)
    position = await read(ws)
    assert (position["type"], position["speed"], position["heading"]) == ("position", None, 245.0)
    await ws.close()


@pytest.mark.parametrize(
    ("method", "path", "reason"), [("POST", "/complete", "completed"), ("DELETE", "", "cancelled")]
)
async def test_an_end_is_told_to_all_and_to_whoever_comes_later(
    live: Live, method: str, path: str, reason: str
) -> None:
    device = await live.know()
    live.fix(device)
    session_id, token = await live.link(device_token=TOKEN, share_config=EVERY_SECOND)
    sockets = [await live.watch(token) for _ in range(3)]
    for ws in sockets:
        await read(ws)
    status, _ = await live.call(method, f"/sharing/sessions/{session_id}{path}?instance_id={INSTANCE}")
    assert status == 200
    live.move(device, latitude=9.0)
    for ws in [*sockets, await live.watch(token)]:
        assert await ended(ws) == ([{"type": "session_ended", "reason": reason}], 1000)


async def test_an_unknown_and_an_expired_link_are_accepted_and_closed(live: Live) -> None:
    await live.know()
    _, token = await live.link(device_token=TOKEN, expires_in_hours=0.0001)
    await asyncio.sleep(0.4)
    for each in ("nonsense", token):
        assert await ended(await live.watch(each)) == ([], 4001)


async def test_expiry_ends_viewers_at_its_second(live: Live) -> None:
    device = await live.know()
    live.fix(device)
    began = time.monotonic()
    _, token = await live.link(device_token=TOKEN, expires_in_hours=1 / 3600)
    ws = await live.watch(token)
    await read(ws)
    assert await ended(ws) == ([{"type": "session_ended", "reason": "expired"}], 4001)
    assert 0.9 < time.monotonic() - began < 10  # long before anything is read again


async def test_erasure_ends_viewers_as_cancelled(live: Live) -> None:
    device = await live.know()
    live.fix(device)
    _, token = await live.link(device_token=TOKEN)
    ws = await live.watch(token)
    await read(ws)

    async def erase(tx):
        await cancel_for_device(tx, device.id, TOKEN, INSTANCE)

    await live.store.write(erase)
    assert await ended(ws) == ([{"type": "session_ended", "reason": "cancelled"}], 1000)


async def test_an_end_that_the_bus_lost_is_found_by_the_next_look_into_the_database(impatient: Live) -> None:
    live = impatient
    device = await live.know()
    live.fix(device)
    session_id, token = await live.link(device_token=TOKEN)
    ws = await live.watch(token)
    await read(ws)

    async def elsewhere(tx):
        values = {"status": "completed", "completed_us": tx.now_us}
        await tx.conn.execute(update(share_sessions).where(share_sessions.c.id == session_id).values(**values))

    await live.store.write(elsewhere)
    frames, code = await ended(ws, 2)
    assert (frames[-1], code) == ({"type": "session_ended", "reason": "completed"}, 1000)


async def test_a_trip_that_ends_keeps_its_last_position_and_shows_no_other(live: Live) -> None:
    device = await live.know()
    mine, next_trip = Trip(7, "mine", 0), Trip(8, "next", 0)
    live.fix(device, trip=mine, latitude=1.0)
    _, token = await live.link(device_token=TOKEN, track_token="mine", share_config=EVERY_SECOND)
    ws = await live.watch(token)
    assert (await read(ws))["stage"] == "live"
    mine.ended_us = live.clock.now_us
    live.happen(device, "trip_ended")
    assert await read(ws) == {"type": "status", "stage": "trip_ended"}
    live.move(device, trip=next_trip, latitude=2.0)
    frame = await read(ws)
    assert (frame["latitude"], frame["stage"]) == (1.0, "trip_ended")
    await ws.close()


async def test_views_count_each_sockets_first_position(live: Live) -> None:
    device = await live.know()
    session_id, token = await live.link(device_token=TOKEN, share_config=EVERY_SECOND)
    early = await live.watch(token)
    live.move(device)
    await read(early)
    late = await live.watch(token)
    await read(late)
    await read(late)
    status, session = await live.call("GET", f"/sharing/sessions/{session_id}?instance_id={INSTANCE}")
    assert (status, session["views"]) == (200, 2)
    await early.close()
    await late.close()


async def test_shutting_down_closes_with_1001_quickly(live: Live) -> None:
    device = await live.know()
    live.fix(device)
    _, token = await live.link(device_token=TOKEN)
    ws = await live.watch(token)
    await read(ws)
    reading = asyncio.create_task(ended(ws))
    began = time.monotonic()
    await live.fanout.close()
    assert await reading == ([], 1001)
    assert time.monotonic() - began < 5
    assert len(live.fanout) == 0


async def test_a_channel_is_gone_when_its_last_viewer_is(live: Live) -> None:
    device = await live.know()
    live.fix(device)
    _, token = await live.link(device_token=TOKEN)
    for _ in range(2):
        ws = await live.watch(token)
        await read(ws)
        await ws.close()
        await asyncio.wait_for(live.fanout._empty.wait(), 2)
    assert (live.channels._channels, live.channels._by_token, live.channels._by_device) == ({}, {}, {})


async def test_what_is_no_handshake_is_answered_so(live: Live) -> None:
    async with live.http.get(f"{live.url}/api/v1/share/x/live") as answer:
        assert (answer.status, answer.content_type) == (400, "application/problem+json")


async def test_misuse_is_closed_with_1008_and_oversize_with_1009(live: Live) -> None:
    await live.know()
    _, token = await live.link(device_token=TOKEN)
    nonsense = await live.watch(token)
    for _ in range(11):
        await nonsense.send_str("[]")
    assert (await ended(nonsense))[1] == 1008
    flood = await live.watch(token)
    for _ in range(121):
        await flood.send_json({"type": "unknown"})
    assert (await ended(flood))[1] == 1008
    large = await live.watch(token)
    await large.send_str('{"type":"ping","x":"' + "x" * (4096 - 22) + '"}')
    assert await read(large) == {"type": "pong"}
    await large.send_str('{"type":"ping","x":"' + "x" * (4097 - 22) + '"}')
    assert (await ended(large))[1] == 1009


async def test_public_answers_look_alike_and_carry_their_headers(live: Live) -> None:
    device = await live.know()
    live.fix(device)
    _, token = await live.link(device_token=TOKEN)
    _, expired = await live.link(device_token=TOKEN, expires_in_hours=0.00001)
    done, completed = await live.link(device_token=TOKEN, order_id="secret-order")
    await live.call("POST", f"/sharing/sessions/{done}/complete?instance_id={INSTANCE}")
    await asyncio.sleep(0.1)
    answers = {}
    for name, each in {"live": token, "expired": expired, "unknown": "x" * 22, "done": completed}.items():
        async with live.http.get(f"{live.url}/api/v1/share/{each}", headers={"Origin": "https://a.example"}) as answer:
            answers[name] = (answer.status, await answer.read())
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Robots-Tag"].startswith("noindex")
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.headers["RateLimit-Policy"] == '"share";q=1000000;w=60'
            assert "RateLimit" in answer.headers
    assert [status for status, _ in answers.values()] == [200, 404, 404, 410]
    assert answers["expired"] == answers["unknown"]
    assert b"secret-order" not in answers["done"][1]


async def test_limits_hold_for_requests_and_sockets(limited: Live) -> None:
    live = limited
    device = await live.know()
    live.fix(device)
    _, first = await live.link(device_token=TOKEN)
    _, second = await live.link(device_token=TOKEN)
    kept = [await live.watch(first), await live.watch(first)]
    assert await ended(await live.watch(first)) == ([], 4008)
    kept.append(await live.watch(second))
    assert await ended(await live.watch(second)) == ([], 4008)
    await kept.pop().close()
    again = await live.watch(second)
    assert (await read(again))["type"] == "position"
    statuses = []
    for _ in range(60):
        async with live.http.get(f"{live.url}/api/v1/share/{first}") as answer:
            statuses.append(answer.status)
            limited_answer = (answer.status, answer.headers.get("Retry-After"), await answer.read())
    assert statuses.count(200) == 54
    assert limited_answer[0] == 429
    assert int(limited_answer[1] or 0) >= 1
    assert await ended(await live.watch(first)) == ([], 4008)
    async with live.http.get(f"{live.url}/api/v1/share/nonsense") as answer:
        assert (answer.status, await answer.read()) == (429, limited_answer[2])


async def test_guessing_ends_long_before_viewers_are_limited(limited: Live) -> None:
    live = limited
    await live.know()
    _, token = await live.link(device_token=TOKEN)
    _, expired = await live.link(device_token=TOKEN, expires_in_hours=0.00001)
    await asyncio.sleep(0.1)
    for _ in range(5):
        async with live.http.get(f"{live.url}/api/v1/share/{expired}") as answer:
            assert answer.status == 404
    statuses = []
    for number in range(12):
        async with live.http.get(f"{live.url}/api/v1/share/guess{number}") as answer:
            statuses.append(answer.status)
    assert statuses == [404] * 10 + [429] * 2
    async with live.http.get(f"{live.url}/api/v1/share/{token}") as answer:
        assert answer.status == 429
    assert await ended(await live.watch(token)) == ([], 4008)


async def test_a_session_over_http_has_the_contracts_errors(live: Live) -> None:
    await live.know()
    path = "/sharing/sessions"
    ok = {"device_token": TOKEN, "instance_id": INSTANCE}
    bad = [
        {"expires_in_hours": 0}, {"expires_in_hours": 168.1}, {"expires_in_hours": True}, {"expires_in_hours": "4"},
        {"share_config": {"update_interval_seconds": 0}}, {"share_config": {"update_interval_seconds": 301}},
        {"share_config": {"show_speed": "yes"}}, {"share_config": {"show_everything": True}},
        {"recipient_name": "x" * 201}, {"notes": "x" * 2001}, {"order_id": "x" * 201},
        {"destination": {"latitude": 1}}, {"destination": {"longitude": 1}}, {"destination": {"label": "x"}},
        {"destination": {"latitude": 91, "longitude": 1}}, {"destination": {"latitude": 1, "longitude": 181}},
        {"destination": {"latitude": 1, "longitude": 1, "label": "x" * 301}},
        {"surprise": 1}, {"device_token": ""}, {"device_token": "x" * 201}, {"device_token": 5}, {"notes": "\0"},
    ]  # fmt: skip
    for change in bad:
        status, answer = await live.call("POST", path, json=ok | change)
        assert (status, bool(answer["errors"])) == (422, True), change
    good = [{"expires_in_hours": 168}, {"expires_in_hours": 0.25}, {"share_config": {}}, {"destination": None},
            {"recipient_name": "x" * 200, "notes": "x" * 2000, "order_id": "x" * 200}]  # fmt: skip
    for change in good:
        assert (await live.call("POST", path, json=ok | change))[0] == 201, change
    assert (await live.call("POST", f"{path}?instance_id=other", json=ok))[0] in (404, 422)
    assert (await live.call("POST", f"{path}?instance_id={INSTANCE}", json={"device_token": TOKEN}))[0] == 201
    assert (await live.call("POST", path, json={"device_token": TOKEN}))[0] == 422
    status, page = await live.call("GET", f"{path}?instance_id={INSTANCE}&limit=2&offset=1")
    assert (status, len(page["sessions"]), page["total"], page["limit"], page["offset"]) == (200, 2, 6, 2, 1)
    one = f"{path}/{page['sessions'][0]['id']}?instance_id={INSTANCE}"
    for change in ({"device_token": TOKEN}, {"track_token": "t"}, {"expires_in_hours": None}, {"status": "completed"}):
        assert (await live.call("PATCH", one, json=change))[0] == 422, change
    status, answer = await live.call("PATCH", one, json={"order_id": None, "share_config": None})
    assert (status, answer["order_id"]) == (200, None)
    for method, target in (("GET", "nope"), ("PATCH", "nope"), ("DELETE", "nope"), ("POST", "nope/complete")):
        options = {"json": {}} if method == "PATCH" else {}
        status, _ = await live.call(method, f"{path}/{target}?instance_id={INSTANCE}", **options)
        assert status == 404


async def test_an_idempotency_key_over_http(live: Live) -> None:
    await live.know()
    body = {"device_token": TOKEN, "instance_id": INSTANCE, "notes": "n"}
    headers = {"Idempotency-Key": "k"}
    first = await live.call("POST", "/sharing/sessions", json=body, headers=headers)
    again = await live.call("POST", "/sharing/sessions", json=dict(reversed(body.items())), headers=headers)
    other = await live.call("POST", "/sharing/sessions", json=body | {"notes": "m"}, headers=headers)
    assert (first[0], again, other[0]) == (201, first, 422)
    for bad in ("", "x" * 256):
        headers = {"Idempotency-Key": bad}
        assert (await live.call("POST", "/sharing/sessions", json=body, headers=headers))[0] == 422


async def test_a_viewer_that_goes_without_a_word_is_let_go(live: Live) -> None:
    device = await live.know()
    live.fix(device)
    _, token = await live.link(device_token=TOKEN, share_config=EVERY_SECOND)
    ws = await live.watch(token)
    await read(ws)
    ws._writer.transport.abort()
    await asyncio.wait_for(live.fanout._empty.wait(), 3)
    assert len(live.fanout) == 0
