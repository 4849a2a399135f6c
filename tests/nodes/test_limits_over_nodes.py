"""What is limited, promised once or held by one connection is so over all nodes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from running import running_gateway

from waybridge.cli.workers import local_nats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from running import RunningGateway

pytestmark = [pytest.mark.nats, pytest.mark.postgres]
TOKEN = "1e653223-8efe-4904-baaa-23f0972924e0"
LIMITS = {"public_requests_per_minute": 8, "public_misses_per_minute": 4, "token_requests_per_minute": 6}


@pytest.fixture
async def pair(postgres_url: str, tmp_path: Path) -> AsyncIterator[tuple[RunningGateway, RunningGateway]]:
    async with contextlib.AsyncExitStack() as stack:
        bus = stack.enter_context(local_nats())
        made = []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            node = running_gateway(postgres_url, folder, bus_url=bus, secret_keys=["s" * 40], limits=LIMITS)
            made.append(await stack.enter_async_context(node))
        for each in made:
            async with asyncio.timeout(60):
                while not each.house.bus.healthy:
                    await asyncio.sleep(0.01)
        yield made[0], made[1]


async def asked(node: RunningGateway, method: str, path: str, **more: Any) -> tuple[int, Any]:
    async with node.http.request(method, node.url + path, **more) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if text else None


async def moved(node: RunningGateway) -> None:
    body = {"device_token": TOKEN, "latitude": 60.17, "longitude": 24.94, "timestamp": time.time() - 1}
    assert (await asked(node, "POST", "/ingest/native/positions", json=body, headers=node.headers()))[0] == 200


async def shared(node: RunningGateway, **headers: str) -> tuple[int, Any]:
    body = {"device_token": TOKEN, "instance_id": "default"}
    return await asked(node, "POST", "/api/v1/sharing/sessions", json=body, headers={**node.headers(), **headers})


async def passed(pair: Any, per_minute: int, ask: Any) -> int:
    """How many requests, to one node and the other in turn, are let through before one is not; with what has become
    free while they were sent taken off.
    """
    began = time.monotonic()
    for number in range(100):
        if (await ask(pair[number % 2], number))[0] == 429:
            return number - int((time.monotonic() - began) * per_minute / 60)
    raise AssertionError("nothing was limited")


async def test_a_client_has_one_budget_of_requests_of_unknown_links_and_of_tokens(pair) -> None:
    await moved(pair[0])
    _, session = await shared(pair[0])
    known = f"/api/v1/share/{session['share_token']}"
    form = {"grant_type": "client_credentials", "client_id": "nobody", "client_secret": "wrong"}

    assert await passed(pair, 4, lambda node, n: asked(node, "GET", f"/api/v1/share/unknown-{n}")) <= 4
    assert await passed(pair, 8, lambda node, _: asked(node, "GET", known)) <= 8
    assert await passed(pair, 6, lambda node, _: asked(node, "POST", "/oauth/token", data=form)) <= 6


async def test_a_key_makes_one_session_and_a_device_has_ten_however_many_nodes_are_asked_at_once(pair) -> None:
    await moved(pair[0])
    for node in pair:
        async with asyncio.timeout(60):
            while node.house.roster.device("default", TOKEN) is None:
                await asyncio.sleep(0.01)
    sent = await asyncio.gather(*(shared(pair[n % 2], **{"Idempotency-Key": "order-1"}) for n in range(8)))

    assert {status for status, _ in sent} <= {200, 201}
    assert len({session["id"] for _, session in sent}) == 1
    statuses = sorted([status for status, _ in await asyncio.gather(*(shared(pair[n % 2]) for n in range(24)))])
    assert statuses == [201] * 9 + [409] * 15  # the key's is the tenth


async def test_a_stream_is_held_by_its_newest_connection_on_whichever_node(pair) -> None:
    one, other = pair
    body = {"instance_id": "default"}
    _, stream = await asked(one, "POST", "/api/v1/streams", json=body, headers=one.headers())
    path = stream["websocket_url"].partition("/api/")[2]
    async with one.http.ws_connect(f"{one.url}/api/{path}") as older:
        assert json.loads((await older.receive(60)).data)["type"] == "connected"
        async with other.http.ws_connect(f"{other.url}/api/{path}") as newer:
            assert json.loads((await newer.receive(60)).data)["type"] == "connected"
            while (message := await older.receive(60)).type == aiohttp.WSMsgType.TEXT:
                pass
            assert older.close_code == 4009, message
            await moved(one)
            told: set[str] = set()
            while {"device.online", "device.position.updated"} - told:
                told.add(json.loads((await newer.receive(60)).data)["type"])
