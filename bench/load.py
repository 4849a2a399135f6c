"""The load generator: raw connections that cost little, so that the server is what is measured.

Requests are made before the clock starts; a connection writes the next one when the answer to the one before has
come (closed loop), or when its time has come (open loop, see `viewers.py`). Every answer is looked at.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
import time
from collections.abc import Iterator, Sequence

from bench.servers import Gateway

BASE_LATITUDE, BASE_LONGITUDE = 52.0, 13.0


class Refused(Exception):
    """The server answered something else than success: the run is worthless."""


class Positions:
    """Positions of `devices` devices, each newer than the one before and about a second old when it is made."""

    def __init__(self, devices: int, prefix: str = "bench") -> None:
        self.devices = devices
        self._prefix = prefix
        self._newest = 0.0

    def token(self, device: int) -> str:
        return f"{self._prefix}-{device:06d}"

    def one(self, number: int, start: int, base: float) -> str:
        """The position with this number, as JSON; devices take turns, a millisecond a turn from `base` on."""
        device = number % self.devices
        turn = (number - start) // self.devices
        return (
            f'{{"device_token":"{self.token(device)}","latitude":{BASE_LATITUDE + number % 1_000_000 * 1e-6:.6f},'
            f'"longitude":{BASE_LONGITUDE + device * 1e-6:.6f},"timestamp":{base + turn * 0.001:.3f},'
            f'"speed":8.4,"heading":{number % 360}.5,"accuracy":4.7}}'
        )

    def singles(self, start: int, count: int) -> list[bytes]:
        base = self._base(count)
        return [self.one(number, start, base).encode() for number in range(start, start + count)]

    def batches(self, start: int, count: int, size: int = 100) -> list[bytes]:
        base = self._base(count * size)
        return [
            b'{"positions":[%b]}' % ",".join(self.one(n, start, base) for n in range(first, first + size)).encode()
            for first in range(start, start + count * size, size)
        ]

    def _base(self, count: int) -> float:
        """A time a second ago, newer than everything made before."""
        base = max(time.time() - 1.0, self._newest + 0.001)
        self._newest = base + (count // self.devices + 1) * 0.001
        return base


def post(path: str, token: str, body: bytes) -> bytes:
    """A whole HTTP request."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def get(path: str, token: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


class HttpConnection(asyncio.Protocol):
    """One keep-alive connection that works through requests; `done` is set with the last answer."""

    def __init__(self, requests: Iterator[bytes], expect: bytes) -> None:
        self._requests = requests
        self._expect = expect
        self._buffer = b""
        self.answers = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def begin(self) -> None:
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        place = head.find(b"content-length:")
        length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
        if len(self._buffer) < head_end + 4 + length:
            return
        body = self._buffer[head_end + 4 : head_end + 4 + length]
        if head[9:10] != b"2" or self._expect not in body:
            self._fail(Refused(self._buffer[:600].decode(errors="replace")))
            return
        self._buffer = b""
        self.answers += 1
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or Refused("the server closed the connection"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._transport.write(request)
            return
        if not self.done.done():
            self.done.set_result(None)
        self._transport.close()

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class HttpLoad:
    """Connections to one server, opened before the clock starts."""

    def __init__(self, port: int, requests: Sequence[bytes], connections: int, expect: bytes = b"") -> None:
        self._port = port
        self._requests = requests
        self._connections = connections
        self._expect = expect

    async def open(self) -> None:
        shared = iter(self._requests)
        loop = asyncio.get_running_loop()
        self._open = [
            (await loop.create_connection(lambda: HttpConnection(shared, self._expect), "127.0.0.1", self._port))[1]
            for _ in range(self._connections)
        ]

    async def run(self) -> None:
        for each in self._open:
            each.begin()
        await asyncio.gather(*(each.done for each in self._open))
        answers = sum(each.answers for each in self._open)
        if answers != len(self._requests):
            raise Refused(f"{answers} answers to {len(self._requests)} requests")


def masked_frame(payload: bytes, opcode: int = 1) -> bytes:
    """A client's WebSocket frame; the mask is zero, which is a mask."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65_536:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
    return head + b"\0\0\0\0" + payload


def upgrade(path: str, protocol: str | None = None) -> bytes:
    """A WebSocket handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    extra = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    ).encode()


class LiveConnection(asyncio.Protocol):
    """One live ingest socket that keeps up to `window` frames unacknowledged."""

    def __init__(self, frames: Iterator[bytes], token: str, window: int) -> None:
        self._frames = frames
        self._token = token
        self._window = window
        self._tail = b""
        self._out = 0
        self.acknowledged = 0
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._transport.write(upgrade("/ingest/native/live"))

    def begin(self) -> None:
        self._fill()

    def data_received(self, data: bytes) -> None:
        if not self.ready.done():
            if not data.startswith(b"HTTP/1.1 101"):
                self._fail(Refused(data[:300].decode(errors="replace")))
            self._transport.write(masked_frame(json.dumps({"type": "authenticate", "jwt": self._token}).encode()))
            self.ready.set_result(None)
            return
        seen = self._tail + data
        if b'"error"' in seen or b'"duplicates":0' not in seen and b'"duplicates":' in seen:
            self._fail(Refused(seen[:300].decode(errors="replace")))
            return
        acks = seen.count(b'"rejected":[]}')
        self._tail = seen[-13:]
        self.acknowledged += acks
        self._out -= acks
        self._fill()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or Refused("the server closed the socket"))

    def _fill(self) -> None:
        frames = []
        while self._out < self._window and (frame := next(self._frames, None)) is not None:
            frames.append(frame)
            self._out += 1
        if frames:
            self._transport.write(b"".join(frames))
        elif not self._out and not self.done.done():
            self.done.set_result(None)
            self._transport.close()

    def _fail(self, error: Exception) -> None:
        for future in (self.ready, self.done):
            if not future.done():
                future.set_exception(error)


class LiveLoad:
    """Bodies over the live ingest WebSocket."""

    def __init__(self, gateway: Gateway, bodies: Sequence[bytes], sockets: int, window: int = 32) -> None:
        self._gateway = gateway
        self._frames = [masked_frame(body) for body in bodies]
        self._sockets = sockets
        self._window = window

    async def open(self) -> None:
        shared, token = iter(self._frames), self._gateway.token()
        loop = asyncio.get_running_loop()
        self._open = [
            (
                await loop.create_connection(
                    lambda: LiveConnection(shared, token, self._window), "127.0.0.1", self._gateway.port
                )
            )[1]
            for _ in range(self._sockets)
        ]
        await asyncio.gather(*(each.ready for each in self._open))

    async def run(self) -> None:
        for each in self._open:
            each.begin()
        await asyncio.gather(*(each.done for each in self._open))
        acknowledged = sum(each.acknowledged for each in self._open)
        if acknowledged != len(self._frames):
            raise Refused(f"{acknowledged} acknowledgements of {len(self._frames)} frames")


async def seed_devices(gateway: Gateway, positions: Positions, batch: int = 500) -> None:
    """Makes every device known with a first fix, older than all that follow: no device is new in a measured run.

    The fix is fresh: a device that came online again in a measured run would be measured for that, too.
    """
    bodies = []
    began = time.time() - 2.0
    for first in range(0, positions.devices, batch):
        items = ",".join(
            f'{{"device_token":"{positions.token(n)}","latitude":51.9,"longitude":13.0,"timestamp":{began:.3f}}}'
            for n in range(first, min(first + batch, positions.devices))
        )
        bodies.append(f'{{"positions":[{items}]}}'.encode())
    token = gateway.token()
    load = HttpLoad(gateway.port, [post("/ingest/native/positions", token, body) for body in bodies], 2)
    await load.open()
    await load.run()
