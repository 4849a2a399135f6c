"""Stream sessions over WebSocket and server-sent events (contract section 9)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sharing.world import INSTANCE, TOKEN

from waybridge.bus import Nudge
from waybridge.store.engine import Tx
from waybridge.store.groups import put_group
from waybridge.streams.sessions import StreamSessions
from waybridge.streams.wire import CloseCode

from .clients import Sse, open_ws
from .conftest import Live, ended, read


async def test_a_stream_begins_with_a_snapshot_and_goes_on(live: Live) -> None:
    device = await live.know()
    device.online = True
    device.profile = {"full_name": "John Smith"}
    fix = live.fix(device, accuracy=4.0, extra='{"battery":0.5,"address":"Main Street"}')
    answer = await live.stream(min_interval_seconds=1)
    assert set(answer) == {
        "stream_id", "websocket_url", "sse_url", "expires_at", "heartbeat_seconds", "min_interval_seconds",
    }  # fmt: skip
    assert (answer["heartbeat_seconds"], answer["min_interval_seconds"]) == (30, 1)
    assert answer["websocket_url"].startswith("ws://127.0.0.1")
    ws = await open_ws(live, answer["websocket_url"])
    connected = await read(ws)
    assert (connected["type"], connected["stream_id"], connected["resumed"], connected["dropped"]) == (
        "connected", answer["stream_id"], False, 0,
    )  # fmt: skip
    position = await read(ws)
    recorded = position["recorded_at"]
    assert position == {
        "seq": 2,
        "type": "device.position.updated",
        "device_token": TOKEN,
        "display_identifier": "John Smith",
        "latitude": 51.5074,
        "longitude": -0.1278,
        "altitude": None,
        "accuracy": 4.0,
        "speed": 12.5,
        "heading": 245.0,
        "recorded_at": recorded,
        "received_at": recorded,
        "time_suspect": False,
        "track_token": None,
        "online": True,
        "address": "Main Street",
        "locality": None,
        "battery": 0.5,
        "attributes": {},
        "provider": "native",
        "connection_id": "native",
        "external_id": TOKEN,
    }
    assert recorded.endswith("Z")
    live.move(device, latitude=1.0)
    moved = await read(ws)
    assert (moved["seq"], moved["latitude"]) == (3, 1.0)
    live.happen(device, "offline", {"since": 1, "last_seen_us": fix.recorded_us})
    offline = await read(ws)
    assert offline == {
        "seq": 4, "type": "device.offline", "device_token": TOKEN, "last_seen_at": recorded, "reason": "silent",
    }  # fmt: skip
    live.happen(device, "online")
    assert (await read(ws))["type"] == "device.online"
    live.happen(device, "source_changed", {"device_token": TOKEN, "from": {"a": 1}, "to": {"b": 2}, "reason": "r"})
    changed = await read(ws)
    assert changed == {
        "seq": 6, "type": "source.changed", "device_token": TOKEN, "from": {"a": 1}, "to": {"b": 2}, "reason": "r",
    }  # fmt: skip
    await ws.close()


async def test_fields_are_only_those_that_were_asked(live: Live) -> None:
    device = await live.know()
    live.fix(device)
    answer = await live.stream(fields=["longitude", "latitude"])
    ws = await open_ws(live, answer["websocket_url"])
    await read(ws)
    assert set(await read(ws)) == {"seq", "type", "device_token", "latitude", "longitude"}
    await ws.close()


async def test_positions_keep_their_interval_and_are_the_newest(brief: Live) -> None:
    live = brief
    device = await live.know()
    answer = await live.stream(min_interval_seconds=0.3)
    ws = await open_ws(live, answer["websocket_url"])
    await read(ws)
    for number in range(5):
        live.move(device, latitude=float(number))
    found = []
    while len(found) < 2:
        frame = await read(ws)
        if frame["type"] == "device.position.updated":
            found.append((frame["latitude"], frame.get("dropped")))
    assert found == [(0.0, None), (4.0, None)]
    await ws.close()


async def test_devices_groups_and_other_instances(live: Live) -> None:
    one, two, three = await live.know("one"), await live.know("two"), await live.know("three")
    foreign = await live.know("one", "elsewhere")
    for device in (one, two, three, foreign):
        live.fix(device)

    async def group(tx: Tx, tokens: list[str]) -> None:
        await put_group(tx, INSTANCE, "g", None, tokens)
        tx.publish(Nudge("groups"))

    await live.store.write(lambda tx: group(tx, ["two"]))
    by_token = await open_ws(live, (await live.stream(device_tokens=["one"], min_interval_seconds=1))["websocket_url"])
    by_group = await open_ws(live, (await live.stream(groups=["g"], min_interval_seconds=1))["websocket_url"])
    for ws, token in ((by_token, "one"), (by_group, "two")):
        await read(ws)
        assert (await read(ws))["device_token"] == token
    for device in (foreign, one, two, three):
        live.move(device, latitude=1.0)
    assert (await read(by_token))["device_token"] == "one"
    assert (await read(by_group))["device_token"] == "two"
    await live.store.write(lambda tx: group(tx, ["three"]))
    assert (await read(by_group))["device_token"] == "three"
    live.move(two, latitude=2.0)
    live.move(three, latitude=3.0)
    assert (await read(by_group))["latitude"] == 3.0
    await by_token.close()
    await by_group.close()


async def test_offline_devices_are_left_out_of_a_snapshot_on_request(live: Live) -> None:
    here, away = await live.know("here"), await live.know("away")
    here.online, away.online = True, False
    for device in (here, away):
        live.fix(device)
    ws = await open_ws(live, (await live.stream(include_offline=False))["websocket_url"])
    await read(ws)
    assert (await read(ws))["device_token"] == "here"
    live.move(away)
    assert (await read(ws))["device_token"] == "away"
    await ws.close()


async def test_a_device_without_consent_is_not_there_and_its_end_is_told(live: Live) -> None:
    device = await live.know(consent="all")
    live.fix(device)
    ws = await open_ws(live, (await live.stream(min_interval_seconds=1))["websocket_url"])
    await read(ws)
    live.move(device)
    live.happen(device, "online")
    live.share(device)
    live.move(device, latitude=2.0)
    shown = await read(ws)
    assert (shown["seq"], shown["latitude"]) == (2, 2.0)
    live.withdraw(device)
    live.happen(device, "sharing_stopped")
    live.happen(device, "offline")
    live.move(device, latitude=3.0)
    live.roster.remove_device(device)
    live.happen(device, "erased")
    assert [(await read(ws))["reason"] for _ in range(2)] == ["not_sharing", "erased"]
    await ws.close()


async def test_the_newest_connection_has_the_stream(live: Live) -> None:
    await live.know()
    answer = await live.stream()
    older = await open_ws(live, answer["websocket_url"])
    await read(older)
    newer = await open_ws(live, answer["websocket_url"])
    frames, code = await ended(older)
    assert ([(frame["type"], frame["code"]) for frame in frames], code) == ([("error", "replaced")], 4009)
    assert (await read(newer))["type"] == "connected"
    async with Sse(live, answer["sse_url"]) as sse:
        assert (await ended(newer))[1] == 4009
        assert (await sse.event())["type"] == "connected"
        third = await open_ws(live, answer["websocket_url"])
        assert (await sse.event())["code"] == "replaced"
        assert await sse.event() is None
        await third.close()


async def test_a_connection_on_another_node_is_replaced_too(live: Live) -> None:
    device = await live.know()
    live.fix(device)
    answer = await live.stream()
    ws = await open_ws(live, answer["websocket_url"])
    await read(ws)
    await read(ws)
    other_node = StreamSessions(live.fanout, live.roster, live.store, live.streams_settings, node_id="n2")
    token = answer["websocket_url"].split("/")[-2]
    elsewhere = FakeViewer()
    stream = await other_node.take(await other_node.find(token), elsewhere, lambda body, _seq: body, 1)
    assert (await ended(ws))[1] == 4009
    connected = json.loads(elsewhere.written[0])
    assert (connected["resumed"], connected["dropped"], connected["seq"]) == (False, None, 2)
    first = json.loads(elsewhere.refill(next(iter(elsewhere.owed))) or b"")
    assert (first["seq"], first["device_token"]) == (3, TOKEN)
    stream.detach(elsewhere)
    await other_node.close()


class FakeViewer:
    """What a stream asks of a connection."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.owed: dict[Any, None] = {}
        self.open = self.ready = self.hears = True
        self.refill: Any = None

    def reply(self, frame: bytes) -> None:
        self.written.append(frame)

    def owe(self, keys: Any) -> None:
        self.owed.update(dict.fromkeys(keys))

    def end(self, code: CloseCode, reason: str = "", *, last: bytes = b"") -> None:
        self.written.append(last)
        self.open = False


async def test_a_stream_expires_and_its_token_with_it(brief: Live) -> None:
    await brief.know()
    answer = await brief.stream()
    ws = await open_ws(brief, answer["websocket_url"])
    frames, code = await ended(ws)
    assert (frames[-1]["type"], frames[-1]["code"], code) == ("error", "expired", 4001)
    assert [frame["type"] for frame in frames[1:-1]] == ["heartbeat"] * len(frames[1:-1])
    assert len(frames) > 5
    assert await ended(await open_ws(brief, answer["websocket_url"])) == ([], 4001)
    async with Sse(brief, answer["sse_url"]) as sse:
        assert sse.status == 404
    assert await brief.streams.purge() == 1


async def test_a_wrong_token_opens_nothing(live: Live) -> None:
    await live.know()
    answer = await live.stream()
    assert await ended(await open_ws(live, f"{live.url}/api/v1/streams/nope/ws")) == ([], 4001)
    async with live.http.get(f"{live.url}/api/v1/streams/nope/events") as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")
    async with live.http.get(f"{live.url}/api/v1/streams/{answer['stream_id']}/events") as response:
        assert response.status == 404
    token = answer["websocket_url"].split("/")[-2]
    status, _ = await live.call("GET", f"/sharing/sessions?instance_id={INSTANCE}", token=token)
    assert status == 401


@pytest.mark.parametrize(
    "wanted",
    [
        {"min_interval_seconds": 0.5}, {"min_interval_seconds": "5"}, {"min_interval_seconds": 3601},
        {"fields": []}, {"fields": ["secrets"]}, {"fields": "latitude"}, {"device_tokens": []}, {"groups": []},
        {"device_tokens": ["a"], "groups": ["b"]}, {"device_tokens": ["a\n"]}, {"include_offline": "no"}, {"x": 1},
    ],
)  # fmt: skip
async def test_a_stream_that_makes_no_sense_is_422(live: Live, wanted: dict[str, Any]) -> None:
    status, answer = await live.call("POST", "/streams", json={"instance_id": INSTANCE, **wanted})
    assert status == 422
    assert answer["errors"]


async def test_after_must_be_a_number(live: Live) -> None:
    answer = await live.stream()
    for after in ("x", "-1", "1.5", "9" * 17, "٣"):
        async with live.http.get(answer["sse_url"], params={"after": after}) as response:
            assert response.status == 422


async def test_a_socket_hears_of_senseless_numbers_by_its_close_code(live: Live) -> None:
    answer = await live.stream()
    for after in ("x", "-1"):
        assert await ended(await open_ws(live, f"{answer['websocket_url']}?after={after}")) == ([], 1008)
    assert await ended(await open_ws(live, f"{live.url}/api/v1/streams/%00/ws")) == ([], 4001)


async def test_a_socket_that_returns_gets_what_it_missed(live: Live) -> None:
    device, other = await live.know(), await live.know("other")
    answer = await live.stream(min_interval_seconds=1)
    ws = await open_ws(live, answer["websocket_url"])
    await read(ws)
    live.move(device, latitude=1.0)
    seq = (await read(ws))["seq"]
    await ws.close()
    await asyncio.wait_for(live.fanout._empty.wait(), 2)
    for number in range(3):
        live.happen(other, "online" if number % 2 == 0 else "offline")
        live.fix(other)
        live.happen(device, "online")
    again = await open_ws(live, answer["websocket_url"], seq)
    connected = await read(again)
    rest = [await read(again), await read(again)]
    assert (connected["resumed"], connected["dropped"]) == (True, 4)
    assert (seq, connected["seq"]) == (2, 7)
    assert [(event["seq"], event["device_token"]) for event in rest] == [(8, "other"), (9, TOKEN)]
    await again.close()


async def test_what_a_resume_told_is_not_told_again_when_its_interval_ends(brief: Live) -> None:
    live = brief
    device = await live.know()
    answer = await live.stream(min_interval_seconds=0.3)
    ws = await open_ws(live, answer["websocket_url"])
    lost_after = (await read(ws))["seq"]
    live.move(device, latitude=1.0)
    await read(ws)
    live.move(device, latitude=2.0)  # within the interval: waits for its end
    await ws.close()
    await asyncio.wait_for(live.fanout._empty.wait(), 2)
    again = await open_ws(live, answer["websocket_url"], lost_after)
    told, code = await ended(again)  # a second after the stream was made
    assert code == CloseCode.CREDENTIALS
    assert [each["latitude"] for each in told if each["type"] == "device.position.updated"] == [2.0]


async def test_a_browsers_event_source_resumes_by_its_last_event_id(live: Live) -> None:
    device = await live.know()
    answer = await live.stream(min_interval_seconds=1)
    sse = Sse(live, answer["sse_url"])
    async with sse:
        assert (await sse.event())["type"] == "connected"
        live.move(device, latitude=1.0)
        assert (await sse.event())["latitude"] == 1.0
    assert sse.last_id == "2"
    live.happen(device, "online")
    async with sse:
        connected = await sse.event()
        assert (connected["resumed"], connected["dropped"], connected["seq"]) == (True, 0, 3)
        assert (await sse.event())["type"] == "device.online"
    assert sse.last_id == "4"
