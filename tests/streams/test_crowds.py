"""Many viewers at once: ended together, never slowed by those who do not read (long counts in `make soak`)."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sharing.world import INSTANCE, TOKEN

from .conftest import OPEN, TOKEN_ALL, Live, make_live

SOAK = os.environ.get("SOAK_TESTS") == "1"
pytestmark = pytest.mark.counted
VIEWERS = 1000 if SOAK else 150
DEVICES = 20 if SOAK else 40  # every viewer parses in this process: so much it can
ROUNDS = 40 if SOAK else 25


@pytest.fixture(autouse=True)
def enough_files() -> Iterator[None]:
    """Both ends of every socket live in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 16_384)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
async def crowd(tmp_path: Any) -> AsyncIterator[Live]:
    async for made in make_live(tmp_path, OPEN, slow_seconds=1.0):
        yield made


def memory() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Deaf:
    """A viewer with a small window that never reads after its handshake."""

    def __init__(self, live: Live, path: str) -> None:
        self._live, self._path = live, path

    async def open(self, first: bytes = b"") -> None:
        address = urlsplit(self._live.url)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, (address.hostname, address.port))
        request = (
            f"GET {self._path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await loop.sock_sendall(self._socket, request.encode())
        assert b"101" in await loop.sock_recv(self._socket, 512)
        if first:
            mask = b"\0\0\0\0"
            await loop.sock_sendall(self._socket, bytes((0x81, 0xFE)) + len(first).to_bytes(2, "big") + mask + first)

    def close(self) -> None:
        self._socket.close()


async def test_a_crowd_is_told_the_end_within_a_second_and_nothing_after(crowd: Live) -> None:
    live = crowd
    device = await live.know()
    live.fix(device)
    session_id, token = await live.link(device_token=TOKEN, share_config={"update_interval_seconds": 1})
    sockets = [await live.watch(token) for _ in range(VIEWERS)]
    frames: list[list[dict[str, Any]]] = [[] for _ in sockets]
    told: list[float] = []

    async def follow(index: int) -> int | None:
        async for message in sockets[index]:
            frames[index].append(message.json())
            if frames[index][-1]["type"] == "session_ended":
                told.append(time.monotonic())
        return sockets[index].close_code

    following = [asyncio.create_task(follow(index)) for index in range(VIEWERS)]
    for number in range(3):
        live.move(device, latitude=float(number))
        await asyncio.sleep(0.2)
    ending = asyncio.create_task(
        live.call("POST", f"/sharing/sessions/{session_id}/complete?instance_id={INSTANCE}")
    )
    while not ending.done():
        live.move(device, latitude=50.0)
        await asyncio.sleep(0.005)
    answered = time.monotonic()
    for number in range(20):
        live.move(device, latitude=60.0 + number)
    codes = await asyncio.gather(*following)
    assert set(codes) == {1000}
    assert len(told) == VIEWERS
    assert max(told) - answered < 1.0
    assert all(each[-1] == {"type": "session_ended", "reason": "completed"} for each in frames)
    assert all(frame.get("latitude", 0) < 60 for each in frames for frame in each)
    status, session = await live.call("GET", f"/sharing/sessions/{session_id}?instance_id={INSTANCE}")
    assert (status, session["views"]) == (200, VIEWERS)


class Reader:
    """A viewer of the fleet that reads; checks that no position is missing and how late they come."""

    def __init__(self, ws: Any) -> None:
        self.ws = ws
        self.late: list[float] = []
        self._seen = [-1.0] * DEVICES

    async def follow(self) -> None:
        async for message in self.ws:
            frame = message.json()
            if frame["type"] == "position" and self._took(frame):
                return

    def _took(self, frame: dict[str, Any]) -> bool:
        number = int(frame["DeviceToken"][1:])
        assert frame["Lat"] == self._seen[number] + 1, "in order, and none is missing"
        self._seen[number] = frame["Lat"]
        self.late.append(time.time() - frame["Heading"])
        return min(self._seen) == ROUNDS - 1


async def test_those_who_do_not_read_slow_nobody_and_are_cut(crowd: Live) -> None:
    live = crowd
    devices = [await live.know(f"d{number}") for number in range(DEVICES)]
    deaf = [Deaf(live, "/api/v1/ws/realtime") for _ in range(VIEWERS // 10)]
    first = b'{"type":"authenticate","instance_id":"%s","jwt":"%s"}' % (INSTANCE.encode(), TOKEN_ALL.encode())
    readers = [Reader(await live.realtime(jwt=TOKEN_ALL)) for _ in range(VIEWERS - len(deaf))]
    for viewer in deaf:
        await viewer.open(first)
    following = [asyncio.create_task(reader.follow()) for reader in readers]
    await asyncio.sleep(0.2)
    before = 0
    for number in range(ROUNDS):
        for device in devices:
            live.move(device, latitude=float(number), heading=time.time(), speed=None)
        await asyncio.sleep(1.0 if SOAK else 0.05)
        before = before or memory()
    await asyncio.gather(*following)
    assert memory() - before < 64 * 1024 * 1024, "memory stays flat"
    late = sorted(delay for reader in readers for delay in reader.late)
    assert late[len(late) // 2] < 1.0
    async with asyncio.timeout(10):
        while len(live.fanout) > len(readers):
            await asyncio.sleep(0.05)
    for viewer in deaf:
        viewer.close()
    for reader in readers:
        await reader.ws.close()


async def test_a_viewer_that_reads_again_gets_the_newest_alone(live: Live) -> None:
    device = await live.know()
    live.fix(device, latitude=0.0)
    ws = await live.realtime(jwt=TOKEN_ALL)
    await ws.receive_json()
    await ws.receive_json()
    transport = ws._response.connection.transport
    transport.pause_reading()
    total = 60_000
    for number in range(1, total + 1):
        live.move(device, latitude=number / total)
        if number % 100 == 0:
            await asyncio.sleep(0)
    transport.resume_reading()
    seen = [0.0]
    async with asyncio.timeout(10):
        while seen[-1] < 1.0:
            seen.append((await ws.receive_json())["Lat"])
    assert seen == sorted(seen)
    assert len(seen) < total
    await ws.close()
