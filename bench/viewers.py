"""Viewers: raw WebSocket clients that count frames, or time them, and cost as little as may be."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.load import BASE_LATITUDE, Refused

PING, PONG = b"\x89\x00", b"\x8a\x80\0\0\0\0"
PLACE = re.compile(rb'"(?:Lat|latitude)":([0-9.]+)')


@dataclass(slots=True)
class Tally:
    """What all viewers of a run saw together. `scheduled` by the position's number turns arrivals into latencies."""

    mark: bytes
    frames: int = 0
    bytes: int = 0
    scheduled: dict[int, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    wanted: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def want(self, frames: int) -> None:
        """Sets `enough` when so many frames were seen in all."""
        self.wanted = frames
        self.enough.clear()
        if self.frames >= frames:
            self.enough.set()


class Viewer(asyncio.Protocol):
    """One viewer: shakes hands with `hello` frames after the upgrade, then counts `mark`s."""

    def __init__(self, upgrade: bytes, hello: Sequence[bytes], tally: Tally, ready_mark: bytes) -> None:
        self._upgrade = upgrade
        self._hello = hello
        self._tally = tally
        self._ready_mark = ready_mark
        self._tail = b""
        self.timed = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(self._upgrade)

    def data_received(self, data: bytes) -> None:
        if PING in data:
            self.transport.write(PONG)
        tally = self._tally
        seen = self._tail + data
        if not self.ready.done():
            self._shake(seen)
            return
        if self.timed:
            now = time.perf_counter()
            for found in PLACE.findall(seen):
                due = tally.scheduled.get(round((float(found) - BASE_LATITUDE) * 1e6))
                if due is not None:
                    tally.latencies.append(now - due)
        frames = seen.count(tally.mark)
        tally.bytes += len(data)
        # What was looked at is not looked at again: the tail begins behind the last mark.
        behind = seen.rfind(tally.mark) + len(tally.mark) if frames else 0
        self._tail = seen[max(behind, len(seen) - 256) :]
        if self.timed and frames:
            self._tail = self._tail if not PLACE.search(self._tail) else b""
        if frames:
            tally.frames += frames
            if tally.wanted and tally.frames >= tally.wanted:
                tally.enough.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(exc or Refused("the server closed a viewer"))

    def _shake(self, seen: bytes) -> None:
        self._tail = seen[-4096:]
        if self._upgrade:
            if b"\r\n\r\n" not in seen:
                return
            if b" 101 " not in seen:
                self.ready.set_exception(Refused(seen[:300].decode(errors="replace")))
                return
            self._upgrade = b""
            for frame in self._hello:
                self.transport.write(frame)
        if self._ready_mark in seen:
            self._tail = b""
            self.ready.set_result(None)


async def open_viewers(
    port: int,
    count: int,
    tally: Tally,
    upgrade: bytes,
    hello: Sequence[bytes],
    ready_mark: bytes,
    *,
    receive_bytes: int | None = None,
) -> list[Viewer]:
    """Opens viewers, fifty at a time. `receive_bytes` limits what their own kernel takes in unread."""
    loop = asyncio.get_running_loop()
    viewers: list[Viewer] = []
    while len(viewers) < count:
        part = []
        for _ in range(min(50, count - len(viewers))):
            sock = socket.socket()
            sock.setblocking(False)
            if receive_bytes is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            part.append((await loop.create_connection(lambda: Viewer(upgrade, hello, tally, ready_mark), sock=sock))[1])
        async with asyncio.timeout(60):
            await asyncio.gather(*(viewer.ready for viewer in part))
        viewers += part
    return viewers


async def open_each(
    port: int, upgrades: Sequence[bytes], tally: Tally, hello: Sequence[bytes], ready_mark: bytes
) -> list[Viewer]:
    """Opens a viewer for each handshake."""
    viewers = []
    for upgrade in upgrades:
        viewers += await open_viewers(port, 1, tally, upgrade, hello, ready_mark)
    return viewers


def close_viewers(viewers: Sequence[Viewer]) -> None:
    for viewer in viewers:
        viewer.transport.abort()
