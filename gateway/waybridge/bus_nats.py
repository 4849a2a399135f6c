"""The bus across processes: the same events over NATS, at most once; what is promised lives in the database.

Local delivery never goes through NATS. What this node commits while a message is on its way out goes into the next
one. Every message is numbered, so that a node that lacks one (NATS was away here or there, a queue ran over) knows it
and reads again from the database; so it does when NATS comes back. While NATS is away each node goes on alone.

Nodes of one database hear each other and nobody else: the subject is named after the database (`space`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog

from waybridge.bus import DeviceEvent, Event, MemoryBus, PositionEvent

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

log = structlog.get_logger("waybridge.bus")
LONGEST_MESSAGE = 900_000
"""Bytes; less where the server takes less (its max_payload)."""
HEAD_BYTES = 4_096
OUTGOING = 50_000
"""Events that wait to be sent; more are dropped, and the other nodes read again."""
WAITING_MESSAGES, WAITING_BYTES = 100_000, 64 * 2**20
"""What may wait to be taken over; more is dropped by the client, and this node reads again."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0
REST_SECONDS = 1.0
"""Between reading everything again twice: each costs the database some work for every device."""
SAY_AGAIN_SECONDS = 60.0
NODES = 1_000
"""Nodes whose numbers are remembered; a node is another one after each start."""


class Envelope(msgspec.Struct, array_like=True):
    """One message: events of one node, in order; `devices` changed in a way that is too long to send."""

    node: str
    number: int
    events: list[Event]
    devices: list[int] = []


class NatsBus(MemoryBus):
    """The bus of one node among others; see FollowingBus. `space` names the database, asked at each connect."""

    def __init__(self, url: str, node_id: str, space: Callable[[], Awaitable[str]]) -> None:
        super().__init__()
        self._url = url
        self._node_id = node_id
        self._space = space
        self._subject = ""
        self._client: Client | None = None
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Envelope)
        self._number = 0
        self._connected = False
        self._current = False
        self._closing = False
        self._outgoing: list[Event] = []
        self._outgoing_wake = asyncio.Event()
        self._seen: dict[str, int] = {}
        self._followed = asyncio.Event()
        self._missed = asyncio.Event()
        self._said_unreadable = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []
        self._arrived: Callable[[Sequence[Event], Sequence[int]], Awaitable[Sequence[Event]]] | None = None
        self._returned: Callable[[], Awaitable[Sequence[Event]]] | None = None

    def follow(
        self,
        arrived: Callable[[Sequence[Event], Sequence[int]], Awaitable[Sequence[Event]]],
        returned: Callable[[], Awaitable[Sequence[Event]]],
    ) -> None:
        self._arrived = arrived
        self._returned = returned
        self._followed.set()

    @property
    def healthy(self) -> bool:
        """Whether NATS is there, and what was missed while it was not has been read."""
        return self._connected and self._current

    async def start(self) -> None:
        """Connects in the background; a NATS that is down now is a state, not an error."""
        self._tasks = [
            asyncio.create_task(self._keep_connected(), name="bus connect"),
            asyncio.create_task(self._keep_sending(), name="bus sender"),
            asyncio.create_task(self._keep_rereading(), name="bus reread"),
        ]

    async def close(self) -> None:
        self._closing = True
        try:
            async with asyncio.timeout(2):
                if self._outgoing and self._connected:
                    await self._send_all()
        except Exception as problem:  # noqa: BLE001 - the end of a connection that may be dead
            log.debug("The last events did not go out", problem=str(problem))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._let_go()
        await super().close()

    def publish(self, events: Sequence[Event]) -> None:
        if not events:
            return
        self.deliver(events, own=True)
        if not self._connected or len(self._outgoing) + len(events) > OUTGOING:
            self._number += 1  # a message that nobody gets: the others see the gap when the next one comes
            return
        self._outgoing.extend(events)
        self._outgoing_wake.set()

    # -- sending

    async def _keep_sending(self) -> None:
        while True:
            await self._outgoing_wake.wait()
            self._outgoing_wake.clear()
            try:
                await self._send_all()
            except Exception as problem:  # noqa: BLE001 - whatever the client raises: the others see a gap
                log.debug("Events did not go out", problem=str(problem))

    async def _send_all(self) -> None:
        events, self._outgoing = self._outgoing, []
        client = self._client
        if client is None:
            self._number += 1
            return
        longest = min(LONGEST_MESSAGE, client.max_payload - HEAD_BYTES)
        for payload in self._messages(events, longest):
            await client.publish(self._subject, payload)

    def _messages(self, events: list[Event], longest: int) -> Iterator[bytes]:
        """The events as messages that NATS takes; one that is too long is told by its device's number."""
        payload = self._encoded(events)
        if len(payload) <= longest:
            yield payload
        elif len(events) > 1:
            self._number -= 1
            middle = len(events) // 2
            yield from self._messages(events[:middle], longest)
            yield from self._messages(events[middle:], longest)
        else:
            self._number -= 1
            event = events[0]
            yield self._encoded([], [event.device_id] if isinstance(event, (PositionEvent, DeviceEvent)) else [])

    def _encoded(self, events: list[Event], devices: Sequence[int] = ()) -> bytes:
        self._number += 1
        return self._encoder.encode(Envelope(self._node_id, self._number, events, list(devices)))

    # -- receiving

    async def _received(self, message: Msg) -> None:
        """Called by the client for one message after the other."""
        try:
            envelope = self._decoder.decode(message.data)
        except msgspec.DecodeError:
            now = time.monotonic()
            if now > self._said_unreadable + SAY_AGAIN_SECONDS:
                self._said_unreadable = now
                log.warning("Something unreadable came over NATS", bytes=len(message.data), subject=self._subject)
            return
        if envelope.node == self._node_id:
            return
        await self._followed.wait()
        before = self._seen.get(envelope.node)
        if before is not None and envelope.number != before + 1:
            self._missed.set()
        if before is None and len(self._seen) >= NODES:
            self._seen.clear()
        self._seen[envelope.node] = envelope.number
        events: Sequence[Event] = envelope.events
        if self._arrived is not None and (events or envelope.devices):
            try:
                events = await self._arrived(events, envelope.devices)
            except Exception:
                if not self._missed.is_set():
                    log.exception("Events of another node could not be taken over", node=envelope.node)
                self._missed.set()
                return
        if events:
            self.deliver(events)

    async def _keep_rereading(self) -> None:
        """Reads again what was missed, and again until that has worked; not without a rest."""
        said, wait = False, FIRST_WAIT
        await self._followed.wait()
        while True:
            await self._missed.wait()
            self._missed.clear()
            connected = self._connected
            try:
                events = await self._returned() if self._returned is not None else ()
            except Exception as problem:  # noqa: BLE001 - said, and tried again
                if not said:
                    log.warning("What was missed could not be read again yet", problem=str(problem))
                said = True
                self._missed.set()
                await asyncio.sleep(random.uniform(wait / 2, wait))  # noqa: S311 - spreads tries
                wait = min(LONGEST_WAIT, wait * 2)
                continue
            said, wait = False, FIRST_WAIT
            self._current = self._current or connected
            if events:
                self.deliver(events)
            await asyncio.sleep(REST_SECONDS)

    # -- connecting

    async def _keep_connected(self) -> None:
        """Connects, for as often as it takes: the client itself comes back to a server that was away, and is made
        anew where it has given up (a server that refuses it).
        """
        said, wait = False, FIRST_WAIT
        while True:
            ended: asyncio.Event = asyncio.Event()
            try:
                self._subject = f"waybridge.{await self._space()}.events"
                await self._connect(ended)
            except Exception as problem:  # noqa: BLE001 - whatever the client raises: tried again
                if not said:
                    log.warning("NATS cannot be reached; trying again", problem=str(problem) or repr(problem))
                said = True
            else:
                said, wait = False, FIRST_WAIT
                await ended.wait()
            await self._let_go()
            await asyncio.sleep(random.uniform(wait / 2, wait))  # noqa: S311 - spreads tries
            wait = min(LONGEST_WAIT, wait * 2)

    async def _connect(self, ended: asyncio.Event) -> None:
        """Raises whatever the client raises."""
        from nats.aio.client import Client as NatsClient  # noqa: PLC0415 - only where it is configured
        from nats.errors import SlowConsumerError  # noqa: PLC0415

        client = self._client = NatsClient()

        async def down() -> None:
            if self._connected:
                if not self._closing:
                    log.warning("NATS is gone; this node goes on alone")
                self._connected = self._current = False

        async def closed() -> None:
            await down()
            ended.set()

        async def back() -> None:
            await self._up(client)

        async def error(problem: Exception) -> None:
            if isinstance(problem, SlowConsumerError):
                self._missed.set()
            log.debug("NATS said", problem=str(problem))

        await client.connect(
            self._url,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.5,  # type: ignore[arg-type] # its hint says int, it sleeps for it
            connect_timeout=2,
            ping_interval=5,
            max_outstanding_pings=2,
            no_echo=True,
            reconnected_cb=back,
            disconnected_cb=down,
            closed_cb=closed,
            error_cb=error,
            name=f"waybridge {self._node_id}",
        )
        await client.subscribe(
            self._subject, cb=self._received, pending_msgs_limit=WAITING_MESSAGES, pending_bytes_limit=WAITING_BYTES
        )
        await client.flush(5)  # the server has our subscription: what is read from now on misses nothing
        await self._up(client)

    async def _up(self, client: Client) -> None:
        log.info("NATS is there", subject=self._subject)
        self._connected = True
        self._seen.clear()
        self._missed.set()
        await client.publish(self._subject, self._encoded([]))  # the others learn what they missed of this node

    async def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is None or client.is_closed:
            return
        try:
            async with asyncio.timeout(2):
                if client.is_connected:
                    await client.flush()
                await client.close()
        except Exception as problem:  # noqa: BLE001 - the end of a connection that may be dead
            log.debug("NATS did not close cleanly", problem=str(problem))
