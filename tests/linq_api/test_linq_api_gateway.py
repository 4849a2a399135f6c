"""Linq's own client against a real gateway: devices of any vendor, groups, subscriptions that deliver."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import linq as sdk
import pytest
from aiohttp import web
from linq import AsyncLinqAPIV3
from linq_api_world import ANNA, ANNAS_CHAT, BOB, BOBS_CHAT, everyone, until
from running import RunningGateway, running_gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    database = f"sqlite+aiosqlite:///{tmp_path / 'waybridge.db'}"
    async with running_gateway(database, tmp_path, webhooks={"allow_private_targets": True}) as running:
        yield running


@pytest.fixture
async def linq(gateway: RunningGateway) -> AsyncIterator[AsyncLinqAPIV3]:
    async with AsyncLinqAPIV3(
        api_key=gateway.token("read write"), base_url=f"{gateway.url}/api/partner", _strict_response_validation=True
    ) as client:
        yield client


async def drive(gateway: RunningGateway, device: str, latitude: float, *, ago: float = 0) -> None:
    fix = {"device_token": device, "latitude": latitude, "longitude": 17.1, "timestamp": time.time() - ago}
    async with gateway.http.post(
        f"{gateway.url}/ingest/native/positions", json=fix, headers=gateway.headers()
    ) as response:
        assert (await response.json())["accepted"] == 1


async def test_devices_and_groups_are_read(gateway: RunningGateway, linq: AsyncLinqAPIV3) -> None:
    await drive(gateway, "van-1", 48.1)
    await drive(gateway, "van-2", 48.2)
    profile = {"full_name": "Jana Nováková"}
    async with gateway.http.put(
        f"{gateway.url}/api/v1/devices/van-2/metadata/profile",
        params={"instance_id": "default"},
        json=profile,
        headers=gateway.headers(),
    ) as response:
        assert response.status == 200
    async with gateway.http.put(
        f"{gateway.url}/api/v1/groups/vans",
        params={"instance_id": "default"},
        json={"name": "Vans", "device_tokens": ["van-1", "van-2", "van-3"]},
        headers=gateway.headers(),
    ) as response:
        assert response.status < 300

    [van] = (await linq.chats.location.retrieve("van-1")).data.features
    group = (await linq.chats.location.retrieve("vans")).data.features

    assert van.geometry.coordinates == [17.1, 48.1]
    assert {one.properties.handle for one in group} == {"van-1", "Jana Nováková"}
    with pytest.raises(sdk.NotFoundError):
        await linq.chats.location.retrieve("van-3")
    with pytest.raises(sdk.ConflictError) as deaf:
        await linq.chats.location.request("van-1")
    assert deaf.value.code == 2017
    with pytest.raises(sdk.ConflictError) as crowd:
        await linq.chats.location.request("vans")
    assert crowd.value.code == 2016


async def test_a_subscription_delivers_what_the_client_unwraps(gateway: RunningGateway, linq: AsyncLinqAPIV3) -> None:
    got: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        got.put_nowait((await request.text(), {name.lower(): value for name, value in request.headers.items()}))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        made = await linq.webhook_subscriptions.create(
            target_url=f"http://127.0.0.1:{runner.addresses[0][1]}/hook",
            subscribed_events=["location.sharing.started", "message.sent"],
        )
        assert made.subscribed_events == ["location.sharing.started", "message.sent"]
        await drive(gateway, "van-9", 48.3)
        async with asyncio.timeout(20):
            body, headers = await got.get()
        event = linq.webhooks.unwrap(body, headers=headers, key=made.signing_secret)
    finally:
        await runner.cleanup()
    assert event.event_type == "location.sharing.started"
    assert (event.data.shared_by, event.data.shared_with) == ("van-9", "default")
    changed = await linq.webhook_subscriptions.update(made.id, is_active=False)
    assert not changed.is_active
    assert [one.id for one in (await linq.webhook_subscriptions.list()).subscriptions] == [made.id]
    await linq.webhook_subscriptions.delete(made.id)
    assert (await linq.webhook_subscriptions.list()).subscriptions == []


async def test_devices_of_every_vendor_are_read_and_asked(tmp_path: Path) -> None:
    async with (
        everyone(tmp_path) as world,
        AsyncLinqAPIV3(
            api_key=world.gateway.token("read write"), base_url=world.base_url, _strict_response_validation=True
        ) as linq,
    ):

        async def seen(chat_id: str) -> dict[str, list[float]]:
            features = (await linq.chats.location.retrieve(chat_id)).data.features
            return {one.properties.handle: one.geometry.coordinates for one in features}

        async def is_seen() -> bool:
            return await seen(BOBS_CHAT) != {}

        async def is_hidden() -> bool:
            return await seen(BOBS_CHAT) == {}

        assert [await seen(device) for device in world.devices.values()] == [
            {"phone": [10.0, 1.0]}, {"John Smith": [20.0, 2.0]}, {ANNA: [30.0, 3.0]}, {"Grace Okoye": [40.0, 4.0]},
        ]  # fmt: skip
        assert (await seen("fleet")).keys() == {"phone", "John Smith", ANNA, "Grace Okoye"}
        assert (await seen(ANNAS_CHAT)).keys() == {ANNA}

        await linq.chats.location.request(BOBS_CHAT)
        await until(is_seen)
        world.linq.stop_sharing(BOB)
        await until(is_hidden)
        assert (await linq.chats.location.request(world.bob)).success
        await until(is_seen)
        assert world.linq.prompts == [BOBS_CHAT, BOBS_CHAT]
        for unheard in ("550e8400-e29b-41d4-a716-446655449999", "nobody", "+14155559999"):
            with pytest.raises(sdk.NotFoundError) as absent:
                await linq.chats.location.request(unheard)
            assert absent.value.code == 2001
        for vendor, code in (("native", 2017), ("mycartracks", 2017), ("driver_events", 2017), ("imessage", 2018)):
            with pytest.raises(sdk.ConflictError) as refused:
                await linq.chats.location.request(world.devices[vendor])
            assert refused.value.code == code, vendor


async def test_a_wrong_key_is_refused_at_once(gateway: RunningGateway) -> None:
    async with AsyncLinqAPIV3(api_key="nonsense", base_url=f"{gateway.url}/api/partner") as stranger:
        with pytest.raises(sdk.AuthenticationError):
            await stranger.webhook_subscriptions.list()
    async with AsyncLinqAPIV3(api_key=gateway.token("ingest"), base_url=f"{gateway.url}/api/partner") as narrow:
        with pytest.raises(sdk.PermissionDeniedError):
            await narrow.webhook_subscriptions.list()
