"""The websockets library as a fan-out server: `broadcast` of every POST's body.

    python peer_websockets.py VIEWERS_PORT PUBLISH_PORT
"""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

viewers: set[ServerConnection] = set()


async def view(connection: ServerConnection) -> None:
    viewers.add(connection)
    try:
        await connection.wait_closed()
    finally:
        viewers.discard(connection)


async def publish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
        except asyncio.IncompleteReadError:
            return
        length = int(head[head.index(b"content-length:") + 15 :].split(b"\r\n", 1)[0])
        payload = await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        broadcast(viewers, payload.decode())


async def main() -> None:
    async with serve(view, "127.0.0.1", int(sys.argv[1]), compression=None, ping_interval=None):
        server = await asyncio.start_server(publish, "127.0.0.1", int(sys.argv[2]))
        await server.serve_forever()


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:
        run = asyncio.run
    run(main())
