"""The realtime socket's feeds: every device of an instance to all its viewers, each frame encoded once.

A feed serves all viewers whose frames read the same. What changed goes out at once, in the callback of its commit,
while that is cheap; a feed that has used more than its share of the processor rests until that is made up for (at most
TICK_SECONDS), so that a busy fleet goes out in few large writes. A viewer begins with a snapshot and gets it as fast
as it reads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from waybridge.bus import DeviceEvent, Event, PositionEvent
from waybridge.streams import dialects
from waybridge.streams.wire import text_frame

if TYPE_CHECKING:
    from waybridge.roster import Device, Roster
    from waybridge.streams.dialects import Wording
    from waybridge.streams.fanout import Fanout, Viewer

TICK_SECONDS = 0.05
REST = 8
"""A turn is made up for by so many times its own length of rest."""
CREDIT_SECONDS = 0.005
"""Rest that a feed may owe before it takes it, all at once: what comes alone, or seldom, never waits."""
PART_BYTES = 32_768
PING_SECONDS = 30.0
PING = "ping"
GONE_KEPT = 10_000
TELL_GONE = frozenset({"sharing_stopped", "erased"})
TELL_NEW = frozenset({"sharing_started", "source_changed", "sources", "profile", "display_field"})
"""Device events after which the newest position reads differently, or may be seen."""

When: TypeAlias = Callable[[int | None], Any]
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Channel:
    """Which viewers share a feed: an instance, perhaps one device of it, and a wording."""

    instance_id: str
    device_token: str | None
    wording: Wording


class Feed:
    """All viewers of one channel. `when` writes times as the wording says."""

    def __init__(self, feeds: RealtimeFeeds, channel: Channel, when: When) -> None:
        self.channel = channel
        self.viewers: set[Viewer] = set()
        self._feeds = feeds
        self._roster = feeds.roster
        self._when = when
        self._changed: dict[int, None] = {}
        self._frames: dict[int, bytes] = {}
        self._gone: dict[int, str] = {}
        self._rested = 0.0  # when all its turns will be made up for
        self._timer: asyncio.TimerHandle | None = None
        self._pinger = feeds.fanout.later(PING_SECONDS, self._ping)

    def join(self, viewer: Viewer) -> None:
        """Takes a viewer in, with a snapshot of all that may be seen."""
        viewer.refill = self._refill
        self.viewers.add(viewer)
        viewer.owe(device.id for device in self._devices() if device.public_fix is not None)

    def leave(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)
        if not self.viewers:
            self.close()

    def close(self) -> None:
        self._pinger.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._feeds.forget(self)

    def take(self, device_id: int, device_token: str, *, gone: bool = False) -> None:
        """Notes that a device's frame reads differently now."""
        if self.channel.device_token is not None and self.channel.device_token != device_token:
            return
        self._frames.pop(device_id, None)
        self._changed[device_id] = None
        if gone:
            self._gone[device_id] = device_token
            if len(self._gone) > GONE_KEPT:
                self._gone.pop(next(iter(self._gone)))

    def flush(self) -> None:
        """Sends what changed now, or as soon as the feed has rested."""
        if not self._changed or self._timer is not None:
            return
        owed = self._rested - self._feeds.fanout.time()
        if owed > CREDIT_SECONDS:
            self._timer = self._feeds.fanout.later(owed, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self._timer = None
        began = time.thread_time()
        changed, self._changed = self._changed, {}
        parts = self._parts(changed)
        for viewer in self.viewers:
            viewer.send_parts(parts)
        took = time.thread_time() - began
        now = self._feeds.fanout.time()
        self._rested = min(max(self._rested, now) + took * REST, now + TICK_SECONDS)

    def _parts(self, device_ids: dict[int, None]) -> Sequence[tuple[bytes, Sequence[Hashable]]]:
        parts: list[tuple[bytes, Sequence[Hashable]]] = []
        frames: list[bytes] = []
        keys: list[Hashable] = []
        length = 0
        for device_id in device_ids:
            frame = self._refill(device_id)
            if frame is None:
                continue
            frames.append(frame)
            keys.append(device_id)
            length += len(frame)
            if length >= PART_BYTES:
                parts.append((b"".join(frames), tuple(keys)))
                frames, keys, length = [], [], 0
        if frames:
            parts.append((b"".join(frames), tuple(keys)))
        return parts

    def _refill(self, key: Hashable) -> bytes | None:
        if not isinstance(key, int):
            return _ping_frame()
        known = self._frames.get(key)
        if known is not None:
            return known
        device = self._roster.by_id(key)
        fix = device.public_fix if device is not None else None
        if device is not None and fix is not None:
            self._gone.pop(key, None)
            frame = text_frame(_encode(dialects.position(self.channel.wording, device, fix, self._when)))
        elif key in self._gone:
            frame = text_frame(_encode(dialects.stopped(self.channel.wording, self._gone[key])))
        else:
            return None
        self._frames[key] = frame
        return frame

    def _devices(self) -> Sequence[Device]:
        token = self.channel.device_token
        if token is None:
            return tuple(self._roster.devices(self.channel.instance_id))
        device = self._roster.device(self.channel.instance_id, token)
        return () if device is None else (device,)

    def _ping(self) -> None:
        self._pinger = self._feeds.fanout.later(PING_SECONDS, self._ping)
        self._feeds.fanout.broadcast(self.viewers, _ping_frame(), PING)


class RealtimeFeeds:
    """The feeds of this node; they exist while somebody watches."""

    def __init__(self, fanout: Fanout, roster: Roster) -> None:
        self.fanout = fanout
        self.roster = roster
        self._feeds: dict[Channel, Feed] = {}
        self._by_instance: dict[str, list[Feed]] = {}

    def feed(self, channel: Channel, when: When) -> Feed:
        """The feed of a channel; join it at once."""
        found = self._feeds.get(channel)
        if found is None:
            found = self._feeds[channel] = Feed(self, channel, when)
            self._by_instance.setdefault(channel.instance_id, []).append(found)
        return found

    def forget(self, feed: Feed) -> None:
        if self._feeds.get(feed.channel) is feed:
            del self._feeds[feed.channel]
            of_instance = self._by_instance[feed.channel.instance_id]
            of_instance.remove(feed)
            if not of_instance:
                del self._by_instance[feed.channel.instance_id]

    def close(self) -> None:
        for feed in tuple(self._feeds.values()):
            feed.close()

    def on_events(self, events: Sequence[Event]) -> None:
        """Listens to the bus."""
        if not self._by_instance:
            return
        touched: set[Feed] = set()
        for event in events:
            if isinstance(event, PositionEvent):
                if event.shown and event.visible:
                    self._take(event, touched, gone=False)
            elif isinstance(event, DeviceEvent):
                if event.kind in TELL_GONE:
                    self._take(event, touched, gone=True)
                elif event.kind in TELL_NEW:
                    self._take(event, touched, gone=False)
        for feed in touched:
            feed.flush()

    def _take(self, event: PositionEvent | DeviceEvent, touched: set[Feed], *, gone: bool) -> None:
        for feed in self._by_instance.get(event.instance_id, ()):
            feed.take(event.device_id, event.device_token, gone=gone)
            touched.add(feed)


def _ping_frame() -> bytes:
    return text_frame(_encode({"type": "ping", "timestamp": time.time_ns() // 1_000_000}))
