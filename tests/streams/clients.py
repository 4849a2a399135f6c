"""Clients of stream sessions: a socket and a browser's EventSource as far as the gateway can tell, and their sums."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Protocol, Self

from .conftest import read

if TYPE_CHECKING:
    import aiohttp

    from .conftest import Live


class Sse:
    """A browser's EventSource: an event counts as seen, and its id as the last one, when it has come whole."""

    def __init__(self, live: Live, url: str) -> None:
        self._live, self._url = live, url
        self.last_id: str | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.drop()

    async def open(self) -> None:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.last_id} if self.last_id else {})
        self._response = await self._live.http.get(self._url, headers=headers)

    def drop(self) -> None:
        self._response.close()

    @property
    def status(self) -> int:
        return self._response.status

    async def event(self, seconds: float = 30.0) -> dict[str, Any] | None:
        """The next event, or None at the end."""
        data = event_id = None
        async with asyncio.timeout(seconds):
            async for line in self._response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "id":
                    event_id = value
                elif name == "data":
                    data = json.loads(value)
                elif not name and data is not None:
                    self.last_id = event_id or self.last_id
                    found: dict[str, Any] = data
                    return found
        return None


class Client(Protocol):
    """A client that loses its connection and comes back with the last number that it saw."""

    async def open(self, after: int | None = None) -> None: ...
    def drop(self) -> None: ...
    async def event(self) -> dict[str, Any] | None: ...


class SocketClient:
    """`after` goes into the address."""

    def __init__(self, live: Live, stream: dict[str, Any]) -> None:
        self._live, self._url = live, stream["websocket_url"]

    async def open(self, after: int | None = None) -> None:
        self._ws = await open_ws(self._live, self._url, after)

    def drop(self) -> None:
        transport = self._ws._writer.transport
        assert transport is not None
        transport.abort()

    async def event(self) -> dict[str, Any] | None:
        return await read(self._ws, 30.0)


class EventSourceClient:
    """`after` is nobody's business: the browser remembers it."""

    def __init__(self, live: Live, stream: dict[str, Any]) -> None:
        self._sse = Sse(live, stream["sse_url"])

    async def open(self, after: int | None = None) -> None:
        assert self._sse.last_id == (None if after is None else str(after))
        await self._sse.open()

    def drop(self) -> None:
        self._sse.drop()

    async def event(self) -> dict[str, Any] | None:
        return await self._sse.event()


class Tally:
    """What one client has made of a stream."""

    def __init__(self) -> None:
        self.newest: dict[str, float] = {}
        self.received = self.dropped = self.last = 0
        self.resumed = 0

    def note(self, event: dict[str, Any]) -> None:
        dropped = event.get("dropped") or 0
        assert event["seq"] == self.last + dropped + 1, "a number that is missing is told"
        self.dropped += dropped
        self.received += 1
        self.last = event["seq"]
        match event["type"]:
            case "connected":
                self.resumed += event["resumed"]
            case "device.position.updated":
                self.newest[event["device_token"]] = event["latitude"]

    async def read(self, client: Client, count: int) -> None:
        """The next `count` events."""
        for _ in range(count):
            await self._next(client)

    async def read_until(self, client: Client, newest: dict[str, float]) -> None:
        while self.newest != newest:
            await self._next(client)

    async def _next(self, client: Client) -> None:
        event = await client.event()
        assert event is not None, "the connection has ended"
        self.note(event)


async def open_ws(live: Live, url: str, after: int | None = None) -> aiohttp.ClientWebSocketResponse:
    return await live.http.ws_connect(url + (f"?after={after}" if after is not None else ""))
