"""The bus across processes: the same events over NATS, at most once; what is promised lives in the database.

Local delivery never goes through NATS. Each node publishes one message for each group of events and drops its
own when they come back. While NATS is away, this node's own listeners go on; on its return `returned` is called,
so that the node reads again what it may have missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog

from waybridge.bus import Event, MemoryBus

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

log = structlog.get_logger("waybridge.bus")
SUBJECT = "waybridge.events"
LONGEST_MESSAGE = 900_000


class Envelope(msgspec.Struct, array_like=True):
    """One group of events of one node."""

    node: str
    number: int
    events: list[Event]


class NatsBus(MemoryBus):
    """The bus of one node among others; see FollowingBus."""

    def __init__(self, url: str, node_id: str) -> None:
        super().__init__()
        self._url = url
        self._node_id = node_id
        self._client: Client | None = None
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Envelope)
        self._number = 0
        self._connected = False
        self._lost = 0
        self._seen: dict[str, int] = {}
        self._queue: asyncio.Queue[Envelope] = asyncio.Queue(maxsize=10_000)
        self._worker: asyncio.Task[None] | None = None
        self._arrived: Callable[[Sequence[Event]], Awaitable[Sequence[Event]]] | None = None
        self._returned: Callable[[], Awaitable[None]] | None = None
        self._reread = False

    def follow(
        self, arrived: Callable[[Sequence[Event]], Awaitable[Sequence[Event]]], returned: Callable[[], Awaitable[None]]
    ) -> None:
        self._arrived = arrived
        self._returned = returned

    @property
    def healthy(self) -> bool:
        return self._connected

    async def start(self) -> None:
        """Connects in the background; a NATS that is down now is a state, not an error."""
        import nats  # noqa: PLC0415 - only where it is configured

        self._worker = asyncio.create_task(self._work(), name="bus arrivals")
        self._client = await self._connect(nats)

    async def _connect(self, nats: object) -> Client | None:
        from nats.aio.client import Client as NatsClient  # noqa: PLC0415

        del nats
        client = NatsClient()

        async def up() -> None:
            self._connected = True
            if self._reread is True:
                log.info("NATS is back; reading again what was missed", unsent=self._lost)
            self._lost = 0
            self._reread = True
            await self._queue.put(Envelope("", 0, []))

        async def down() -> None:
            if self._connected:
                log.warning("NATS is gone; this node goes on alone")
            self._connected = False

        async def error(problem: Exception) -> None:
            log.debug("NATS said", problem=str(problem))

        self._starting = asyncio.create_task(self._keep_connecting(client, up, down, error), name="bus connect")
        return client

    async def _keep_connecting(
        self,
        client: Client,
        up: Callable[[], Awaitable[None]],
        down: Callable[[], Awaitable[None]],
        error: Callable[[Exception], Awaitable[None]],
    ) -> None:
        said = False
        while True:
            try:
                await client.connect(
                    self._url,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.5,  # type: ignore[arg-type] # its hint says int, it sleeps for it
                    connect_timeout=2,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    reconnected_cb=up,
                    disconnected_cb=down,
                    error_cb=error,
                    name=f"waybridge {self._node_id}",
                )
            except Exception as problem:  # noqa: BLE001 - whatever the client raises: tried again
                if not said:
                    log.warning("NATS cannot be reached; trying again", problem=str(problem))
                said = True
                await asyncio.sleep(0.5)
                continue
            await client.subscribe(SUBJECT, cb=self._received, pending_msgs_limit=100_000)
            await up()
            return

    async def close(self) -> None:
        for task in (getattr(self, "_starting", None), self._worker):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._client is not None and not self._client.is_closed:
            try:
                async with asyncio.timeout(2):
                    await self._client.flush()
                    await self._client.close()
            except Exception as problem:  # noqa: BLE001 - the end of a connection that may be dead
                log.debug("NATS did not close cleanly", problem=str(problem))
        await super().close()

    def publish(self, events: Sequence[Event]) -> None:
        if not events:
            return
        self.deliver(events, own=True)
        client = self._client
        if client is None or not self._connected:
            self._lost += len(events)
            return
        self._number += 1
        self._send(client, list(events))

    def _send(self, client: Client, events: list[Event]) -> None:
        payload = self._encoder.encode(Envelope(self._node_id, self._number, events))
        if len(payload) > LONGEST_MESSAGE and len(events) > 1:
            middle = len(events) // 2
            self._send(client, events[:middle])
            self._send(client, events[middle:])
            return
        task = asyncio.ensure_future(client.publish(SUBJECT, payload))
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._lost += 1

    async def _received(self, message: Msg) -> None:
        try:
            envelope = self._decoder.decode(message.data)
        except msgspec.DecodeError:
            log.warning("Something unreadable came over NATS", bytes=len(message.data))
            return
        if envelope.node != self._node_id:
            if self._queue.full():
                self._queue.get_nowait()
                self._reread = True
            self._queue.put_nowait(envelope)

    async def _work(self) -> None:
        while True:
            envelope = await self._queue.get()
            if not envelope.node:
                if self._returned is not None:
                    await self._guarded(self._returned())
                continue
            events: Sequence[Event] = envelope.events
            if self._arrived is not None:
                try:
                    events = await self._arrived(events)
                except Exception:
                    log.exception("Events of another node could not be taken over", node=envelope.node)
                    continue
            self.deliver(events)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as problem:  # noqa: BLE001 - said; the next return tries again
            log.warning("What was missed could not be read again yet", problem=str(problem))
