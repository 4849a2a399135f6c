"""The iMessage connection in a real gateway, against the stand-in: from a prompt to webhooks that were verified."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from linq import LinqAPIV3
from running import RunningGateway, running_gateway

from waybridge import vendor_device_token
from waybridge_imessage.simulator import LinqSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

ANNA = "+14155550101"
DEVICE = vendor_device_token("default", "line", ANNA)
CHAT = "550e8400-e29b-41d4-a716-446655440000"


async def eventually(told: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """What `told` answers, once it is not None."""
    async with asyncio.timeout(seconds):
        while (answer := await told()) is None:
            await asyncio.sleep(0.05)
    return answer


class Receiver:
    """An integrator's endpoint: keeps each request as it came."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str]]] = []

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append((await request.text(), headers))
        return web.Response(status=204)


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield receiver, f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


@pytest.fixture
async def linq() -> AsyncIterator[LinqSimulator]:
    async with LinqSimulator(person_accepts_requests=True, retry_delays=(0.1, 0.2, 0.4)) as made:
        made.add_chat(ANNA, chat_id=CHAT)
        yield made


@asynccontextmanager
async def running(
    linq: LinqSimulator, folder: Path, database_url: str | None = None, **settings: Any
) -> AsyncIterator[RunningGateway]:
    connection = {
        "id": "line",
        "provider": "imessage",
        "instance_id": "default",
        "settings": {
            "api_key": linq.api_key,
            "base_url": linq.base_url,
            "subscribe": True,
            "poll_interval_seconds": 1,
            **settings,
        },
    }
    database = database_url or f"sqlite+aiosqlite:///{folder / 'waybridge.db'}"
    async with running_gateway(
        database, folder, connections=[connection], webhooks={"allow_private_targets": True}
    ) as gateway:
        yield gateway


async def position(gateway: RunningGateway) -> tuple[int, Any]:
    async with gateway.http.get(
        f"{gateway.url}/api/v1/devices/{DEVICE}/position", headers=gateway.headers()
    ) as response:
        return response.status, await response.json()


async def told_of(gateway: RunningGateway, what: str) -> Any:
    async with gateway.http.get(
        f"{gateway.url}/api/v1/devices/{DEVICE}/{what}", headers=gateway.headers()
    ) as response:
        assert response.status == 200
        return await response.json()


async def seen(gateway: RunningGateway, latitude: float) -> None:
    async def told() -> bool | None:
        status, answer = await position(gateway)
        return True if status == 200 and answer["latitude"] == latitude else None

    await eventually(told)


async def hidden(gateway: RunningGateway) -> None:
    async def told() -> bool | None:
        status, answer = await position(gateway)
        return True if status == 404 and answer["detail"] == "not sharing" else None

    await eventually(told)


async def registered(linq: LinqSimulator) -> None:
    async def told() -> bool | None:
        return True if linq.subscriptions else None

    await eventually(told)


async def test_from_the_prompt_to_verified_webhooks_and_back_to_nothing(
    linq: LinqSimulator, tmp_path: Path, database_url: str
) -> None:
    async with running(linq, tmp_path, database_url) as gateway, receiving() as (receiver, hook):
        await registered(linq)
        wanted = {"instance_id": "default", "target_url": hook, "subscribed_events": ["location.*"]}
        async with gateway.http.post(
            f"{gateway.url}/api/v1/webhook-subscriptions", json=wanted, headers=gateway.headers()
        ) as response:
            secret = (await response.json())["signing_secret"]

        async with gateway.http.post(
            f"{gateway.url}/api/v1/connections/line/location/request", json={"chat_id": CHAT}, headers=gateway.headers()
        ) as response:
            assert response.status == 202
        await seen(gateway, 60.1699)
        linq.move(ANNA, 60.2, 24.95)
        await seen(gateway, 60.2)
        assert (await told_of(gateway, "tracks"))["points"]
        linq.stop_sharing(ANNA)
        await hidden(gateway)
        assert (await told_of(gateway, "tracks"))["points"] == []
        stats = await told_of(gateway, "stats")
        assert (stats["start"], stats["end"], stats["points_count"]) == (None, None, 0)

        async def both() -> bool | None:
            return True if len(receiver.got) >= 2 else None

        await eventually(both)
        client = LinqAPIV3(api_key="unused", webhook_secret=secret)
        started, stopped = (client.webhooks.unwrap(body, headers=headers) for body, headers in receiver.got)
        assert (started.event_type, stopped.event_type) == ("location.sharing.started", "location.sharing.stopped")
        assert (started.data.shared_by, started.data.shared_with, started.data.chat_id) == (ANNA, linq.line, CHAT)
        assert len(linq.prompts) == 1


async def test_what_was_told_outlives_a_restart_and_nothing_late_is_published(
    linq: LinqSimulator, tmp_path: Path, database_url: str
) -> None:
    async with running(linq, tmp_path, database_url) as gateway:
        await registered(linq)
        sharing = linq.share(CHAT, ANNA, 60.1, 24.9)
        await seen(gateway, 60.1)
    async with running(linq, tmp_path, database_url) as gateway:
        linq.move(ANNA, 60.3, 24.9)
        await seen(gateway, 60.3)
        linq.stop_sharing(ANNA)
        await hidden(gateway)
        linq.faults.linger = True
        linq.notify("started", sharing)
        await linq.delivered()
        reads = linq.calls["GET location"]
        async with gateway.http.post(
            f"{gateway.url}/api/v1/connections/line/restart", headers=gateway.headers()
        ) as response:
            assert response.status < 300

        async def read_again() -> bool | None:
            return True if linq.calls["GET location"] > reads else None

        await eventually(read_again)
        assert (await position(gateway))[0] == 404
    assert len(linq.subscriptions) == 1


async def test_a_vendor_that_goes_away_shows_and_heals(
    linq: LinqSimulator, tmp_path: Path, database_url: str
) -> None:
    async def state(gateway: RunningGateway) -> str:
        async with gateway.http.get(f"{gateway.url}/api/v1/connections/line", headers=gateway.headers()) as response:
            return str((await response.json())["state"])

    async with running(linq, tmp_path, database_url) as gateway:
        await registered(linq)
        linq.share(CHAT, ANNA, 60.1, 24.9)
        await seen(gateway, 60.1)
        port = int(linq.base_url.split(":")[2].split("/")[0])
        await linq.stop()

        async def down() -> bool | None:
            return True if await state(gateway) == "retrying" else None

        await eventually(down)
        await linq.start(port=port)
        linq.move(ANNA, 60.4, 24.9)
        await seen(gateway, 60.4)

        async def back() -> bool | None:
            return True if await state(gateway) == "running" else None

        await eventually(back)


@pytest.mark.parametrize("wanted", [True, False])
async def test_the_last_cancelled_session_ends_the_persons_sharing_only_where_that_is_wanted(
    linq: LinqSimulator, tmp_path: Path, *, wanted: bool
) -> None:
    async with running(linq, tmp_path, stop_on_cancel=wanted) as gateway:
        await registered(linq)
        linq.share(CHAT, ANNA, 60.1, 24.9)
        await seen(gateway, 60.1)

        async def session(method: str, path: str, body: Any = None) -> Any:
            url = f"{gateway.url}/api/v1/sharing/sessions{path}"
            async with gateway.http.request(method, url, json=body, headers=gateway.headers()) as response:
                assert response.status < 300, await response.text()
                return await response.json()

        new = {"device_token": DEVICE, "instance_id": "default", "expires_in_hours": 1}
        first, second, third = [await session("POST", "", new) for _ in range(3)]
        await session("POST", f"/{first['id']}/complete?instance_id=default")
        await session("DELETE", f"/{second['id']}?instance_id=default")
        linq.move(ANNA, 60.2, 24.9)
        await seen(gateway, 60.2)
        assert linq.calls["DELETE location"] == 0
        await session("DELETE", f"/{third['id']}?instance_id=default")
        if wanted:
            await hidden(gateway)
        else:
            linq.move(ANNA, 60.3, 24.9)
            await seen(gateway, 60.3)
        assert linq.calls["DELETE location"] == (1 if wanted else 0)


async def test_a_refused_key_is_rejected_and_keeps_its_secret(linq: LinqSimulator, tmp_path: Path) -> None:
    async with running(linq, tmp_path, api_key="canary-key-9f3b") as gateway:

        async def rejected() -> Any:
            async with gateway.http.get(
                f"{gateway.url}/api/v1/connections/line", headers=gateway.headers()
            ) as response:
                answer = await response.json()
            return answer if answer["state"] == "rejected" else None

        answer = await eventually(rejected)
        assert "canary-key-9f3b" not in str(answer)
        assert answer["settings"]["api_key"] == "***"
    files = {path.name: path.read_bytes() for path in tmp_path.glob("waybridge.db*")}
    assert "waybridge.db" in files
    assert b"canary-key-9f3b" not in b"".join(files.values())
