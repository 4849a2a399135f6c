from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import webhooks_harness
from aiohttp import web
from aiohttp.test_utils import TestServer
from webhooks_harness import Clock, Receiver

from waybridge.store.engine import Store
from waybridge.store.migrate import migrate
from waybridge.webhooks import Webhooks


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(database_url: str, clock: Clock) -> AsyncIterator[Store]:
    """A store with the newest schema on each database, under the test's clock."""
    made = Store(database_url, now_us=clock)
    await made.start()
    await migrate(made)
    yield made
    await made.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.serve)
    server = TestServer(app)
    await server.start_server()
    made.url = str(server.make_url("/hook"))
    yield made
    await server.close()


@pytest.fixture
async def webhooks(store: Store) -> AsyncIterator[Webhooks]:
    made = webhooks_harness.make(store, webhooks_harness.settings(), spread=lambda: 0.5)
    yield made
    await made.close()
