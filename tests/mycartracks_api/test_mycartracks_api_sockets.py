"""The sockets of MyCarTracks' API over the gateway's devices, as its clients see them."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mycartracks_api_fakes import FIX, WHEN, Api, FakeGateway

from waybridge import Batch, Offline, Position, Profile, ProviderContext
from waybridge_mycartracks import MyCarTracks, MyCarTracksSettings
from waybridge_mycartracks_api import stream
from waybridge_mycartracks_api.stream import Stream

SEED = Path(__file__).parent.parent / "mycartracks" / "seed_dashboard.mjs"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that tell as often as something changes."""
    original = Stream.__init__

    def init(self: Stream, gateway: Any, stream_id: str, spec: Any, **options: Any) -> None:
        original(self, gateway, stream_id, dict(spec) | {"interval": 0.0}, **options)

    monkeypatch.setattr(Stream, "__init__", init)


async def test_events_are_the_documented_ones(api: Api, gateway: FakeGateway, hasty: None) -> None:
    gateway.put("acme", "van", at=(48.0, 17.0), recorded_at=WHEN - timedelta(seconds=5), nickname="Van 12")
    async with await api.socket() as ws:
        gateway.put("acme", "van", at=(48.1486, 17.1077), recorded_at=WHEN, fix=FIX, full_name="John Smith")
        position = await ws.receive_json(timeout=5)
        gateway.put("acme", "van", online=False)
        gone = await ws.receive_json(timeout=5)

    assert position == {
        "type": "vehicle.position.updated",
        "vehicleId": 1,
        "vehicleName": "Van 12",
        "userId": 1,
        "userName": "John Smith",
        "latitude": 48.1486,
        "longitude": 17.1077,
        "speed": 42.5,
        "heading": 90.0,
        "recordedAt": "2026-06-01T14:21:35Z",
        "receivedAt": "2026-06-01T14:21:38Z",
        "onlineState": "online",
    }
    assert gone == {"type": "vehicle.offline", "vehicleId": 1, "lastSeenAt": "2026-06-01T14:21:35Z"}


async def test_only_the_chosen_fields_vehicles_and_groups_of_the_own_instances_come(
    api: Api, gateway: FakeGateway, hasty: None
) -> None:
    for instance_id, token in (("acme", "a"), ("acme", "b"), ("other", "c")):
        gateway.put(instance_id, token)
    gateway.members = {"acme": {"east": (71, ["b"])}, "other": {"east": (72, ["c"])}}
    sockets = {
        "all": await api.socket(fields=["speed", "vehicleId"]),
        "by vehicle": await api.socket(vehicleIds=[1, 3, 404], fields=["vehicleId"]),
        "by group": await api.socket(vehicleGroupIds=[71, 72], fields=["vehicleId"]),
    }
    for instance_id, token in (("acme", "a"), ("acme", "b"), ("other", "c")):
        gateway.put(instance_id, token, at=(1.0, 2.0))
    gateway.put("acme", "a", online=False)
    gateway.put("acme", "b", online=False)

    told: dict[str, list[Any]] = {}
    for name, ws in sockets.items():
        told[name] = [await ws.receive_json(timeout=5) for _ in range(4 if name == "all" else 2)]
        await ws.close()

    updates = {name: [event for event in events if event["type"].endswith("updated")] for name, events in told.items()}
    assert updates["all"] == [{"type": "vehicle.position.updated", "vehicleId": n, "speed": None} for n in (1, 2)]
    assert [event["vehicleId"] for event in updates["by vehicle"]] == [1]
    assert [event["vehicleId"] for event in updates["by group"]] == [2]
    assert {event["vehicleId"] for events in told.values() for event in events} == {1, 2}


async def test_what_came_between_the_request_and_the_socket_is_told(api: Api, gateway: FakeGateway) -> None:
    _, answer = await api.post({})
    gateway.put("acme", "van", at=(1.0, 2.0))
    async with api.http.ws_connect(answer["websocketUrl"]) as ws:
        kinds = [(await ws.receive_json(timeout=5))["type"] for _ in range(2)]

    assert kinds == ["connected", "vehicle.position.updated"]


async def test_an_address_serves_once(api: Api) -> None:
    _, answer = await api.post({})
    good = answer["websocketUrl"]
    bad = [good.split("?")[0], good + "x", good.replace("lps_0", "lps_1")]
    for address in bad:
        async with api.http.ws_connect(address) as ws:
            assert (await ws.receive(timeout=5)).data == 4001
    async with api.http.ws_connect(good) as ws:
        assert (await ws.receive_json(timeout=5))["type"] == "connected"
        async with api.http.ws_connect(good) as again:
            assert (await again.receive(timeout=5)).data == 4001
    async with api.http.ws_connect(good) as again:
        assert (await again.receive(timeout=5)).data == 4001


async def test_an_address_is_no_page(api: Api, gateway: FakeGateway) -> None:
    _, answer = await api.post({})
    async with api.http.get(answer["websocketUrl"].replace("ws", "http", 1)) as refused:
        assert refused.status == 400
    assert len(gateway.tickets) == 1


async def test_heartbeats_come_and_group_members_are_read_again(
    api: Api, gateway: FakeGateway, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Stream.__init__.__kwdefaults__ or {}, "heartbeat", 0.05)
    original = Stream.__init__

    def init(self: Stream, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options | {"heartbeat": 0.05})

    monkeypatch.setattr(Stream, "__init__", init)
    gateway.put("acme", "van")
    gateway.members = {"acme": {"east": (71, [])}}
    async with await api.socket(vehicleGroupIds=[71]) as ws:
        beat = await ws.receive_json(timeout=5)
        gateway.members = {"acme": {"east": (71, ["van"])}}
        assert (await ws.receive_json(timeout=5))["type"] == "heartbeat"
        assert (await ws.receive_json(timeout=5))["type"] == "heartbeat"
        gateway.put("acme", "van", at=(1.0, 2.0))
        kinds = {(await ws.receive_json(timeout=5))["type"] for _ in range(4)}

    assert set(beat) == {"type", "sentAt"}
    assert datetime.fromisoformat(beat["sentAt"]).tzinfo is not None
    assert kinds == {"heartbeat", "vehicle.position.updated"}


async def test_a_session_ends_with_its_time(api: Api, gateway: FakeGateway) -> None:
    _, answer = await api.post({})
    (ticket,) = gateway.tickets
    gateway.tickets[ticket]["until"] = datetime.now(UTC).timestamp() + 0.1
    async with api.http.ws_connect(answer["websocketUrl"]) as ws:
        kinds = [(await ws.receive_json(timeout=5))["type"] for _ in range(2)]
        assert kinds == ["connected", "error"]
        assert (await ws.receive(timeout=5)).data == 4001


async def test_the_gateways_end_is_said_and_nothing_is_left(api: Api, gateway: FakeGateway) -> None:
    before = asyncio.all_tasks()
    async with await api.socket() as ws:
        gateway.stop()
        assert (await ws.receive(timeout=5)).data == 1001
    async with asyncio.timeout(5):
        while any(task.get_name().startswith("stream") for task in asyncio.all_tasks() - before):
            await asyncio.sleep(0)
    assert gateway.listeners == {}


async def test_what_a_client_says_changes_nothing(api: Api, gateway: FakeGateway, hasty: None) -> None:
    async with await api.socket() as ws:
        await ws.send_str("{not json")
        await ws.send_bytes(b"\x00")
        gateway.put("acme", "van", at=(1.0, 2.0))
        assert (await ws.receive_json(timeout=5))["type"] == "vehicle.position.updated"
        await ws.send_str("x" * 5000)
        assert (await ws.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


async def test_a_client_that_does_not_read_is_cut_and_does_not_slow_another(
    api: Api, gateway: FakeGateway, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Stream.__init__

    def init(self: Stream, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options | {"slow_seconds": 0.3})

    monkeypatch.setattr(Stream, "__init__", init)
    _, answer = await api.post({})
    host, port = api.url.removeprefix("http://").split(":")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect((host, int(port)))
    narrow.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
    path = answer["websocketUrl"].partition(api.url.partition("//")[2])[2]
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{upgrade}{key}\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    other = await api.socket()
    name = "x" * 60_000
    for index in range(200):
        gateway.put("acme", f"d{index}", at=(1.0, 2.0), nickname=name)
        assert (await other.receive_json(timeout=5))["vehicleId"] == index + 1

    async with asyncio.timeout(10):
        while len(gateway.listeners) == 2:
            await asyncio.sleep(0.02)
    assert len(gateway.listeners) == 1
    await other.close()
    writer.transport.abort()


async def test_our_own_provider_reads_it_as_it_reads_the_vendor(api: Api, gateway: FakeGateway, hasty: None) -> None:
    class Clock:
        now = staticmethod(lambda: datetime.now(UTC))
        monotonic = staticmethod(lambda: asyncio.get_running_loop().time())
        sleep = staticmethod(asyncio.sleep)

    class Quiet:
        def __getattr__(self, _: str) -> Any:
            return lambda *_, **__: None

    names = {"nickname": "Van 12", "full_name": "John Smith"}
    gateway.put("acme", "van", at=(48.1486, 17.1077), recorded_at=WHEN, fix=FIX, **names)
    base = {"base_url": f"{api.url}/services/rest/v3", "token_url": f"{api.url}/oauth/token"}
    settings = MyCarTracksSettings.model_validate({"client_id": "id", "client_secret": "secret"} | base)
    context = ProviderContext(
        instance_id="i",
        connection_id="c",
        session=api.http,
        state=None,  # type: ignore[arg-type]
        clock=Clock(),
        count=lambda *_: None,
        log=Quiet(),
    )
    provider = MyCarTracks(settings, context)
    await provider.check()
    reports: list[Any] = []
    async for said in provider.stream():
        before = len(reports)
        reports += said.reports if isinstance(said, Batch) else [said]
        if before == 0:
            asyncio.get_running_loop().call_soon(_drive, gateway)
        if any(isinstance(one, Offline) for one in reports):
            break
    await provider.close()

    profile, first, second, gone = reports
    assert profile == Profile(source=context.source("1"), nickname="Van 12", full_name="John Smith")
    assert isinstance(first, Position)
    assert (first.latitude, first.heading_deg, first.recorded_at) == (48.1486, 90.0, WHEN)
    assert first.speed_mps == pytest.approx(42.5 / 3.6)
    assert second.recorded_at == WHEN + timedelta(seconds=5)
    assert gone == Offline(source=context.source("1"), last_seen_at=WHEN + timedelta(seconds=5))


def _drive(gateway: FakeGateway) -> None:
    """Moves the van and takes it off as soon as somebody listens."""
    if not gateway.listeners:
        asyncio.get_running_loop().call_later(0.01, _drive, gateway)
        return
    gateway.put("acme", "van", at=(48.2, 17.2), recorded_at=WHEN + timedelta(seconds=5))
    asyncio.get_running_loop().call_later(0.1, lambda: gateway.put("acme", "van", online=False))


@pytest.mark.node
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
async def test_the_documented_javascript_works_with_only_its_host_changed(api: Api, gateway: FakeGateway) -> None:
    gateway.put("acme", "van", at=(48.0, 17.0), nickname="Van 12")
    process = await asyncio.create_subprocess_exec(
        *("node", "--experimental-websocket", "--no-warnings", str(SEED), api.url, "id", "secret", "2"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    said = []
    async for line in process.stdout:
        said.append(json.loads(line))
        if said[-1]["what"] == "connected":
            gateway.put("acme", "van", at=(48.1, 17.1))
        if said[-1]["what"] == "updateVehicleMarker":
            gateway.put("acme", "van", online=False)
    await process.wait()

    what = [one["what"] for one in said if one["what"] != "open"]
    assert what == ["lastPositions", "stream", "connected", "updateVehicleMarker", "markVehicleOffline"]


def test_the_heartbeat_is_the_documented_one() -> None:
    assert stream.HEARTBEAT == 30
