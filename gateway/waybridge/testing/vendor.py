"""A vendor that misbehaves, on a port of the loopback interface. It answers every request the same bad way."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, Literal, Self

Fault = Literal["refused", "limited", "limited_silently", "truncated", "huge", "mute"]

RETRY_AFTER: Final = 7
HUGE: Final = 10 * 1_048_576
FLOOD: Final = 4 * HUGE
_CHUNK: Final = 65_536


class HostileVendor:
    """`requests` are the request lines seen; `sent` counts the bytes of answers that the client took."""

    def __init__(self, fault: Fault) -> None:
        self.fault: Fault = fault
        self.requests: list[str] = []
        self.sent = 0
        self.url = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._closing.set()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            while await self._request(reader):
                await self._answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, as it may
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bool:
        line = await reader.readline()
        if not line:
            return False
        length = 0
        while (header := await reader.readline()) not in {b"\r\n", b""}:
            name, _, value = header.partition(b":")
            if name.strip().lower() == b"content-length":
                length = int(value)
        await reader.readexactly(length)
        self.requests.append(line.decode("latin-1").strip())
        return True

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        match self.fault:
            case "refused":
                await self._plain(writer, "401 Unauthorized", b'{"error":"invalid_client","code":1001}')
            case "limited":
                extra = f"Retry-After: {RETRY_AFTER}\r\n"
                await self._plain(writer, "429 Too Many Requests", b'{"error":"slow down"}', extra)
            case "limited_silently":
                await self._plain(writer, "429 Too Many Requests", b'{"error":"slow down"}')
            case "truncated":
                await self._plain(writer, "200 OK", b'{"data": [{"id": 1, "lat')
            case "huge":
                await self._huge(writer)
            case "mute":
                await self._closing.wait()

    async def _plain(self, writer: asyncio.StreamWriter, status: str, body: bytes, extra: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        await self._write(writer, head.encode() + body)

    async def _huge(self, writer: asyncio.StreamWriter) -> None:
        head, tail = b'{"data": ["', b'"]}'
        length = FLOOD + len(head) + len(tail)
        top = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        await self._write(writer, top.encode() + head)
        for _ in range(FLOOD // _CHUNK):
            await self._write(writer, b"x" * _CHUNK)
        await self._write(writer, tail)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.sent += len(data)


def filled(settings: dict[str, Any], url: str) -> dict[str, Any]:
    """Settings with the stand-in's address at every `{vendor}`."""
    return {
        name: value.replace("{vendor}", url) if isinstance(value, str) else value for name, value in settings.items()
    }
