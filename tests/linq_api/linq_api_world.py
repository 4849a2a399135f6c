"""A real gateway with a device of each vendor in one group, for Linq's own clients."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from running import RunningGateway, running_gateway

from waybridge import vendor_device_token
from waybridge_imessage.simulator import LinqSimulator
from waybridge_mycartracks import MyCarTracksSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

ANNA, ANNAS_CHAT = "+14155550101", "550e8400-e29b-41d4-a716-446655440000"
BOB, BOBS_CHAT = "+14155550102", "550e8400-e29b-41d4-a716-446655440001"
PATIENCE = 90.0


class World:
    """`devices` by vendor; Anna shares, Bob does as soon as he is asked. The group is called `fleet`."""

    def __init__(self, gateway: RunningGateway, linq: LinqSimulator, booking: str) -> None:
        self.gateway = gateway
        self.linq = linq
        self.bob = vendor_device_token("default", "line", BOB)
        self.devices = {
            "native": "phone",
            "mycartracks": vendor_device_token("default", "vans", "123"),
            "imessage": vendor_device_token("default", "line", ANNA),
            "driver_events": booking,
        }

    @property
    def base_url(self) -> str:
        return f"{self.gateway.url}/api/partner"

    async def sees(self, device: str) -> bool:
        """Whether the gateway shows where a device is."""
        url = f"{self.gateway.url}/api/v1/devices/{device}/position"
        async with self.gateway.http.get(url, headers=self.gateway.headers()) as answer:
            return answer.status == 200


async def until(ask: Callable[[], Awaitable[bool]]) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not await ask():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def everyone(folder: Path) -> AsyncIterator[World]:
    """The gateway, when all four are seen."""
    async with AsyncExitStack() as stack:
        vans = MyCarTracksSimulator()
        await vans.start()
        stack.push_async_callback(vans.stop)
        vans.set_vehicle(123, "Van 12", user_id=42, user_name="John Smith")
        vans.move(123, 2.0, 20.0, 42.5, 90.0)
        linq = await stack.enter_async_context(
            LinqSimulator(person_accepts_requests=True, request_every=0, retry_delays=(0.1, 0.2, 0.4))
        )
        linq.add_chat(ANNA, chat_id=ANNAS_CHAT)
        linq.add_chat(BOB, chat_id=BOBS_CHAT)
        line = {**linq.settings(), "subscribe": True, "poll_interval_seconds": 1}
        connections = [
            {"id": name, "provider": provider, "instance_id": "default", "settings": {**settings, "stale_after": 3600}}
            for name, provider, settings in (
                ("native", "native", {}),
                ("vans", "mycartracks", vans.settings()),
                ("line", "imessage", line),
                ("taxi", "driver_events", {}),
            )
        ]
        gateway = await stack.enter_async_context(
            running_gateway(
                f"sqlite+aiosqlite:///{folder / 'waybridge.db'}",
                folder,
                connections=connections,
                webhooks={"allow_private_targets": True},
            )
        )
        booking = await _begin(gateway)
        world = World(gateway, linq, booking)
        await until(lambda: _subscribed(linq))
        linq.share(ANNAS_CHAT, ANNA, 3.0, 30.0)
        for device in world.devices.values():
            await until(lambda device=device: world.sees(device))
        yield world


async def _subscribed(linq: LinqSimulator) -> bool:
    return bool(linq.subscriptions)


async def _begin(gateway: RunningGateway) -> str:
    """A phone and a taxi report, and the group is made; the taxi's device."""

    async def call(method: str, path: str, body: Any) -> Any:
        async with gateway.http.request(method, gateway.url + path, json=body, headers=gateway.headers()) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    fix = {"device_token": "phone", "latitude": 1.0, "longitude": 10.0, "timestamp": time.time()}
    await call("POST", "/ingest/native/positions", fix)
    at = datetime.now(UTC).isoformat()
    driver = {"firstName": "Grace", "lastName": "Okoye"}
    booking = await call("PUT", "/ingest/taxi/v1/bookings/C-1/B-1", {"assigned_at": at, "driver": driver})
    for kind in ("DEPARTED_TO_PICKUP", "LIVE_LOCATION"):
        at = datetime.now(UTC).isoformat()
        event = {"event_type": f"DRIVER_{kind}", "occurred_at": at, "latitude": 4.0, "longitude": 40.0}
        await call("POST", "/ingest/taxi/v1/bookings/C-1/B-1/driver/events", event)
    tokens = list(World(gateway, LinqSimulator(), booking["device_token"]).devices.values())
    await call("PUT", "/api/v1/groups/fleet?instance_id=default", {"name": "Fleet", "device_tokens": tokens})
    return str(booking["device_token"])
