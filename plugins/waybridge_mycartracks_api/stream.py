"""One socket at work: changes of the gateway's devices in, MyCarTracks' events out, until the session ends.

Promise: at most once, each vehicle's order kept. A reader that is slower than the changes gets the newest of
each vehicle; one that takes nothing for 10 s is cut (4008). Nothing that the client says is needed.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from waybridge_mycartracks_api.feed import Choice, Feed
from waybridge_mycartracks_api.words import rfc3339

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aiohttp import web

    from waybridge import DeviceView, Gateway

HEARTBEAT: Final = 30.0
_SLOW_SECONDS: Final = 10.0
_GOING_AWAY, _EXPIRED, _TOO_SLOW = 1001, 4001, 4008


class TooSlow(Exception):
    """The client takes nothing."""


class Stream:
    """A session's socket. `spec` is what the stream request asked for, as the dialect kept it.

    `heartbeat` and `slow_seconds` in seconds.
    """

    def __init__(
        self,
        gateway: Gateway,
        stream_id: str,
        spec: Mapping[str, Any],
        *,
        heartbeat: float = HEARTBEAT,
        slow_seconds: float = _SLOW_SECONDS,
    ) -> None:
        self._gateway = gateway
        self._stream_id = stream_id
        self._instances: Sequence[str] = spec["instances"]
        self._since = datetime.fromtimestamp(spec["since"], UTC)
        self._until: float = spec["until"]
        self._choice = Choice(numbers=_chosen(spec["vehicle_ids"]), groups=_chosen(spec["group_ids"]))
        self._feed = Feed(self._choice, _chosen(spec["fields"]), spec["interval"])
        self._heartbeat = heartbeat
        self._slow_seconds = slow_seconds
        self._changed: dict[int, DeviceView] = {}
        self._wake = asyncio.Event()

    async def run(self, ws: web.WebSocketResponse, request: web.Request) -> None:
        """Serves the socket to its end and closes it."""
        code, why = _GOING_AWAY, b"shutting down"
        try:
            code, why = await self._serve(ws)
        except TooSlow:
            code, why = _TOO_SLOW, b"too slow"
        except ConnectionError:
            pass  # the client has gone; there is nobody to tell
        finally:
            await _goodbye(ws, request, code, why)

    async def _serve(self, ws: web.WebSocketResponse) -> tuple[int, bytes]:
        async with AsyncExitStack() as stack:
            listening = [
                (instance_id, await stack.enter_async_context(self._gateway.listen(instance_id)))
                for instance_id in self._instances
            ]
            await self._refresh_groups()
            for instance_id in self._instances:
                self._feed.begin(await self._gateway.devices(instance_id), self._since)
            tasks = [asyncio.create_task(self._listen(changes), name=f"stream {at}") for at, changes in listening]
            reading = asyncio.create_task(_read(ws), name="stream reader")
            tasks.append(reading)
            stack.push_async_callback(_end, tasks)
            await self._send(ws, {"type": "connected", "streamId": self._stream_id})
            return await self._tell(ws, tasks)

    async def _tell(self, ws: web.WebSocketResponse, tasks: list[asyncio.Task[None]]) -> tuple[int, bytes]:
        beat_at = time.monotonic() + self._heartbeat
        while True:
            if (left := self._until - time.time()) <= 0:
                await self._send(ws, {"type": "error", "code": "stream_expired", "message": "create a new stream"})
                return _EXPIRED, b"expired"
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + self._heartbeat
                await self._refresh_groups()
                await self._send(ws, {"type": "heartbeat", "sentAt": rfc3339(datetime.now(UTC))})
            self._wake.clear()
            changed, self._changed = self._changed, {}
            self._feed.take(list(changed.values()))
            for event in self._feed.due(time.monotonic()):
                await self._send(ws, event)
            now = time.monotonic()
            await self._pause(min(self._feed.wait(now), beat_at - now, left), tasks)
            if any(task.done() for task in tasks):
                return _ended(tasks)

    async def _pause(self, seconds: float, tasks: list[asyncio.Task[None]]) -> None:
        """Until something changed, a task ended, or so many seconds are over."""
        if self._changed:
            return
        waking = asyncio.create_task(self._wake.wait(), name="stream waking")
        try:
            awaited: set[asyncio.Future[Any]] = {waking, *tasks}
            await asyncio.wait(awaited, timeout=max(seconds, 0.0), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()

    async def _listen(self, changes: AsyncIterator[Sequence[DeviceView]]) -> None:
        """Keeps the newest view of each device that changed; its end is the gateway's end."""
        async for views in changes:
            for view in views:
                if self._choice.covers(view):
                    self._changed[view.number] = view
            self._wake.set()

    async def _refresh_groups(self) -> None:
        if self._choice.groups is None:
            return
        members: set[tuple[str, str]] = set()
        for instance_id in self._instances:
            for number, tokens in (await self._gateway.groups(instance_id)).values():
                if number in self._choice.groups:
                    members.update((instance_id, token) for token in tokens)
        self._choice.group_tokens = frozenset(members)

    async def _send(self, ws: web.WebSocketResponse, event: Mapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._slow_seconds):
                await ws.send_str(msgspec.json.encode(event).decode())
        except TimeoutError:
            raise TooSlow from None


async def _read(ws: web.WebSocketResponse) -> None:
    """Takes what the client says, which changes nothing, until it goes."""
    async for _ in ws:
        continue


def _ended(tasks: list[asyncio.Task[None]]) -> tuple[int, bytes]:
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error
    return _GOING_AWAY, b"shutting down"


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _goodbye(ws: web.WebSocketResponse, request: web.Request, code: int, why: bytes) -> None:
    """Closes, but waits for nobody who does not read."""
    try:
        async with asyncio.timeout(1.0):
            await ws.close(code=code, message=why)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()


def _chosen(listed: list[Any] | None) -> frozenset[Any] | None:
    return None if listed is None else frozenset(listed)
