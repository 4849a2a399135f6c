"""A fresh gateway: whatever shares, exactly one start and one stop are told, in order, signed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from linq import LinqAPIV3
from running import RunningGateway, running_gateway
from webhooks_harness import Receiver

from waybridge_imessage.simulator import LinqSimulator

ANNA = "+14155550101"
CHAT = "550e8400-e29b-41d4-a716-446655440000"


@pytest.fixture
async def linq() -> AsyncIterator[LinqSimulator]:
    async with LinqSimulator(retry_delays=(0.1, 0.2, 0.4)) as made:
        made.add_chat(ANNA, chat_id=CHAT)
        yield made


@pytest.fixture
async def gateway(linq: LinqSimulator, database_url: str, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    imessage = {"api_key": linq.api_key, "base_url": linq.base_url, "subscribe": True, "poll_interval_seconds": 1}
    connections = [
        {"id": "line", "provider": "imessage", "instance_id": "default", "settings": imessage},
        {"id": "taxi", "provider": "driver_events", "instance_id": "default", "settings": {}},
    ]
    async with running_gateway(
        database_url,
        tmp_path,
        connections=connections,
        webhooks={"allow_private_targets": True},
        trips={"gap_seconds": 1.0},
    ) as made:
        yield made


class Integrator:
    """Subscribes, and waits for what it is told."""

    def __init__(self, gateway: RunningGateway, receiver: Receiver) -> None:
        self.gateway = gateway
        self.receiver = receiver
        self.secret = ""

    async def call(self, method: str, path: str, body: Any = None, *, base: str = "/api/v1") -> Any:
        async with self.gateway.http.request(
            method, self.gateway.url + base + path, json=body, headers=self.gateway.headers()
        ) as response:
            assert response.status < 300, await response.text()
            return await response.json(content_type=None) if response.status != 204 else None

    async def subscribe(self, *events: str) -> None:
        fields = {"instance_id": "default", "target_url": self.receiver.url, "subscribed_events": list(events)}
        self.secret = (await self.call("POST", "/webhook-subscriptions", fields))["signing_secret"]

    async def told(self, count: int) -> list[dict[str, Any]]:
        """The first `count` events, verified by the published library and read by the vendor's client."""
        await self.receiver.until(count)
        client = LinqAPIV3(api_key="unused", base_url="http://127.0.0.1:9")
        events = []
        for got in self.receiver.received[:count]:
            events.append(standardwebhooks.Webhook(self.secret).verify(got.body, got.headers))
            client.webhooks.unwrap(got.body.decode(), headers=got.headers, key=self.secret)
        client.close()
        return events


@pytest.fixture
async def integrator(gateway: RunningGateway, receiver: Receiver) -> Integrator:
    made = Integrator(gateway, receiver)
    await made.subscribe("location.sharing.*")
    return made


def a_pair(events: list[dict[str, Any]], start: str, stop: str, **same: Any) -> dict[str, Any]:
    """Checks that these are one start and its stop; the start's data."""
    begun, ended = events
    assert [each["event_type"] for each in events] == ["location.sharing.started", "location.sharing.stopped"]
    assert (begun["data"]["cause"], ended["data"]["cause"]) == (start, stop)
    kept = begun["data"].keys() - {"cause"}
    assert {name: ended["data"][name] for name in kept} == {name: begun["data"][name] for name in kept}
    assert ended["data"]["ended_at"] >= begun["data"]["began_at"]
    assert "ended_at" not in begun["data"]
    assert {name: begun["data"][name] for name in same} == same
    assert not {"latitude", "longitude", "coordinates", "share_token"} & set(str(events).replace("'", " ").split())
    return dict(begun["data"])


async def test_a_share_session(integrator: Integrator) -> None:
    await integrator.call("PUT", "/devices/van-1/metadata/profile?instance_id=default", {"full_name": "Ann Lee"})
    made = {"instance_id": "default", "device_token": "van-1", "recipient_name": "Jane"}
    session = await integrator.call("POST", "/sharing/sessions", made)
    await integrator.call("POST", f"/sharing/sessions/{session['id']}/complete?instance_id=default")

    a_pair(
        await integrator.told(2), "share_created", "completed",
        kind="share", device_token="van-1", shared_by="Ann Lee", shared_with="Jane", share_session_id=session["id"],
    )  # fmt: skip
    assert session["share_token"] not in str([each.body for each in integrator.receiver.received])


async def test_a_consent_in_imessage(integrator: Integrator, linq: LinqSimulator) -> None:
    async with asyncio.timeout(20):
        while not linq.subscriptions:
            await asyncio.sleep(0.02)
    linq.share(CHAT, ANNA, 60.17, 24.94)
    await integrator.receiver.until(1)
    linq.stop_sharing(ANNA)

    data = a_pair(
        await integrator.told(2), "consent", "consent_withdrawn",
        kind="source", provider="imessage", connection_id="line", shared_by=ANNA,
    )  # fmt: skip
    assert data["shared_with"].startswith("+")
    assert data["chat_id"]


async def test_a_booking(integrator: Integrator) -> None:
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    fields = {"assigned_at": start.isoformat(), "driver": {"firstName": "Ann", "lastName": "Lee"}}
    booking = await integrator.call("PUT", "/v1/bookings/C/B", fields, base="/ingest/taxi")
    journey = (
        "DRIVER_DEPARTED_TO_PICKUP", "DRIVER_LIVE_LOCATION", "DRIVER_ARRIVED_AT_PICKUP",
        "DRIVER_DEPARTED_TO_DROPOFF", "DRIVER_LIVE_LOCATION", "DRIVER_ARRIVED_AT_DROPOFF",
    )  # fmt: skip
    for minute, kind in enumerate(journey):
        at = (start + timedelta(seconds=10 * minute + 10)).isoformat().replace("+00:00", "Z")
        event = {"event_type": kind, "occurred_at": at, "latitude": 53.48, "longitude": -2.24}
        await integrator.call("POST", "/v1/bookings/C/B/driver/events", event, base="/ingest/taxi")

    a_pair(
        await integrator.told(2), "first_live_location", "arrived_at_dropoff",
        kind="source", provider="driver_events", device_token=booking["device_token"], shared_by="Ann Lee",
        shared_with="default",
    )  # fmt: skip


async def test_a_native_device(integrator: Integrator) -> None:
    fix = {"device_token": "van-1", "latitude": 60.17, "longitude": 24.94, "timestamp": time.time()}
    await integrator.call("POST", "/native/positions", fix, base="/ingest")

    a_pair(
        await integrator.told(2), "online", "offline",
        kind="source", provider="native", device_token="van-1", shared_by="van-1", shared_with="default",
    )  # fmt: skip
