"""The stand-in and a provider towards it, both on one clock that stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from mycartracks_harness import Bench, Desk, HandClock

from waybridge_mycartracks import MyCarTracksSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@pytest.fixture
async def vendor(clock: HandClock) -> AsyncIterator[MyCarTracksSimulator]:
    simulator = MyCarTracksSimulator(clock=clock)
    await simulator.start()
    yield simulator
    await simulator.stop()


@pytest.fixture
async def bench(
    vendor: MyCarTracksSimulator, http: aiohttp.ClientSession, clock: HandClock
) -> AsyncIterator[Callable[..., Bench]]:
    """Makes a provider towards the stand-in, with more settings where a test needs them."""
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(http, clock, vendor.settings() | settings))
        return made[-1]

    yield make
    for one in made:
        await one.stop()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def at_desk(desk: Desk, http: aiohttp.ClientSession, clock: HandClock) -> Callable[..., Bench]:
    return lambda **settings: Bench(http, clock, desk.settings() | settings)
