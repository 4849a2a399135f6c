"""The bare cost of fan-out: every POST's body as one WebSocket frame to every viewer, and nothing else.

    python peer_bare.py PORT
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
import sys

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
viewers: set[asyncio.Transport] = set()


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        viewers.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        if self.transport in viewers:
            return
        self.buffer += data
        while self.transport not in viewers and self._request():
            pass

    def _request(self) -> bool:
        """Answers the next whole request; False when there is none."""
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        lower = head.lower()
        if head.startswith(b"GET"):
            key = head[lower.index(b"sec-websocket-key:") + 18 :].split(b"\r\n", 1)[0].strip()
            accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            viewers.add(self.transport)
            return False
        length = int(lower[lower.index(b"content-length:") + 15 :].split(b"\r\n", 1)[0])
        if len(body) < length:
            return False
        payload, self.buffer = body[:length], body[length:]
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        frame = struct.pack("!BBH", 0x81, 126, len(payload)) + payload
        for viewer in viewers:
            viewer.write(frame)
        return True


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:
        run = asyncio.run
    run(main())
