"""Share links on the real gateway: the seed's requests word for word, bookings, trips, erasure, a restart."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from running import RunningGateway, running_gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TOKEN = "1e653223-8efe-4904-baaa-23f0972924e0"
SEED = """{
"device_token": "1e653223-8efe-4904-baaa-23f0972924e0",
"instance_id": "default",
"expires_in_hours": 4,
"recipient_name": "Jane Doe",
"notes": "Your package is on the way!",
"order_id": "ORD-2024-1234",
"destination": {
"latitude": 51.5074,
"longitude": -0.1278,
"label": "123 Main Street, London"
},
"share_config": {
"show_speed": true,
"show_heading": true,
"show_eta": true,
"show_destination_on_map": true
}
}"""
FIELDS = {
    "id", "share_token", "share_url", "links", "device_token", "instance_id", "status", "created_at", "expires_at",
    "order_id", "recipient_name", "destination", "share_config", "notes", "track_token", "updated_at", "completed_at",
    "cancelled_at", "views",
}  # fmt: skip


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    connections = [
        {"id": "taxi", "provider": "driver_events", "instance_id": "default", "settings": {"auto_provision": True}}
    ]
    async with running_gateway(
        f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}", tmp_path, connections=connections
    ) as made:
        yield made


async def call(gateway: RunningGateway, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    text = body if isinstance(body, str) else json.dumps(body) if body is not None else None
    headers = gateway.headers() | ({"Content-Type": "application/json"} if text is not None else {})
    async with gateway.http.request(method, gateway.url + path, data=text, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def move(gateway: RunningGateway, token: str = TOKEN, **changes: Any) -> None:
    fix = {"device_token": token, "latitude": 51.5, "longitude": -0.12, "timestamp": time.time(), "speed": 12.5}
    status, _ = await call(gateway, "POST", "/ingest/native/positions", fix | changes)
    assert status == 200


async def share(gateway: RunningGateway, **wanted: Any) -> dict[str, Any]:
    body = {"device_token": TOKEN, "instance_id": "default", **wanted}
    status, session = await call(gateway, "POST", "/api/v1/sharing/sessions", body)
    assert status == 201, session
    found: dict[str, Any] = session
    return found


@pytest.mark.parametrize("prefix", ["/api/v1", "/realtime/api/v1"])
async def test_the_seeds_requests_word_for_word(gateway: RunningGateway, prefix: str) -> None:
    await move(gateway)
    status, made = await call(gateway, "POST", f"{prefix}/sharing/sessions", SEED)
    assert (status, set(made)) == (201, FIELDS)
    assert made["expires_at"] == made["created_at"] + 14400
    assert made["destination"] == {"latitude": 51.5074, "longitude": -0.1278, "label": "123 Main Street, London"}
    one = f"{prefix}/sharing/sessions/{made['id']}"
    status, page = await call(gateway, "GET", f"{prefix}/sharing/sessions?instance_id=default&status=active")
    assert (status, page["sessions"], page["total"]) == (200, [made], 1)
    change = """{
"notes": "Updated: driver will arrive from the back entrance",
"share_config": { "show_speed": false }
}"""
    status, changed = await call(gateway, "PATCH", f"{one}?instance_id=default", change)
    assert (status, changed["notes"][:7], changed["share_config"]["show_speed"]) == (200, "Updated", False)
    async with gateway.http.get(f"{gateway.url}{prefix}/share/{made['share_token']}") as answer:
        shown = await answer.json()
    assert (shown["status"], shown["driver"]["speed"], shown["driver"]["latitude"]) == ("active", None, 51.5)
    status, done = await call(gateway, "POST", f"{one}/complete?instance_id=default")
    assert (status, done["status"]) == (200, "completed")
    status, conflict = await call(gateway, "DELETE", f"{one}?instance_id=default")
    assert (status, conflict["status"]) == (409, 409)
    async with gateway.http.get(f"{gateway.url}{prefix}/share/{made['share_token']}") as answer:
        assert answer.status == 410


async def test_a_booking_leads_its_recipient_from_pickup_to_the_end(gateway: RunningGateway) -> None:
    started = time.time() - 100

    async def event(kind: str, second: float, **place: float) -> None:
        occurred = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started + second))
        body = {"event_type": kind, "occurred_at": occurred, **place}
        status, answer = await call(gateway, "POST", "/ingest/taxi/v1/bookings/CUST/BOOK/driver/events", body)
        assert status == 200, answer

    booking = {
        "assigned_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started - 60)),
        "driver": {"firstName": "John", "lastName": "Smith", "telephoneNumber": "+441234567890"},
        "pickup": {"latitude": 51.6, "longitude": -0.1, "label": "Pickup"},
        "dropoff": {"latitude": 51.7, "longitude": -0.1, "label": "Drop-off"},
    }
    status, made = await call(gateway, "PUT", "/ingest/taxi/v1/bookings/CUST/BOOK", booking)
    assert status == 200, made
    session = await share(
        gateway, device_token=made["device_token"], share_config={"update_interval_seconds": 1}
    )
    ws = await gateway.http.ws_connect(session["links"]["ws_url"])

    async def shown() -> tuple[str, bool, str | None]:
        async with gateway.http.get(session["links"]["api_url"]) as answer:
            found = await answer.json()
        return found["stage"], found["driver"] is not None, (found["destination"] or {}).get("label")

    assert await shown() == ("waiting", False, "Pickup")
    await event("DRIVER_DEPARTED_TO_PICKUP", 0, latitude=51.5, longitude=-0.1)
    assert await shown() == ("en_route_to_pickup", False, "Pickup")
    assert await ws.receive_json(timeout=3) == {"type": "status", "stage": "en_route_to_pickup"}
    await event("DRIVER_LIVE_LOCATION", 99, latitude=51.55, longitude=-0.1)
    position = await ws.receive_json(timeout=3)
    assert (position["type"], position["latitude"], position["driver_display_name"]) == (
        "position", 51.55, "John Smith",
    )  # fmt: skip
    assert await shown() == ("en_route_to_pickup", True, "Pickup")
    await event("DRIVER_ARRIVED_AT_PICKUP", 99.1)
    assert await shown() == ("at_pickup", True, "Drop-off")
    await event("DRIVER_DEPARTED_TO_DROPOFF", 99.2)
    await event("DRIVER_ARRIVED_AT_DROPOFF", 99.3)
    frames = [message.json() async for message in ws]
    assert (frames[-1], ws.close_code) == ({"type": "session_ended", "reason": "completed"}, 1000)
    async with gateway.http.get(session["links"]["api_url"]) as answer:
        assert answer.status == 410


async def test_nothing_of_another_trip_is_shown(gateway: RunningGateway) -> None:
    await move(gateway, track_token="route-14", latitude=51.1)
    session = await share(gateway, track_token="route-14")
    await move(gateway, track_token="route-15", latitude=51.9)
    async with gateway.http.get(session["links"]["api_url"]) as answer:
        found = await answer.json()
    assert (found["stage"], found["driver"]["latitude"]) == ("trip_ended", 51.1)
    later = await share(gateway, track_token="route-16")
    async with gateway.http.get(later["links"]["api_url"]) as answer:
        found = await answer.json()
    assert (found["stage"], found["driver"]) == ("waiting", None)


async def test_erasing_a_device_ends_its_links(gateway: RunningGateway) -> None:
    await move(gateway)
    session = await share(gateway)
    ws = await gateway.http.ws_connect(session["links"]["ws_url"])
    await ws.receive_json(timeout=3)
    status, _ = await call(gateway, "DELETE", f"/api/v1/devices/{TOKEN}/data?instance_id=default")
    assert status in (200, 204)
    frames = [message.json() async for message in ws]
    assert (frames, ws.close_code) == ([{"type": "session_ended", "reason": "cancelled"}], 1000)
    async with gateway.http.get(session["links"]["api_url"]) as answer:
        assert answer.status in (404, 410)


async def test_links_outlive_a_restart(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}"
    async with running_gateway(url, tmp_path) as gateway:
        await move(gateway)
        session = await share(gateway)
    async with running_gateway(url, tmp_path) as gateway:
        async with gateway.http.get(f"{gateway.url}/api/v1/share/{session['share_token']}") as answer:
            assert (await answer.json())["driver"]["latitude"] == 51.5
        path = f"/api/v1/sharing/sessions/{session['id']}?instance_id=default"
        assert (await call(gateway, "GET", path))[1]["share_token"] == session["share_token"]


async def test_stopping_ends_viewers_with_1001(tmp_path: Path) -> None:
    async with running_gateway(f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}", tmp_path) as gateway:
        await move(gateway)
        session = await share(gateway)
        viewer = await gateway.http.ws_connect(session["links"]["ws_url"])
        fleet = await gateway.http.ws_connect(f"{gateway.url}/api/v1/ws/realtime")
        await fleet.send_json({"type": "authenticate", "jwt": gateway.token("read"), "instance_id": "default"})
        status, stream = await call(gateway, "POST", "/api/v1/streams", {"instance_id": "default"})
        assert status == 201
        streaming = await gateway.http.ws_connect(stream["websocket_url"])
        for ws in (viewer, fleet, streaming):
            await ws.receive_json(timeout=3)
        reading = [asyncio.create_task(last_code(ws)) for ws in (viewer, fleet, streaming)]
        began = time.monotonic()
        await gateway.house.close_sockets()
        assert await asyncio.gather(*reading) == [1001] * 3
        assert time.monotonic() - began < 8


async def last_code(ws: aiohttp.ClientWebSocketResponse) -> int | None:
    async for _ in ws:
        pass
    return ws.close_code
