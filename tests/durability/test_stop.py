"""SIGTERM: the process is gone within ten seconds, whatever its clients and receivers do."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from processes import gateway_process

if TYPE_CHECKING:
    from pathlib import Path


async def test_clients_and_receivers_that_hang_do_not_hold_the_end_up(tmp_path: Path) -> None:
    reached, released = asyncio.Event(), asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        reached.set()
        await released.wait()
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", hang)
    receiver = web.AppRunner(app)
    await receiver.setup()
    site = web.TCPSite(receiver, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    environ = {"WAYBRIDGE_WEBHOOKS__ALLOW_PRIVATE_TARGETS": "true"}
    async with gateway_process(tmp_path, **environ) as gateway, aiohttp.ClientSession() as http:
        token = gateway.token()
        headers = {"Authorization": f"Bearer {token}"}
        wanted = {
            "target_url": f"http://127.0.0.1:{port}/hook",
            "subscribed_events": ["location.*"],
            "instance_id": "default",
        }
        async with http.post(f"{gateway.url}/api/v1/webhook-subscriptions", json=wanted, headers=headers) as answer:
            assert answer.status == 201
        fix = {"device_token": "bus", "latitude": 1.0, "longitude": 2.0, "timestamp": time.time()}
        async with http.post(f"{gateway.url}/ingest/native/positions", json=fix, headers=headers) as answer:
            assert answer.status == 200
        async with asyncio.timeout(20):
            await reached.wait()
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(
            f"POST /ingest/native/positions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            "Content-Length: 100\r\n\r\n{".encode()
        )
        await writer.drain()
        socket = await http.ws_connect(f"{gateway.url}/ingest/native/live")
        await socket.send_json({"type": "authenticate", "jwt": token})
        await socket.send_json(fix)
        await socket.receive(timeout=20)  # acknowledged; from now on it reads nothing, not even the close
        began = time.monotonic()
        assert await gateway.stop() == 0
        assert time.monotonic() - began < 10
        writer.close()
    released.set()
    await receiver.cleanup()
