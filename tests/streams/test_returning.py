"""Clients that drop and come back: they end where one is that never dropped, and nothing is missing without a word."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from .clients import Client, EventSourceClient, SocketClient, Tally
from .conftest import TOKEN_ALL, Live, read

DROPS = 50
DEVICES = 5
NEWEST = {f"d{number}": float(number) for number in range(DEVICES)}


@pytest.mark.parametrize("kind", [SocketClient, EventSourceClient])
@pytest.mark.parametrize("seed", [7, 8, 9])
async def test_fifty_drops_in_a_random_walk_end_where_one_that_never_dropped_is(
    brief: Live, kind: type[SocketClient | EventSourceClient], seed: int
) -> None:
    live, walk = brief, random.Random(seed)
    live.streams._lifetime_us = 3_600_000_000
    devices = [await live.know(f"d{number}") for number in range(DEVICES)]
    steady: Client = SocketClient(live, await live.stream(min_interval_seconds=0.05))
    client: Client = kind(live, await live.stream(min_interval_seconds=0.05))
    never, often = Tally(), Tally()

    def move_some() -> None:
        for _ in range(walk.randrange(6)):
            live.move(walk.choice(devices), latitude=walk.uniform(-80, 80))

    await steady.open()
    await client.open()
    for _ in range(DROPS):
        move_some()
        # What is read is there for certain: the greeting, and each tenth of a second a heartbeat.
        await often.read(client, 1 + walk.randrange(3))
        client.drop()
        move_some()
        for change in ("offline", "online"):  # of the two, the client that is away will only hear the newer
            live.happen(devices[0], change)
        await client.open(often.last)
    for number, device in enumerate(devices):
        live.move(device, latitude=float(number))
    await often.read_until(client, NEWEST)
    await never.read_until(steady, NEWEST)
    for tally in (never, often):
        assert tally.received + tally.dropped == tally.last
    assert (never.dropped, never.resumed, often.resumed) == (0, 0, DROPS)
    assert often.dropped >= DROPS
    client.drop()
    steady.drop()


async def test_fifty_drops_of_the_realtime_socket_end_where_one_that_never_dropped_is(live: Live) -> None:
    walk = random.Random(7)
    devices = [await live.know(f"d{number}") for number in range(DEVICES)]
    for device in devices:
        live.fix(device)
    steady = await live.realtime(jwt=TOKEN_ALL)
    often: dict[str, float] = {}

    def move_some() -> None:
        for _ in range(walk.randrange(6)):
            live.move(walk.choice(devices), latitude=walk.uniform(-80, 80))

    for _ in range(DROPS):
        ws = await live.realtime(jwt=TOKEN_ALL)
        move_some()
        for _ in range(walk.randrange(1 + DEVICES)):  # a greeting and a snapshot come to every connection
            note(often, await read(ws, 30))
        transport = ws._writer.transport
        assert transport is not None
        transport.abort()
        move_some()
    ws = await live.realtime(jwt=TOKEN_ALL)
    for number, device in enumerate(devices):
        live.move(device, latitude=float(number))
    never: dict[str, float] = {}
    for socket, newest in ((steady, never), (ws, often)):
        async with asyncio.timeout(60):
            while newest != NEWEST:
                note(newest, await read(socket, 30))
        await socket.close()


def note(newest: dict[str, float], frame: dict[str, Any]) -> None:
    if frame["type"] == "position":
        newest[frame["DeviceToken"]] = frame["Lat"]
