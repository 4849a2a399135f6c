"""Share viewers: one channel a session and node, which says to all its viewers at once what a recipient may see.

A channel follows the bus, paces by the session's `update_interval_seconds`, reads its session from the database
every `recheck_seconds` whatever the bus does, and ends all viewers at once: on complete, cancel and erase, and at
the second of expiry. Nothing is sent after that.

A new fix goes out at once if the interval has passed since the last one, else when it has. When nothing new comes,
the last is repeated (its age has grown) a tenth of the interval late, so that a source that reports just as often
as the interval is not told twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import structlog

from waybridge.bus import DeviceEvent, Event, PositionEvent, SessionEvent
from waybridge.errors import StoreUnavailable
from waybridge.streams.fanout import Fanout, Viewer
from waybridge.streams.wire import CloseCode, text_frame

if TYPE_CHECKING:
    from waybridge.store.sessions import ShareSession

log = structlog.get_logger("waybridge.streams.shares")

REPEAT_LATE = 1.1
COUNT_PATIENCE = 1.0
POSITION, STATUS, UPDATED = "position", "status", "session_updated"
CODES = {
    "completed": CloseCode.DONE,
    "cancelled": CloseCode.DONE,
    "expired": CloseCode.CREDENTIALS,
}
OTHER_TRIP = frozenset({"trip_started", "trip_ended", "source_changed"})
_encode = msgspec.json.Encoder().encode


class Seen(Protocol):
    """What is to be seen through a session (sharing.Sight)."""

    @property
    def fix(self) -> Any: ...
    @property
    def stage(self) -> Any: ...


class Shares(Protocol):
    """What the share sessions tell their viewers (sharing.Recipients); app.py hands it over."""

    async def by_token(self, share_token: str) -> ShareSession | None: ...
    async def by_id(self, session_id: str) -> ShareSession | None: ...
    async def past_trip(self, session: ShareSession) -> Any: ...
    async def count_views(self, session_id: str, count: int) -> None: ...
    def seen(self, session: ShareSession, past: Any) -> Seen: ...
    def trip_left(self, session: ShareSession, fix: Any) -> Any: ...
    def position_frame(self, session: ShareSession, seen: Any) -> dict[str, Any]: ...
    def updated_frame(self, session: ShareSession, seen: Any) -> dict[str, Any]: ...


class ShareChannel:
    """All viewers of one session on this node."""

    def __init__(self, channels: ShareChannels, session: ShareSession, share_token: str) -> None:
        self.session = session
        self.share_token = share_token
        self.viewers: set[Viewer] = set()
        self.ended: str | None = None
        self._channels = channels
        self._past: Any = None
        self._fix: Any = None  # what was sent last
        self._stage: Any = None
        self._moved_at = self._sent_at = float("-inf")
        self._checked_at = channels.time()
        self._timer: asyncio.TimerHandle | None = None
        self._uncounted = 0
        self._unshown: set[Viewer] = set()  # viewers that have not had a position yet
        self._counting = asyncio.Lock()
        self._verifying = asyncio.Lock()
        self._verified = False
        self.holds = 0

    async def ready(self) -> None:
        """Reads the session once after the channel began to hear the bus: an end that came before is found here."""
        async with self._verifying:
            if not self._verified:
                await self.verify()
                self._verified = True

    async def verify(self) -> None:
        """Reads the session anew: what ended meanwhile ends here, what changed is told. Raises StoreUnavailable."""
        fresh = await self._channels.shares.by_id(self.session.id)
        if self.ended is not None:
            return
        status = "expired" if fresh is None else fresh.status_at(self._channels.now_us())
        if fresh is None or status != "active":
            self.end(status)
            return
        past = await self._channels.shares.past_trip(fresh)
        if self.ended is not None:
            return
        self._checked_at = self._channels.time()
        self._past = past
        if fresh.version > self.session.version:
            self.session = fresh
            self._tell_update()
        elif self._stage is not None and self._fix is None and self.viewers:
            self._broadcast(STATUS)
        self.look()

    async def join(self, viewer: Viewer) -> None:
        """Takes a viewer in: a position at once, if there is one; the end, if it has come meanwhile."""
        viewer.refill = self._refill
        counted = self._seen().fix is not None
        if counted:
            await self.count(1)
        if self.ended is not None:
            self._end_one(viewer, self.ended)
            return
        if not viewer.open:
            return
        first = not self.viewers
        self.viewers.add(viewer)
        seen = self._seen()
        if seen.fix is None:
            self._unshown.add(viewer)
            self._stage = seen.stage if first else self._stage
        else:
            viewer.send(self._frame(POSITION), POSITION)
            if not counted:
                self._channels.spawn(self.count(1))
            if first:
                self._note_sent(seen, moved=True)
        self._schedule()

    def leave(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)
        self._unshown.discard(viewer)

    def stop(self) -> None:
        """Nobody looks any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._channels.forget(self)

    def look(self) -> None:
        """Looks whether there is something to say now; every event of the device and every tick comes here."""
        if self.ended is not None:
            return
        if self.session.status_at(self._channels.now_us()) == "expired":
            self.end("expired")
            return
        if not self.viewers:
            return
        now, seen = self._channels.time(), self._seen()
        interval = self.session.share_config.update_interval_seconds
        if seen.stage != self._stage:
            self._stage = seen.stage
            if seen.fix is None or self._fix is not None:  # a first position tells its stage itself
                self._broadcast(STATUS)
        if seen.fix is None:
            self._fix, self._moved_at = None, float("-inf")
        elif seen.fix != self._fix:
            if now >= self._moved_at + interval:
                self._send_position(seen, moved=True)
        elif now >= self._sent_at + interval * REPEAT_LATE:
            self._send_position(seen, moved=False)
        self._schedule()

    def end(self, reason: str) -> None:
        """Tells every viewer the end, in one write with the close; nothing is sent after it."""
        if self.ended is not None:
            return
        self.ended = reason
        for viewer in self.viewers:
            self._end_one(viewer, reason)
        self.viewers.clear()
        self._unshown.clear()
        self.stop()

    async def count(self, views: int) -> None:
        """Counts first positions, those of one moment together; waits for the database only a little."""
        self._uncounted += views
        await asyncio.wait({self._channels.spawn(self._count())}, timeout=COUNT_PATIENCE)

    # -- what is said

    def _send_position(self, seen: Seen, *, moved: bool) -> None:
        self._note_sent(seen, moved=moved)
        self._broadcast(POSITION)
        if self._unshown:
            self._channels.spawn(self.count(len(self._unshown)))
            self._unshown.clear()

    def _note_sent(self, seen: Seen, *, moved: bool) -> None:
        self._fix, self._stage = seen.fix, seen.stage
        self._sent_at = self._channels.time()
        if moved:
            self._moved_at = self._sent_at

    def _tell_update(self) -> None:
        if not self.viewers:
            return
        self._broadcast(UPDATED)
        seen = self._seen()
        if seen.fix is not None:  # what was hidden is gone at once, what was shown is there at once
            self._send_position(seen, moved=True)

    def _broadcast(self, key: str) -> None:
        self._channels.fanout.broadcast(self.viewers, self._frame(key), key)

    def _refill(self, key: Hashable) -> bytes | None:
        if key == POSITION and self._seen().fix is None:
            return None
        return self._frame(str(key))

    def _frame(self, key: str) -> bytes:
        shares, seen = self._channels.shares, self._seen()
        if key == POSITION:
            return text_frame(_encode(shares.position_frame(self.session, seen)))
        if key == UPDATED:
            return text_frame(_encode(shares.updated_frame(self.session, seen)))
        return text_frame(_encode({"type": "status", "stage": seen.stage.value}))

    def _seen(self) -> Seen:
        if self.session.track_token is not None and self._past is None and self._fix is not None:
            self._past = self._channels.shares.trip_left(self.session, self._fix)
        return self._channels.shares.seen(self.session, self._past)

    @staticmethod
    def _end_one(viewer: Viewer, reason: str) -> None:
        viewer.end(CODES[reason], last=_ended(reason))

    async def _count(self) -> None:
        async with self._counting:
            views, self._uncounted = self._uncounted, 0
            if views:
                await self._channels.shares.count_views(self.session.id, views)

    # -- when it is said

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.viewers or self.ended is not None:
            return
        now = self._channels.time()
        due = [
            self._checked_at + self._channels.recheck_seconds,
            now + (self.session.expires_us - self._channels.now_us()) / 1e6,
        ]
        interval = self.session.share_config.update_interval_seconds
        seen = self._seen()
        if seen.fix is not None:
            moved = seen.fix != self._fix
            due.append(self._moved_at + interval if moved else self._sent_at + interval * REPEAT_LATE)
        self._timer = self._channels.fanout.later(max(0.0, min(due) - now), self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._channels.time() >= self._checked_at + self._channels.recheck_seconds:
            self._checked_at = self._channels.time()
            self._channels.spawn(self._channels.recheck(self))
        self.look()


class ShareChannels:
    """The channels of this node. `start` before the first viewer; `now_us` is the store's clock."""

    def __init__(
        self, fanout: Fanout, shares: Shares, *, now_us: Callable[[], int], recheck_seconds: float = 30.0
    ) -> None:
        self.fanout = fanout
        self.shares = shares
        self.now_us = now_us
        self.recheck_seconds = recheck_seconds
        self._channels: dict[str, ShareChannel] = {}
        self._by_token: dict[str, ShareChannel] = {}
        self._by_device: dict[tuple[str, str], set[ShareChannel]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for channel in tuple(self._channels.values()):
            channel.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def hold(self, share_token: str) -> ShareChannel | str:
        """The running channel behind a link, kept until `release`; or how the link ended.

        That is completed, cancelled, expired or unknown. Raises StoreUnavailable.
        """
        channel = self._by_token.get(share_token)
        if channel is None:
            session = await self.shares.by_token(share_token)
            status = "unknown" if session is None else session.status_at(self.now_us())
            if session is None or status != "active":
                return status
            channel = self._channels.get(session.id) or self._made(session, share_token)
        channel.holds += 1
        try:
            await channel.ready()
        except BaseException:
            self.release(channel)
            raise
        if channel.ended is None:
            return channel
        self.release(channel)
        return channel.ended

    @staticmethod
    def release(channel: ShareChannel) -> None:
        """A channel that nobody holds any more stops."""
        channel.holds -= 1
        if not channel.holds:
            channel.stop()

    def _made(self, session: ShareSession, share_token: str) -> ShareChannel:
        channel = ShareChannel(self, session, share_token)
        self._channels[session.id] = self._by_token[share_token] = channel
        self._by_device.setdefault((session.instance_id, session.device_token), set()).add(channel)
        return channel

    def on_events(self, events: Sequence[Event]) -> None:
        """Listens to the bus."""
        for event in events:
            if isinstance(event, (PositionEvent, DeviceEvent)):
                channels = self._by_device.get((event.instance_id, event.device_token))
                if channels and (isinstance(event, DeviceEvent) or event.shown):
                    self._device_changed(tuple(channels), event)
            elif isinstance(event, SessionEvent):
                self._session_changed(event)

    def forget(self, channel: ShareChannel) -> None:
        session = channel.session
        if self._channels.get(session.id) is not channel:
            return
        del self._channels[session.id]
        self._by_token.pop(channel.share_token, None)
        of_device = self._by_device.get((session.instance_id, session.device_token), set())
        of_device.discard(channel)
        if not of_device:
            self._by_device.pop((session.instance_id, session.device_token), None)

    async def recheck(self, channel: ShareChannel) -> None:
        """Reads a channel's session again; a database that is down is asked again at the next turn."""
        try:
            await channel.verify()
        except StoreUnavailable:
            log.warning("A share session could not be read again", session=channel.session.id)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def time(self) -> float:
        return self.fanout.time()

    def _device_changed(self, channels: Sequence[ShareChannel], event: PositionEvent | DeviceEvent) -> None:
        for channel in channels:
            if channel.session.track_token is not None and getattr(event, "kind", None) in OTHER_TRIP:
                self.spawn(self.recheck(channel))
            channel.look()

    def _session_changed(self, event: SessionEvent) -> None:
        channel = self._channels.get(event.session_id)
        if channel is None:
            return
        if event.kind in CODES:
            channel.end(event.kind)
        elif event.kind == "updated":
            self.spawn(self.recheck(channel))


def end_at_once(viewer: Viewer, reason: str) -> None:
    """The end of a link that had ended before its viewer came (contract section 8)."""
    if reason in ("completed", "cancelled"):
        viewer.end(CODES[reason], last=_ended(reason))
    else:
        viewer.end(CloseCode.CREDENTIALS, "unknown or expired")


def _ended(reason: str) -> bytes:
    return text_frame(_encode({"type": "session_ended", "reason": reason}))
