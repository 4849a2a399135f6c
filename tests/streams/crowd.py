"""A process full of viewers, for tests at size: raw sockets that check every frame and cost little.

    python crowd.py < orders

Orders are JSON lines on stdin; answers are JSON lines on stdout. The first order opens the viewers:
`{"port", "kind": "realtime" or "stream", "devices", "jwt", "paths": [...], "deaf": n}` -> `{"open": n}`. The last
`deaf` of them do not read after the handshake. Then `{"until": round}` -> `{"round": n}` when every reader has that
round of every device, and `{"end": true}` -> what each reader and each deaf one has seen, after which the process ends.
A device's latitude is a tenth of the number of its round.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import sys
from typing import Any

HEAD = re.compile(rb'\{"seq":(\d+),(?:"dropped":(\d+),)?')
PLACE = re.compile(
    rb'"[Dd]evice_?[Tt]oken":"d(\d+)",(?:"display_identifier":"[^"]*",)?"[Ll]at(?:itude)?":(\d+)\.(\d)'
)
TEXT, CLOSE, PING = 1, 8, 9
PONG = b"\x8a\x80\0\0\0\0"


class Viewer(asyncio.Protocol):
    """One viewer. `newest` is the round that it has of each device."""

    def __init__(self, crowd: Crowd, path: str, *, deaf: bool) -> None:
        self._crowd = crowd
        self._path = path
        self._deaf = deaf
        self._buffer = b""
        self._upgraded = False
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.newest = [-1] * crowd.devices
        self.frames = self.missing = self.disorder = self.gaps = self.dropped = self.last = 0
        self.code: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            assert b" 101 " in head, head
            self._upgraded, self._buffer = True, rest
            if self._crowd.hello:
                self.transport.write(self._crowd.hello)
        self._frames()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._deaf and not self._crowd.ended:
            raise SystemExit(f"a reader's connection has ended: {exc} {self.code}")
        if not self.gone.done():
            self.gone.set_result(None)

    def _frames(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            if len(buffer) < max(start, start + size):
                break
            self._frame(buffer[at] & 15, buffer[start : start + size])
            at = start + size
        self._buffer = buffer[at:]

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            self.code = int.from_bytes(payload[:2], "big")
            return
        if opcode == PING:
            self.transport.write(PONG)
        if opcode != TEXT:
            return
        if not self.greeted.done():
            self.greeted.set_result(None)
            if self._deaf:
                self.transport.pause_reading()
        if payload.startswith(b'{"seq":'):
            self._number(payload)
        place = PLACE.search(payload)
        if place is None:
            return
        self.frames += 1
        device, number = int(place[1]), int(place[2] + place[3])
        before = self.newest[device]
        if number <= before:
            self.disorder += 1
            return
        self.missing += number - before - 1
        self.newest[device] = number
        if not self._deaf:
            self._crowd.has(number)

    def _number(self, payload: bytes) -> None:
        head = HEAD.match(payload)
        assert head is not None, payload
        seq, dropped = int(head[1]), int(head[2] or 0)
        self.gaps += seq != self.last + dropped + 1
        self.last = seq
        self.dropped += dropped

    def told(self) -> dict[str, Any]:
        return {
            "frames": self.frames, "missing": self.missing, "disorder": self.disorder, "gaps": self.gaps,
            "dropped": self.dropped, "oldest": min(self.newest), "code": self.code,
        }  # fmt: skip


class Crowd:
    """All viewers of this process."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self.devices: int = order["devices"]
        first = json.dumps({"type": "authenticate", "jwt": order["jwt"], "instance_id": "default"}).encode()
        masked = struct.pack("!BBH", 0x81, 0xFE, len(first)) + b"\0\0\0\0" + first
        self.hello = masked if order["kind"] == "realtime" else b""
        self._there: dict[int, int] = {}
        self._wanted: int | None = None
        self.ended = False
        self.readers: list[Viewer] = []
        self.deaf: list[Viewer] = []

    async def open(self) -> int:
        paths = self._order["paths"]
        hearing = len(paths) - self._order["deaf"]
        for first in range(0, len(paths), 25):
            some = await asyncio.gather(
                *(self._open(path, deaf=first + n >= hearing) for n, path in enumerate(paths[first : first + 25]))
            )
            await asyncio.gather(*(viewer.greeted for viewer in some))
        return len(paths)

    async def _open(self, path: str, *, deaf: bool) -> Viewer:
        sock = socket.socket()
        sock.setblocking(False)
        if deaf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", self._order["port"]))
        _, viewer = await loop.create_connection(lambda: Viewer(self, path, deaf=deaf), sock=sock)
        (self.deaf if deaf else self.readers).append(viewer)
        return viewer

    def has(self, number: int) -> None:
        """A reader has a round of one more device."""
        self._there[number] = self._there.get(number, 0) + 1
        if number == self._wanted:
            self._tell()

    def want(self, number: int) -> None:
        self._wanted = number
        self._there = {each: count for each, count in self._there.items() if each >= number}
        self._tell()

    def _tell(self) -> None:
        if self._there.get(self._wanted or 0, 0) == len(self.readers) * self.devices:
            say({"round": self._wanted})
            self._wanted = None

    async def end(self) -> dict[str, Any]:
        for viewer in self.deaf:
            viewer.transport.resume_reading()
        async with asyncio.timeout(120):
            await asyncio.gather(*(viewer.gone for viewer in self.deaf))
        told = {"readers": [each.told() for each in self.readers], "deaf": [each.told() for each in self.deaf]}
        self.ended = True
        for viewer in self.readers:
            viewer.transport.abort()
        return told


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


async def main() -> None:
    orders = asyncio.StreamReader(limit=10_000_000)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    crowd = Crowd(json.loads(await orders.readline()))
    say({"open": await crowd.open()})
    async for line in orders:
        order = json.loads(line)
        if "until" in order:
            crowd.want(order["until"])
        else:
            say(await crowd.end())
            return


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    run(main())
