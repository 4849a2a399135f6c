"""The whole way: the vendor's stand-in, a real gateway, and the vendor's own dashboard on the other side."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from running import RunningGateway, running_gateway

from waybridge_mycartracks import MyCarTracksSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ROOT = "/services/rest/v3/vehicles"
SEED = Path(__file__).parent.parent / "mycartracks" / "seed_dashboard.mjs"


@pytest.fixture
async def vendor() -> AsyncIterator[MyCarTracksSimulator]:
    simulator = MyCarTracksSimulator()
    await simulator.start()
    yield simulator
    await simulator.stop()


@pytest.fixture
async def running(tmp_path: Path, vendor: MyCarTracksSimulator) -> AsyncIterator[RunningGateway]:
    connection = {
        "id": "vans",
        "provider": "mycartracks",
        "instance_id": "default",
        "settings": vendor.settings(),
    }
    url = f"sqlite+aiosqlite:///{tmp_path / 'waybridge.db'}"
    async with running_gateway(url, tmp_path, connections=[connection]) as made:
        yield made


async def until(ask: Callable[[], Awaitable[Any]]) -> Any:
    """What `ask` answers, once it answers something."""
    async with asyncio.timeout(15):
        while not (found := await ask()):
            await asyncio.sleep(0.02)
    return found


async def get(running: RunningGateway, path: str, **headers: str) -> Any:
    async with running.http.get(running.url + path, headers=headers or running.headers()) as answer:
        return await answer.json() if answer.status == 200 else None


async def push(running: RunningGateway, device_token: str, **changes: Any) -> None:
    body = {"device_token": device_token, "latitude": 1.0, "longitude": 2.0, "timestamp": time.time()} | changes
    async with running.http.post(
        f"{running.url}/ingest/native/positions", json=body, headers=running.headers()
    ) as answer:
        assert answer.status == 200, await answer.text()


async def test_a_vehicle_of_the_vendor_comes_out_as_it_went_in(
    running: RunningGateway, vendor: MyCarTracksSimulator
) -> None:
    vendor.set_vehicle(123, "Van 12", user_id=42, user_name="John Smith")
    vendor.move(123, 48.1486, 17.1077, 42.5, 90.0)
    await until(lambda: _rows(running))

    (row,) = await _rows(running)
    ours = (await get(running, "/api/v1/devices?instance_id=default"))["devices"][0]

    assert (row["latitude"], row["longitude"], row["speed"], row["heading"]) == (48.1486, 17.1077, 42.5, 90.0)
    assert (row["vehicleName"], row["userName"], row["onlineState"]) == ("Van 12", "John Smith", "online")
    assert isinstance(row["vehicleId"], int)
    assert ours["position"]["speed"] == pytest.approx(42.5 / 3.6)
    assert (ours["provider"], ours["sources"][0]["external_id"]) == ("mycartracks", "123")


async def test_a_vehicle_goes_offline_through_the_gateway(
    running: RunningGateway, vendor: MyCarTracksSimulator
) -> None:
    vendor.move(123, 48.0, 17.0)
    await until(lambda: _rows(running))
    await until(lambda: _true(vendor.open_sockets == 1))
    async with await _socket(running) as ws:
        vendor.offline(123)
        event = await ws.receive_json(timeout=10)

    assert event["type"] == "vehicle.offline"
    assert (await _rows(running))[0]["onlineState"] == "offline"


async def test_devices_of_every_vendor_are_streamed(running: RunningGateway) -> None:
    await push(running, "phone", speed=10.0)
    async with await _socket(running) as ws:
        await push(running, "phone", latitude=3.0, speed=10.0)
        event = await ws.receive_json(timeout=10)

    assert (event["type"], event["latitude"], event["speed"]) == ("vehicle.position.updated", 3.0, 36.0)


async def test_groups_are_numbers(running: RunningGateway) -> None:
    for name in ("one", "two"):
        await push(running, name)
    headers = running.headers()
    body = {"name": "East", "device_tokens": ["two"]}
    async with running.http.put(
        f"{running.url}/api/v1/groups/east?instance_id=default", json=body, headers=headers
    ) as answer:
        assert answer.status in {200, 201}, await answer.text()
    number = (await running.house.slice.groups("default"))["east"][0]
    async with await _socket(running, vehicleGroupIds=[number], fields=["latitude"]) as ws:
        await push(running, "one", latitude=11.0)
        await push(running, "two", latitude=22.0)
        assert await ws.receive_json(timeout=10) == {"type": "vehicle.position.updated", "latitude": 22.0}


async def test_the_gateway_stops_at_once_although_a_dashboard_is_connected(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'waybridge.db'}"
    async with aiohttp.ClientSession() as http:
        async with running_gateway(url, tmp_path) as made:
            made.http, kept = http, made.http
            ws = await _socket(made)
            made.http = kept
            began = time.monotonic()
        assert time.monotonic() - began < 4
        assert (await ws.receive(timeout=5)).data == 1001


@pytest.mark.node
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
async def test_the_documented_javascript_works_on_the_gateway(
    running: RunningGateway, vendor: MyCarTracksSimulator
) -> None:
    vendor.set_vehicle(123, "Van 12")
    vendor.move(123, 48.0, 17.0, 42.5)
    await until(lambda: _rows(running))
    client = {"name": "dashboard", "instances": ["default"], "scope": "read"}
    async with running.http.post(f"{running.url}/api/v1/clients", json=client, headers=running.headers()) as answer:
        assert answer.status == 201, await answer.text()
        made = await answer.json()
    process = await asyncio.create_subprocess_exec(
        *("node", "--experimental-websocket", "--no-warnings", str(SEED)),
        *(running.url, made["client_id"], made["client_secret"], "2"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    said = []
    async for line in process.stdout:
        said.append(json.loads(line))
        if said[-1]["what"] == "connected":
            await until(lambda: _true(vendor.open_sockets == 1))
            vendor.move(123, 48.1486, 17.1077, 42.5)
        if said[-1]["what"] == "updateVehicleMarker":
            vendor.offline(123)
    await process.wait()

    what = [one["what"] for one in said if one["what"] not in {"open", "heartbeat"}]
    assert what == ["lastPositions", "stream", "connected", "updateVehicleMarker", "markVehicleOffline"]
    assert next(one["value"] for one in said if one["what"] == "updateVehicleMarker")["speed"] == 42.5


async def _true(fact: bool) -> bool:
    return fact


async def _rows(running: RunningGateway) -> Any:
    answer = await get(running, f"{ROOT}/lastPositions?limit=50")
    return answer and answer["data"]


async def _socket(running: RunningGateway, **body: Any) -> aiohttp.ClientWebSocketResponse:
    async with running.http.post(
        f"{running.url}{ROOT}/livePositions/stream", json=body, headers=running.headers("read")
    ) as answer:
        assert answer.status == 201, await answer.text()
        address = (await answer.json())["websocketUrl"]
    ws = await running.http.ws_connect(address)
    assert (await ws.receive_json(timeout=5))["type"] == "connected"
    return ws
