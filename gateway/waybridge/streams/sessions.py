"""Stream sessions: a selection of devices for one client, that may drop and come back (contract section 9).

A stream goes on counting while its client is away, until it expires: a client that returns to the same node with
`after` gets the newest of what it missed and how much was left out. On another node, or after a restart, it gets a
snapshot (`resumed` false, `dropped` null), numbered on from where the client was. The newest connection has the
stream; the one before is closed with 4009, on whichever node it is.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from waybridge.bus import DeviceEvent, Event, Nudge, PositionEvent
from waybridge.errors import NotFound, StoreUnavailable
from waybridge.model import iso_us
from waybridge.store import streams as store
from waybridge.store.groups import members
from waybridge.store.streams import StreamRow, StreamSpec
from waybridge.streams import events
from waybridge.streams.fanout import REFILL_BYTES
from waybridge.streams.ledger import Ledger
from waybridge.streams.pacing import Pace
from waybridge.streams.wire import CloseCode
from waybridge.vault import digest

if TYPE_CHECKING:
    from waybridge.roster import Device, Roster
    from waybridge.settings_tables import StreamSettings
    from waybridge.store.engine import Store, Tx
    from waybridge.streams.fanout import Fanout, Viewer

log = structlog.get_logger("waybridge.streams.sessions")

TOKEN_BYTES = 24
KEPT = 10_000
"""Streams that a node remembers; the one away for the longest is forgotten first (its client gets a snapshot)."""
HIGHEST_SEQ = 2**52
UNKNOWN = "this stream is unknown or has expired"

Framing = Callable[[bytes, int], bytes]
"""(event as JSON, its number) -> bytes on the wire."""


class Stream:
    """One stream on this node, with its client or without."""

    __slots__ = (
        "_bodies", "_framing", "_ledger", "_out", "_pace", "_sessions", "_size", "_ticking", "_timer", "_wakes",
        "holder", "row", "spec", "taking", "tokens", "viewer",
    )  # fmt: skip

    def __init__(self, sessions: StreamSessions, row: StreamRow) -> None:
        self.row = row
        self.spec: StreamSpec = row.spec
        self.tokens: frozenset[str] | None = None
        self.viewer: Viewer | None = None
        self.holder: str | None = None
        self.taking = asyncio.Lock()
        self._sessions = sessions
        self._ledger = Ledger()
        self._bodies: dict[Hashable, bytes] = {}
        self._framing: Framing = lambda body, _seq: body
        self._pace = Pace(self.spec.min_interval_seconds, self._ledger.told)
        self._timer: asyncio.TimerHandle | None = None
        self._out: list[bytes] = []  # frames of this turn, which go out as one write
        self._wakes, self._size = 0.0, 0  # when the timer does; the bytes of those frames
        self._ticking: asyncio.TimerHandle | None = None

    def attach(self, viewer: Viewer, framing: Framing, after: int | None) -> None:
        """Gives the stream to a connection: what it missed, or a snapshot; the older connection is replaced."""
        if self.viewer is not None:
            self.close(CloseCode.REPLACED, "replaced", "a newer connection has this stream")
        self.viewer, self._framing = viewer, framing
        viewer.refill = self._refill
        dropped = None if after is None else self._ledger.resume(after)
        resumed = dropped is not None
        if not resumed:
            self._ledger.restart(self._snapshot(), after or 0)
            dropped = 0 if after is None else None
        fleet = self._sessions
        self._say(
            {
                "type": "connected",
                "stream_id": self.row.stream_id,
                "resumed": resumed,
                "dropped": dropped,
                "heartbeat_seconds": fleet.heartbeat_seconds,
                "expires_at": iso_us(self.row.expires_us),
            }
        )
        viewer.owe(self._ledger.owed)
        self._live_on()

    def detach(self, viewer: Viewer) -> None:
        """The connection has ended; the stream goes on without it."""
        if self.viewer is viewer:
            self.viewer = None
            if self._ticking is not None:
                self._ticking.cancel()

    def close(self, code: CloseCode, name: str, message: str) -> None:
        """Ends the connection with a last `error` event. The stream itself stays."""
        viewer = self.viewer
        if viewer is not None:
            viewer.end(code, message, last=self._frame({"type": "error", "code": name, "message": message}))
            self.detach(viewer)

    def forget(self) -> None:
        """Nothing is counted any more."""
        self.close(CloseCode.REPLACED, "replaced", "a newer connection has this stream")
        if self._timer is not None:
            self._timer.cancel()

    def wants(self, device_token: str) -> bool:
        return self.tokens is None or device_token in self.tokens

    def moved(self, device_id: int, now: float) -> None:
        """A device has a newer position: told at once, or when its interval has passed."""
        if not self._ledger.begun:
            return
        if self._pace.moved(device_id, now):
            self._happened(device_id)
        else:
            self._wake()

    def told(self, kind: str, device_id: int, body: bytes) -> None:
        """Something else happened to a device."""
        key = (kind, device_id)
        self._bodies[key] = body
        self._happened(key)

    def reselect(self, tokens: frozenset[str] | None) -> None:
        """The stream's groups have other members: new ones are told, the others no more."""
        before, self.tokens = self.tokens, tokens
        for device in self._sessions.devices(self.row.instance_id):
            was = before is None or device.token in before
            if not was and self.wants(device.token):
                self.moved(device.id, self._sessions.fanout.time())
            elif was and not self.wants(device.token):
                self._ledger.void(device.id)
        self.flush()

    def _happened(self, key: Hashable) -> None:
        if not self._ledger.begun:
            return
        self._ledger.happened(key)
        viewer = self.viewer
        if viewer is None:
            return
        if not viewer.ready:
            viewer.owe((key,))
            return
        frame = self._refill(key)
        if frame is not None:
            self._out.append(frame)
            self._size += len(frame)
            if self._size >= REFILL_BYTES:
                self.flush()

    def flush(self) -> None:
        """Writes what this turn has brought, at its end: many devices move together."""
        if self._out:
            out, self._out, self._size = self._out, [], 0
            if self.viewer is not None and self.viewer.open:
                self.viewer.transport.write(b"".join(out))

    def _refill(self, key: Hashable) -> bytes | None:
        body = self._sessions.positions.body(key, self.spec.fields) if isinstance(key, int) else self._bodies.get(key)
        if body is None:
            self._ledger.void(key)
            return None
        if isinstance(key, int):
            self._pace.sent(key, self._sessions.fanout.time())
        seq, dropped = self._ledger.sending(key)
        return self._framing(events.numbered(body, seq, dropped), seq)

    def _snapshot(self) -> list[Hashable]:
        return [
            device.id
            for device in self._sessions.devices(self.row.instance_id)
            if self.wants(device.token)
            and device.public_fix is not None
            and (self.spec.include_offline or device.online is not False)
        ]

    def _say(self, event: dict[str, Any]) -> None:
        if self.viewer is not None and self.viewer.hears:
            self.viewer.reply(self._frame(event))

    def _frame(self, event: dict[str, Any]) -> bytes:
        seq = self._ledger.saying()
        return self._framing(events.numbered(events.encode(event), seq), seq)

    def _wake(self) -> None:
        """Sees to it that what waits is told in time."""
        when = self._pace.next
        if when is None or (self._timer is not None and self._wakes <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wakes = when
        self._timer = self._sessions.fanout.later(max(0.0, when - self._sessions.fanout.time()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        for device_id in self._pace.due(self._sessions.fanout.time()):
            if self._sessions.wanted(self, device_id):
                self._happened(device_id)
        self.flush()
        self._wake()

    def _live_on(self) -> None:
        """Waits for the next heartbeat, or for the stream's end if that comes first."""
        fleet = self._sessions
        left = (self.row.expires_us - fleet.now_us()) / 1e6
        if left > fleet.heartbeat_seconds:
            self._ticking = fleet.fanout.later(fleet.heartbeat_seconds, self._beat)
        else:
            self._ticking = fleet.fanout.later(max(0.0, left), self._expire)

    def _beat(self) -> None:
        self._say({"type": "heartbeat", "sent_at": iso_us(self._sessions.now_us())})
        self._live_on()

    def _expire(self) -> None:
        self.close(CloseCode.CREDENTIALS, "expired", "the stream has expired; create a new one")
        self._sessions.drop(self)


class StreamSessions:
    """The stream sessions; `node_id` tells this node's connections from other nodes'."""

    def __init__(
        self, fanout: Fanout, roster: Roster, database: Store, settings: StreamSettings, *, node_id: str
    ) -> None:
        self.fanout = fanout
        self.positions = events.Positions(roster)
        self.heartbeat_seconds = events.plain(settings.heartbeat_seconds)
        self._lifetime_us = round(settings.lifetime_seconds * 1e6)
        self._roster = roster
        self._database = database
        self._node_id = node_id
        self._streams: dict[str, Stream] = {}
        self._by_instance: dict[str, dict[Stream, None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def create(self, instance_id: str, spec: StreamSpec) -> tuple[StreamRow, str]:
        """(the stream, its token, which is shown this once)."""
        token = secrets.token_urlsafe(TOKEN_BYTES)

        async def unit(tx: Tx) -> StreamRow:
            row = StreamRow(
                stream_id="lps_" + secrets.token_hex(12), instance_id=instance_id, spec=spec, holder=None,
                created_us=tx.now_us, expires_us=tx.now_us + self._lifetime_us,
            )  # fmt: skip
            await store.add_stream(tx, row, digest(token))
            return row

        return await self._database.write(unit), token

    async def find(self, stream_token: str) -> StreamRow:
        """The stream that a token opens. Raises NotFound for one that is unknown or expired."""
        async with self._database.read() as conn:
            row = await store.stream_by_digest(conn, digest(stream_token))
        if row is None or row.expires_us <= self.now_us():
            raise NotFound(UNKNOWN)
        return row

    async def take(self, row: StreamRow, viewer: Viewer, framing: Framing, after: int | None) -> Stream:
        """Gives a stream to a connection. Raises NotFound when it has ended meanwhile."""
        stream = self._streams.get(row.stream_id) or self._remembered(Stream(self, row))
        async with stream.taking:
            holder = f"{self._node_id}:{secrets.token_hex(6)}"

            async def unit(tx: Tx) -> None:
                if not await store.hold_stream(tx, row.stream_id, holder):
                    raise NotFound(UNKNOWN)
                tx.publish(Nudge("streams", row.stream_id))

            stream.holder = holder
            await self._database.write(unit)
            stream.tokens = await self._selected(row)
            if viewer.open:
                stream.attach(viewer, framing, after)
        return stream

    async def purge(self) -> int:
        """Forgets expired streams; how many."""
        for stream in [each for each in self._streams.values() if each.row.expires_us <= self.now_us()]:
            self.drop(stream)
        return await self._database.write(lambda tx: store.purge_streams(tx, tx.now_us))

    async def close(self) -> None:
        for stream in tuple(self._streams.values()):
            self.drop(stream)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self, stream: Stream) -> None:
        stream.forget()
        self._streams.pop(stream.row.stream_id, None)
        of_instance = self._by_instance.get(stream.row.instance_id, {})
        of_instance.pop(stream, None)
        if not of_instance:
            self._by_instance.pop(stream.row.instance_id, None)
        if not self._streams:
            self.positions.clear()

    def on_events(self, group: Sequence[Event]) -> None:
        """Listens to the bus."""
        touched: set[str] = set()
        for event in group:
            if isinstance(event, Nudge):
                self._nudged(event)
            elif isinstance(event, (PositionEvent, DeviceEvent)):
                streams = self._by_instance.get(event.instance_id)
                if streams:
                    touched.add(event.instance_id)
                    self.positions.changed(event.device_id)
                    self._tell(tuple(streams), event)
        for stream in (each for instance_id in touched for each in self._by_instance.get(instance_id, ())):
            stream.flush()

    def devices(self, instance_id: str) -> Sequence[Device]:
        return tuple(self._roster.devices(instance_id))

    def wanted(self, stream: Stream, device_id: int) -> bool:
        device = self._roster.by_id(device_id)
        return device is not None and stream.wants(device.token)

    def now_us(self) -> int:
        return self._database.now_us()

    def _tell(self, streams: Sequence[Stream], event: PositionEvent | DeviceEvent) -> None:
        if isinstance(event, PositionEvent):
            if event.shown and event.visible:
                now = self.fanout.time()
                for stream in streams:
                    if stream.wants(event.device_token):
                        stream.moved(event.device_id, now)
            return
        told = events.of_device(event, self._roster.by_id(event.device_id))
        if told is not None:
            for stream in streams:
                if stream.wants(event.device_token):
                    stream.told(told[0], event.device_id, told[1])

    def _nudged(self, nudge: Nudge) -> None:
        if nudge.topic == "streams" and nudge.key in self._streams:
            self._spawn(self._check_holder(self._streams[nudge.key]))
        elif nudge.topic == "groups":
            for stream in self._streams.values():
                if stream.spec.groups is not None:
                    self._spawn(self._reselect(stream))

    async def _check_holder(self, stream: Stream) -> None:
        async with self._database.read() as conn:
            row = await store.stream_by_id(conn, stream.row.stream_id)
        holder = row.holder if row is not None else None
        if holder != stream.holder and not (holder or "").startswith(f"{self._node_id}:"):
            self.drop(stream)

    async def _reselect(self, stream: Stream) -> None:
        stream.reselect(await self._selected(stream.row))

    async def _selected(self, row: StreamRow) -> frozenset[str] | None:
        if row.spec.device_tokens is not None:
            return frozenset(row.spec.device_tokens)
        if row.spec.groups is None:
            return None
        async with self._database.read() as conn:
            return await members(conn, row.instance_id, row.spec.groups)

    def _remembered(self, stream: Stream) -> Stream:
        while len(self._streams) >= KEPT:
            away = next((each for each in self._streams.values() if each.viewer is None), None)
            if away is None:
                break
            self.drop(away)
        self._streams[stream.row.stream_id] = stream
        self._by_instance.setdefault(stream.row.instance_id, {})[stream] = None
        return stream

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _logged(work: Any) -> None:
        try:
            await work
        except StoreUnavailable:
            log.warning("A stream could not be looked up; the database is down")
