"""The plugin's routes on a server over a gateway in memory, its errors answered as the gateway answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from mycartracks_api_fakes import Api, FakeGateway

from waybridge import RequestError
from waybridge_mycartracks_api import waybridge_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestError as error:
        return web.json_response({"detail": error.detail, "errors": error.errors}, status=error.status)


async def _token(request: web.Request) -> web.Response:
    """Stands for the gateway's own token endpoint."""
    assert (await request.post())["grant_type"] == "client_credentials"
    return web.json_response({"access_token": "read@acme", "expires_in": 3600})


@pytest.fixture
async def url(gateway: FakeGateway) -> AsyncIterator[str]:
    app = web.Application(middlewares=[_errors])
    app.router.add_routes(waybridge_routes(gateway))
    app.router.add_post("/oauth/token", _token)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gateway.public_base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield gateway.public_base_url
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def api(http: aiohttp.ClientSession, url: str) -> AsyncIterator[Api]:
    yield Api(http, url)
