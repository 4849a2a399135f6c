"""The vendor's own dashboard, with nothing but its host changed, over devices of all four providers at once."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running import RunningGateway, running_gateway

from waybridge import vendor_device_token
from waybridge_imessage.simulator import LinqSimulator
from waybridge_mycartracks import MyCarTracksSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

DASHBOARD = Path(__file__).parent.parent / "mycartracks" / "seed_dashboard.mjs"
ANNA = "+14155550101"
VENDORS = {"native", "mycartracks", "imessage", "driver_events"}
WEBHOOK_SECRET = "whsec_dGVzdHMtc2VjcmV0LXRlc3RzLXNlY3JldC10ZXN0czE="
PATIENCE = 90.0


class World:
    """A gateway with a device of each provider."""

    def __init__(self, gateway: RunningGateway, vans: MyCarTracksSimulator, linq: LinqSimulator) -> None:
        self.gateway = gateway
        self.vans = vans
        self.linq = linq

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        async with self.gateway.http.request(
            method, self.gateway.url + path, json=body, headers=self.gateway.headers("read write ingest admin", "*")
        ) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def begin(self) -> None:
        """A phone, a van, a person in a chat and a taxi, each with a first position."""
        self.vans.set_vehicle(123, "Van 12", user_id=42, user_name="John Smith")
        self.linq.subscribe(f"{self.gateway.url}/ingest/chats/webhook", secret=WEBHOOK_SECRET)
        self.linq.share(self.linq.add_chat(ANNA, chat_id="chat-1"), ANNA, 3.0, 30.0)
        at = datetime.now(UTC).isoformat()
        await self.call("PUT", "/ingest/taxi/v1/bookings/C-1/B-1", {
            "assigned_at": at, "driver": {"firstName": "Grace", "lastName": "Okoye"},
        })  # fmt: skip
        await self._taxi("DEPARTED_TO_PICKUP", 4.0)
        await self.move(0.0)

    async def move(self, further: float) -> None:
        """Everybody goes on, each in its own vendor's words."""
        await self.call("POST", "/ingest/native/positions", {
            "device_token": "phone", "latitude": 1.0 + further, "longitude": 10.0, "timestamp": time.time(),
            "speed": 10.0,
        })  # fmt: skip
        self.vans.move(123, 2.0 + further, 20.0, 42.5, 90.0)
        self.linq.move(ANNA, 3.0 + further, 30.0)
        await self._taxi("LIVE_LOCATION", 4.0 + further)

    async def leave(self) -> None:
        """The van's phone goes silent, the person stops sharing, the ride is over."""
        self.vans.offline(123)
        self.linq.stop_sharing(ANNA)
        await self._taxi("ARRIVED_AT_PICKUP", 4.5)
        await self._taxi("DEPARTED_TO_DROPOFF", 4.5)
        await self._taxi("ARRIVED_AT_DROPOFF", 4.5)

    async def numbers(self) -> dict[int, str]:
        """The vehicles that the dialect shows, by number: whose they are."""
        rows = (await self.call("GET", "/services/rest/v3/vehicles/lastPositions?limit=50"))["data"]
        by_latitude = {1.0: "native", 2.0: "mycartracks", 3.0: "imessage", 4.0: "driver_events"}
        return {row["vehicleId"]: by_latitude[row["latitude"]] for row in rows}

    async def _taxi(self, kind: str, latitude: float) -> None:
        body = {
            "event_type": f"DRIVER_{kind}",
            "occurred_at": datetime.now(UTC).isoformat(),
            "latitude": latitude,
            "longitude": 40.0,
        }
        await self.call("POST", "/ingest/taxi/v1/bookings/C-1/B-1/driver/events", body)


@asynccontextmanager
async def everyone(folder: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        vans = MyCarTracksSimulator()
        await vans.start()
        stack.push_async_callback(vans.stop)
        linq = await stack.enter_async_context(LinqSimulator(retry_delays=(0.1, 0.2, 0.4)))
        chat = {**linq.settings(), "chats": ["chat-1"], "poll_interval_seconds": 1}
        chat |= {"webhook_signing_secret": WEBHOOK_SECRET}
        # Nobody goes stale while a loaded machine is at it: what goes offline is what the test takes off.
        connections = [
            {"id": name, "provider": provider, "instance_id": "default", "settings": {**settings, "stale_after": 3600}}
            for name, provider, settings in (
                ("native", "native", {}),
                ("vans", "mycartracks", vans.settings()),
                ("chats", "imessage", chat),
                ("taxi", "driver_events", {}),
            )
        ]
        url = f"sqlite+aiosqlite:///{folder / 'waybridge.db'}"
        gateway = await stack.enter_async_context(running_gateway(url, folder, connections=connections))
        world = World(gateway, vans, linq)
        await world.begin()
        yield world


async def until(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await ask():
            await asyncio.sleep(0.05)


async def open_dashboard(world: World) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
    """The post's dashboard under Node, against the gateway instead of the vendor."""
    made = await world.call("POST", "/api/v1/clients", {"name": "map", "instances": ["default"], "scope": "read"})
    process = await asyncio.create_subprocess_exec(
        *("node", "--experimental-websocket", "--no-warnings", str(DASHBOARD)),
        *(world.gateway.url, made["client_id"], made["client_secret"], "0"),
        stdout=asyncio.subprocess.PIPE,
        limit=1_000_000,
    )
    assert process.stdout is not None
    return process, process.stdout


@pytest.mark.node
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
async def test_the_documented_dashboard_shows_the_vehicles_of_all_four_providers(tmp_path: Path) -> None:
    async with everyone(tmp_path) as world:

        async def all_known() -> bool:
            return set((await world.numbers()).values()) == VENDORS

        async def connected() -> bool:
            return world.vans.open_sockets == 1

        await until(all_known)
        await until(connected)
        whose = await world.numbers()
        process, lines = await open_dashboard(world)
        moved: dict[str, dict[str, Any]] = {}
        gone: dict[str, str] = {}
        begun: list[dict[str, Any]] = []
        left = False
        try:
            async with asyncio.timeout(PATIENCE):
                while set(gone) != VENDORS - {"native"}:
                    said = json.loads(await lines.readline())
                    match said["what"], said["value"]:
                        case "lastPositions", answer:
                            begun = answer["data"]
                        case "connected", _:
                            await world.move(0.25)
                        case "updateVehicleMarker", event:
                            moved[whose[event["vehicleId"]]] = event
                            if set(moved) == VENDORS and not left:
                                left = True
                                await world.leave()
                        case "markVehicleOffline", event:
                            gone[whose[event["vehicleId"]]] = event["lastSeenAt"]
                        case other:
                            assert other[0] in {"stream", "open", "markStreamHealthy"}, other
        finally:
            process.kill()
            await process.wait()

        assert {whose[row["vehicleId"]]: row["latitude"] for row in begun} == {
            "native": 1.0, "mycartracks": 2.0, "imessage": 3.0, "driver_events": 4.0,
        }  # fmt: skip
        assert {vendor: event["latitude"] for vendor, event in moved.items()} == {
            "native": 1.25, "mycartracks": 2.25, "imessage": 3.25, "driver_events": 4.25,
        }  # fmt: skip
        assert {vendor: event["vehicleName"] for vendor, event in moved.items()} == {
            "native": "phone",
            "mycartracks": "Van 12",
            "imessage": vendor_device_token("default", "chats", ANNA),
            "driver_events": "Grace Okoye",
        }
        assert {vendor: event["speed"] for vendor, event in moved.items()} == {
            "native": 36.0, "mycartracks": 42.5, "imessage": None, "driver_events": None,
        }  # fmt: skip
        assert all(event["onlineState"] == "online" for event in moved.values())
