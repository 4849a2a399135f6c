"""Fan-out inside a process, after the commit: what the gateway accepted, to whoever lives from it.

Promise: at most once; one device's events in order. Publishing never waits. A callback (`attach`) is called in
the loop with each group of events and must not block. A listener (`listen`) has a bounded queue: when it is
full the newest event per device is kept and the rest is counted as dropped.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec
import structlog

log = structlog.get_logger("waybridge.bus")


class Fix(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A stored position. `recorded_us` is when it counts from (clamped), `sent_us` the time as sent.

    SI units; `flags` as in the store: 1 not live, 2 time suspect, 4 late. `extra` is JSON text or None.
    """

    recorded_us: int
    sent_us: int
    received_us: int
    latitude: float
    longitude: float
    altitude: float | None = None
    accuracy: float | None = None
    speed: float | None = None
    heading: float | None = None
    trip_id: int | None = None
    flags: int = 0
    extra: str | None = None


class PositionEvent(msgspec.Struct, frozen=True, gc=False, tag="p", array_like=True):
    """A source's newer fix. `shown` tells that the source is its device's winner, so that the marker moves;
    a fix that is late is published to nobody.
    """

    instance_id: str
    device_id: int
    device_token: str
    source_id: int
    fix: Fix
    track_token: str | None
    shown: bool
    visible: bool
    """Whether viewers and streams may see it (consent)."""


class DeviceEvent(msgspec.Struct, frozen=True, tag="d", array_like=True):
    """Something about a device changed: `kind` is one of online, offline, source_changed, sharing_started,
    sharing_stopped, stage, trip_started, trip_ended, profile, created, erased, sources, display_field.

    `row` is the device's new in-memory state for other nodes to take over (see roster.py), or None.
    """

    kind: str
    instance_id: str
    device_id: int
    device_token: str
    at_us: int
    details: dict[str, Any] = {}


class SessionEvent(msgspec.Struct, frozen=True, tag="s", array_like=True):
    """A share session changed: `kind` is created, updated, viewed, completed, cancelled or expired."""

    kind: str
    instance_id: str
    session_id: str
    device_id: int | None
    device_token: str
    version: int


class Nudge(msgspec.Struct, frozen=True, tag="n", array_like=True):
    """Something may be looked at now: `topic` is outbox, connections, subscriptions, instances, groups or streams."""

    topic: str
    key: str = ""


Event: TypeAlias = PositionEvent | DeviceEvent | SessionEvent | Nudge
Callback: TypeAlias = Callable[[Sequence[Event]], None]


class Bus(Protocol):
    """What every bus does; `bus_nats` carries the same events to other processes too."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    def publish(self, events: Sequence[Event]) -> None:
        """Hands events to every callback and listener, here and on other nodes. Never waits, never raises."""
        ...

    def attach(self, callback: Callback, *, first: bool = False) -> Callable[[], None]:
        """Calls `callback` with each group of events; returns what detaches it. `first` goes before the others."""
        ...

    def listen(
        self, name: str, *, size: int = 1024, wanted: Callable[[Event], bool] | None = None, own: bool = False
    ) -> Listener:
        """A bounded queue of the events that are wanted; all of them without `wanted`, which must be quick.

        `own`: only what this process published, so that of many nodes one is told.
        """
        ...

    @property
    def healthy(self) -> bool: ...


@runtime_checkable
class FollowingBus(Protocol):
    """A bus that brings other processes' events, too."""

    def follow(
        self,
        arrived: Callable[[Sequence[Event], Sequence[int]], Awaitable[Sequence[Event]]],
        returned: Callable[[], Awaitable[Sequence[Event]]],
    ) -> None:
        """`arrived` takes other nodes' events over, and devices (by number) whose change was too long to send;
        `returned` is called when events were missed, as after the bus was away. Both return what listeners are told.
        """
        ...


class Listener:
    """A bounded queue of events, iterated in groups; leave it with `close()`."""

    def __init__(
        self, name: str, size: int, detach: Callable[[], None], wanted: Callable[[Event], bool] | None = None
    ) -> None:
        self.name = name
        self._wanted = wanted
        self.dropped = 0
        self._size = size
        self._detach = detach
        self._pending: OrderedDict[object, Event] = OrderedDict()
        self._wake = asyncio.Event()
        self._number = itertools.count()
        self._closed = False

    def offer(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._wanted is not None and not self._wanted(event):
                continue
            if len(self._pending) < self._size:
                self._pending[next(self._number)] = event
                continue
            self.dropped += 1
            if isinstance(event, PositionEvent):
                key = ("newest", event.device_id)
                self._pending.pop(key, None)
                if len(self._pending) >= self._size:
                    self._pending.popitem(last=False)
                self._pending[key] = event
            else:
                self._pending.popitem(last=False)
                self._pending[next(self._number)] = event
        if self._pending:
            self._wake.set()

    def take(self) -> list[Event]:
        """What waits, at once; perhaps nothing."""
        events = list(self._pending.values())
        self._pending.clear()
        return events

    async def __aiter__(self) -> AsyncIterator[Sequence[Event]]:
        while not self._closed:
            await self._wake.wait()
            self._wake.clear()
            if self._pending:
                yield self.take()

    def close(self) -> None:
        self._closed = True
        self._detach()
        self._wake.set()


class MemoryBus:
    """The bus of one process."""

    def __init__(self) -> None:
        self._callbacks: list[Callback] = []
        self._own_callbacks: list[Callback] = []

    async def start(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        self._callbacks.clear()
        self._own_callbacks.clear()

    @property
    def healthy(self) -> bool:
        return True

    def publish(self, events: Sequence[Event]) -> None:
        if events:
            self.deliver(events, own=True)

    def deliver(self, events: Sequence[Event], *, own: bool = False) -> None:
        """Hands events to this process alone; `own` are those that it published itself."""
        for callback in (*self._callbacks, *(self._own_callbacks if own else ())):
            try:
                callback(events)
            except Exception:
                log.exception("A listener of the bus failed", listener=getattr(callback, "__qualname__", "?"))

    def attach(self, callback: Callback, *, first: bool = False) -> Callable[[], None]:
        return _attached(self._callbacks, callback, first=first)

    def listen(
        self, name: str, *, size: int = 1024, wanted: Callable[[Event], bool] | None = None, own: bool = False
    ) -> Listener:
        detach: Callable[[], None] = lambda: None  # noqa: E731 - replaced below, once the callback exists
        listener = Listener(name, size, lambda: detach(), wanted)  # noqa: PLW0108 - not yet what it will be
        detach = _attached(self._own_callbacks if own else self._callbacks, listener.offer)
        return listener


def _attached(callbacks: list[Callback], callback: Callback, *, first: bool = False) -> Callable[[], None]:
    """Adds a callback; returns what takes it out again."""
    if first:
        callbacks.insert(0, callback)
    else:
        callbacks.append(callback)

    def detach() -> None:
        if callback in callbacks:
            callbacks.remove(callback)

    return detach
