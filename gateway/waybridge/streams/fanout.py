"""The writers of everything live: the same bytes to every viewer, and nobody waits for anybody.

Promise: at most once, order kept per key. A frame is encoded once and written raw to each viewer's transport.
A viewer whose socket takes no more keeps only the KEYS of what it misses; what they stand for is encoded when it
takes bytes again, so it gets the newest of each and nothing is buffered for it. One that takes nothing for
`slow_seconds` is cut (4008). `TCP_NOTSENT_LOWAT` makes slow readers show, which else hide behind megabytes of
kernel buffer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from waybridge import metrics
from waybridge.streams.wire import FINAL, LAST_CHUNK, SSE_STAY_AWAY, CloseCode, close_frame, text_frame

if TYPE_CHECKING:
    from aiohttp import web

log = structlog.get_logger("waybridge.streams")

TCP_NOTSENT_LOWAT = 25
NOTSENT_BYTES = 8_192
UNLIMITED = 2**31 - 1
HOLD_BYTES = 4_096
"""Beyond so many bytes that the socket did not take, a viewer is behind."""
REFILL_BYTES = 32_768
REFILL_KEYS = 256
"""What a viewer that catches up gets at a time, in bytes and in frames."""
SWEEP_SECONDS = 0.02
WATCH_SECONDS = 1.0
CLOSE_SECONDS = 2.0
"""How long a closed connection may take to go before it is torn down."""

Refill = Callable[[Hashable], bytes | None]
"""The newest frame for a key, or None when there is nothing to say any more."""


class Viewer:
    """One live connection. `refill` encodes what it missed; set by whoever feeds it."""

    __slots__ = (
        "_fanout", "_left", "_pending", "_since", "_size", "_websocket", "closing", "conflated", "kind", "refill",
        "transport",
    )  # fmt: skip

    def __init__(
        self, fanout: Fanout, transport: asyncio.Transport, kind: str, websocket: web.WebSocketResponse | None
    ) -> None:
        self._fanout = fanout
        self._websocket = websocket
        self._pending: dict[Hashable, None] = {}
        self._since = 0.0  # since when it takes nothing
        self._size = 0
        self._left: asyncio.TimerHandle | None = None
        self.transport = transport
        self.kind = kind
        self.closing: int | None = None
        self.conflated = 0
        self.refill: Refill = lambda _key: None

    @property
    def open(self) -> bool:
        """Whether it may be written to."""
        return (
            self.closing is None
            and not self.transport.is_closing()
            and (self._websocket is None or not self._websocket.closed)
        )

    def time(self) -> float:
        """The loop's clock."""
        return self._fanout.time()

    @property
    def ready(self) -> bool:
        """Whether a frame written now goes out at once."""
        return self.open and not self._pending and self.transport.get_write_buffer_size() <= HOLD_BYTES

    def send(self, frame: bytes, key: Hashable) -> bool:
        """Writes a frame, or keeps its key for later when the viewer is behind; tells whether it was written."""
        if not self.open:
            return False
        if not self._pending and self.transport.get_write_buffer_size() <= HOLD_BYTES:
            self.transport.write(frame)
            return True
        self.owe((key,))
        return False

    def send_parts(self, parts: Sequence[tuple[bytes, Sequence[Hashable]]]) -> None:
        """Writes blobs of frames, each with the keys of its frames, as far as the socket takes them at once."""
        if not self.open:
            return
        for blob, keys in parts:
            if not self._pending and self.transport.get_write_buffer_size() <= HOLD_BYTES:
                self.transport.write(blob)
            else:
                self.owe(keys)

    @property
    def hears(self) -> bool:
        """Whether `reply` writes now: one that does not read gets no answers."""
        return self.open and self.transport.get_write_buffer_size() <= REFILL_BYTES

    def reply(self, frame: bytes) -> None:
        """Answers a client's own frame, or tells it something that does not wait for what it owes reading."""
        if self.hears:
            self.transport.write(frame)

    def owe(self, keys: Iterable[Hashable]) -> None:
        """Keeps keys whose newest frames the viewer gets as fast as it reads, those owed longest first."""
        if not self.open:
            return
        pending = self._pending
        if not pending:
            self._since = self._fanout.time()
            self._size = self.transport.get_write_buffer_size()
            self._fanout.sweep_soon(self)
        for key in keys:
            if key in pending:
                self.conflated += 1
            else:
                pending[key] = None

    def forget(self, key: Hashable) -> None:
        """Owes a key no more."""
        self._pending.pop(key, None)

    async def until_closed(self) -> None:
        """Waits for a connection without a reader of its own (server-sent events) to go."""
        while not self.transport.is_closing():  # noqa: ASYNC110 - aiohttp tells nobody that a connection was lost
            await asyncio.sleep(WATCH_SECONDS)

    def end(self, code: CloseCode, reason: str = "", *, last: bytes = b"") -> None:
        """Writes `last` and the close, and drops what was owed; the connection goes within CLOSE_SECONDS."""
        if not self.open:
            return
        self.closing = code
        self._pending = {}
        find_slow_readers(self.transport, UNLIMITED)  # the kernel tells it the end, whenever it reads again
        if self._websocket is None:
            self.transport.write(last + (SSE_STAY_AWAY if code in FINAL else b"") + LAST_CHUNK)
            self.transport.close()
        else:
            self.transport.write(last + close_frame(code, reason))
        self._left = self._fanout.later(CLOSE_SECONDS, self.transport.abort)

    def gone(self) -> None:
        """Its connection has ended."""
        if self._left is not None:
            self._left.cancel()
        self._pending.clear()
        if self.closing is None:
            self.closing = CloseCode.DONE
        else:
            self.transport.close()

    def catch_up(self, now: float, slow_seconds: float) -> bool:
        """Writes what is owed as far as the socket takes it; tells whether something is still owed."""
        if not self.open:
            self._pending.clear()
            return False
        size = self.transport.get_write_buffer_size()
        if size < self._size or size <= HOLD_BYTES:
            self._since = now
        self._size = size
        while self._pending and size <= HOLD_BYTES:
            frames, length = [], 0
            for key in tuple(itertools.islice(self._pending, REFILL_KEYS)):
                del self._pending[key]
                frame = self.refill(key)
                if frame is not None:
                    frames.append(frame)
                    length += len(frame)
                    if length >= REFILL_BYTES:
                        break
            if not self._pending:
                self._pending = {}  # an emptied dict keeps its room: kilobytes after a fleet's snapshot
            if frames:
                self.transport.write(b"".join(frames))
            self._size = size = self.transport.get_write_buffer_size()
        if self._pending and now - self._since >= slow_seconds:
            metrics.STREAM_CUT.labels(self.kind).inc()
            self.end(CloseCode.TOO_SLOW_OR_TOO_MANY, "too slow")
        return bool(self._pending)


class Fanout:
    """All live connections of this node."""

    def __init__(self, *, slow_seconds: float = 10.0) -> None:
        self._slow_seconds = slow_seconds
        self._viewers: set[Viewer] = set()
        self._behind: set[Viewer] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def stopping(self) -> bool:
        return self._stopping

    def __len__(self) -> int:
        return len(self._viewers)

    def join(self, transport: asyncio.Transport, kind: str, websocket: web.WebSocketResponse | None = None) -> Viewer:
        """Takes a connection in. `kind` labels metrics; without `websocket` it is server-sent events."""
        find_slow_readers(transport)
        viewer = Viewer(self, transport, kind, websocket)
        self._viewers.add(viewer)
        self._empty.clear()
        metrics.VIEWERS.labels(kind).inc()
        if self._stopping:
            viewer.end(CloseCode.GOING_AWAY, "shutting down")
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Lets a connection go that has ended, by whichever side."""
        if viewer not in self._viewers:
            return
        self._viewers.discard(viewer)
        self._behind.discard(viewer)
        viewer.gone()
        metrics.VIEWERS.labels(viewer.kind).dec()
        if viewer.conflated:
            metrics.CONFLATED.labels(viewer.kind).inc(viewer.conflated)
        if not self._viewers:
            self._empty.set()

    def broadcast(self, viewers: Iterable[Viewer], frame: bytes, key: Hashable) -> int:
        """Writes one frame to many; how many took it at once."""
        taken = 0
        for viewer in viewers:
            taken += viewer.send(frame, key)
        return taken

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Closes everything with 1001 and waits for it to go; what does not is torn down."""
        self._stopping = True
        for viewer in tuple(self._viewers):
            viewer.end(CloseCode.GOING_AWAY, "shutting down")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
        for viewer in tuple(self._viewers):
            viewer.transport.abort()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def time(self) -> float:
        """The loop's clock."""
        return (self._loop or self._running()).time()

    def later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return (self._loop or self._running()).call_later(seconds, call)

    def _running(self) -> asyncio.AbstractEventLoop:
        """The loop, looked up once: each look-up asks the kernel for the process, and fan-out asks for every frame."""
        self._loop = asyncio.get_running_loop()
        return self._loop

    def sweep_soon(self, viewer: Viewer) -> None:
        """Looks after a viewer that is behind until it has caught up or is cut."""
        self._behind.add(viewer)
        if self._sweep is None:
            self._sweep = self.later(0, self._sweep_all)

    def _sweep_all(self) -> None:
        now = self.time()
        self._sweep = None
        for viewer in tuple(self._behind):
            if not viewer.catch_up(now, self._slow_seconds):
                self._behind.discard(viewer)
        if self._behind and self._sweep is None:
            self._sweep = self.later(SWEEP_SECONDS, self._sweep_all)


class Seats:
    """How many sockets each key (a token, an address) holds on this node."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: dict[Hashable, int] = {}

    def take(self, key: Hashable) -> bool:
        """Takes a seat, unless all are taken."""
        taken = self._taken.get(key, 0)
        if taken >= self._most:
            return False
        self._taken[key] = taken + 1
        return True

    def free(self, key: Hashable) -> None:
        left = self._taken.get(key, 0) - 1
        if left > 0:
            self._taken[key] = left
        else:
            self._taken.pop(key, None)


def find_slow_readers(transport: asyncio.BaseTransport, unsent_bytes: int = NOTSENT_BYTES) -> None:
    """Lets the kernel keep only so many bytes that the network has not taken (Linux; elsewhere no change)."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # a unix socket, or a system without this option
            sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, unsent_bytes)


__all__ = ["CloseCode", "Fanout", "Refill", "Seats", "Viewer", "find_slow_readers", "text_frame"]
