"""Reading positions: one read per chat and interval, only while somebody shares there.

There is no webhook that carries coordinates, so positions are polled: 2 s and 10 s after a share began, then every
interval +-10 %. Every chat known is read at start and every ten minutes, because webhooks are best effort. The keyed
state is the truth (another node may have received the webhook); what is in memory only says when to read next.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from waybridge import Batch, CompareAndSet, Put, PutIfAbsent, SharingStopped, SourceUnavailable
from waybridge_imessage import fixes, shares
from waybridge_imessage.linq import Refused
from waybridge_imessage.schedule import Schedule
from waybridge_imessage.webhook import CHANGED, chat_intents, chat_key, person_key, reports_of
from waybridge_imessage.wire import Reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import datetime

    from waybridge import ProviderContext
    from waybridge_imessage.linq import Linq
    from waybridge_imessage.settings import IMessageSettings
    from waybridge_imessage.shares import Person
    from waybridge_imessage.wire import Feature

LOOK_EVERY = 5.0
LOOK_EAGERLY = 0.25
EAGER_FOR = 3.0
RECONCILE_EVERY = 600.0
RECONCILE_AGAIN = 60.0
CONFIRM_AFTER = timedelta(seconds=60)
CHECK = "check/"


class Poller:
    """Reads chats and turns what is seen into batches. One run at a time."""

    def __init__(self, settings: IMessageSettings, context: ProviderContext, linq: Linq) -> None:
        self._settings = settings
        self._context = context
        self._linq = linq
        self._schedule = Schedule(settings.poll_interval_seconds)
        self._nudged = asyncio.Event()
        self._eager_until = 0.0
        self._people: dict[str, Person] = {}
        self._chats: dict[str, frozenset[str]] = {}
        self._known_shares: set[tuple[object, ...]] = set()
        self._changed: Any = None
        self._reconcile_at = 0.0
        self._seen_in: dict[str, tuple[str, float]] = {}
        self._succeeded: dict[str, float] = {}
        self._refused: set[str] = set()
        self._reads: dict[asyncio.Task[Reading], tuple[str, datetime]] = {}

    def nudge(self) -> None:
        """The state is about to change: look at it often for a moment, not only every few seconds."""
        self._eager_until = self._now() + EAGER_FOR
        self._nudged.set()

    async def run(self, reconcile: Callable[[], Awaitable[None]]) -> AsyncIterator[Batch]:
        """Batches for ever; `reconcile` is awaited at start and every ten minutes.

        Raises SourceUnavailable when nothing can be read, CredentialsRejected.
        """
        self._schedule = Schedule(self._settings.poll_interval_seconds)
        self._known_shares = set()
        self._changed, self._reconcile_at = None, self._now()
        try:
            while True:
                await self._look(reconcile)
                self._start_due_reads()
                await self._wait()
                async for batch in self._finished():
                    yield batch
        finally:
            reads, self._reads = self._reads, {}
            for task in reads:
                task.cancel()
            await asyncio.gather(*reads, return_exceptions=True)

    async def _look(self, reconcile: Callable[[], Awaitable[None]]) -> None:
        """Reads the state where it changed; every ten minutes it reconciles and has all known chats read."""
        if self._now() < self._reconcile_at:
            if await self._context.state.get(CHANGED) != self._changed:
                await self._load()
            return
        self._reconcile_at = self._now() + RECONCILE_EVERY
        await self._load()
        chats = {*self._settings.chats, *self._chats, *self._active()}
        try:
            await reconcile()
        except SourceUnavailable:
            if not chats:
                raise
            self._reconcile_at = self._now() + RECONCILE_AGAIN  # what can be read is read meanwhile
        for chat in chats:
            self._schedule.force(chat)

    async def _finished(self) -> AsyncIterator[Batch]:
        """What the reads that have ended mean, and the shares that no read can end."""
        for task in [task for task in self._reads if task.done()]:
            chat, read_at = self._reads.pop(task)
            async for batch in self._digest(chat, read_at, task):
                yield batch
        for handle in [h for h, p in self._people.items() if p.shares and not self._readable_in(h)]:
            async for batch in self._absent(None, handle):
                yield batch

    async def _load(self) -> None:
        """Reads the state; plans the first reads of shares that are new, and the chats that `ask` wants read."""
        state = self._context.state
        self._changed = await state.get(CHANGED)
        kept = await state.items("person/")
        self._people = {key.removeprefix("person/"): shares.load(value) for key, value in kept.items()}
        chats = await state.items("chat/")
        self._chats = {
            key.removeprefix("chat/"): frozenset(value["handles"])
            for key, value in chats.items()
            if isinstance(value, dict)
        }
        for key in await state.items(CHECK):
            self._schedule.force(key.removeprefix(CHECK))
            await state.put(key, None)
        current = {
            (handle, share.line, share.began_at, share.ends_at): (handle, share)
            for handle, person in self._people.items()
            for share in person.shares
        }
        for handle, share in (current[key] for key in current.keys() - self._known_shares):
            confirm = None if share.ends_at is None else share.ends_at + CONFIRM_AFTER - self._context.clock.now()
            for chat in self._readable_in(handle):
                self._schedule.begin(chat, self._now(), None if confirm is None else confirm.total_seconds() + 1)
        self._known_shares = set(current)

    def _active(self) -> set[str]:
        """The chats in which somebody shares."""
        return {chat for handle in self._people for chat in self._readable_in(handle)}

    def _readable_in(self, handle: str) -> set[str]:
        """Where a sharing person may be read: where the share was sent, where it was seen, else any chat of theirs."""
        person = self._people.get(handle)
        if person is None or not person.shares:
            return set()
        chats = set(person.chats)
        if handle in self._seen_in:
            chats.add(self._seen_in[handle][0])
        return chats or {c for c, handles in self._chats.items() if handle in handles} or set(self._settings.chats)

    def _start_due_reads(self) -> None:
        for chat in self._schedule.due(self._now(), active=self._active(), reading=self._reading()):
            task = asyncio.create_task(self._linq.location(chat), name=f"imessage read {self._context.connection_id}")
            self._reads[task] = (chat, self._context.clock.now())

    def _reading(self) -> set[str]:
        return {chat for chat, _ in self._reads.values()}

    async def _wait(self) -> None:
        """Until a read ends, a nudge comes, the next read is due, or it is time to look at the state again."""
        now = self._now()
        look = LOOK_EAGERLY if now < self._eager_until else LOOK_EVERY
        wait = min(look, self._schedule.wait(now, active=self._active(), reading=self._reading()))
        waits = [asyncio.create_task(self._context.clock.sleep(wait)), asyncio.create_task(self._nudged.wait())]
        try:
            await asyncio.wait({*waits, *self._reads}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self._nudged.clear()

    async def _digest(self, chat: str, read_at: datetime, task: asyncio.Task[Reading]) -> AsyncIterator[Batch]:
        """What one read means: shares found, positions, and people who are not there."""
        reading = self._reading_of(chat, task)
        if reading is None:
            return
        self._succeeded[chat] = self._now()
        if reading.skipped:
            self._context.count("feature_skipped", reading.skipped)
        for handle, feature in reading.features.items():
            async for batch in self._present(chat, handle, feature, read_at):
                yield batch
        for handle in [h for h in self._people if h not in reading.features and chat in self._readable_in(h)]:
            async for batch in self._absent(chat, handle):
                yield batch
        self._schedule.again(chat, self._now())

    def _reading_of(self, chat: str, task: asyncio.Task[Reading]) -> Reading | None:
        """What was read; None where nothing was learnt, and the chat is read again later."""
        try:
            reading = task.result()
        except SourceUnavailable as error:
            self._schedule.again(chat, self._now(), error.retry_after or 0.0)
            if not self._others_succeed(chat):
                raise
            self._context.count("read_failed")
            return None
        except Refused as refusal:
            self._context.count("read_refused")
            if chat not in self._refused:
                self._refused.add(chat)
                self._context.log.warning("Linq refuses to read a chat", status=refusal.status, code=refusal.code)
            if refusal.status == HTTPStatus.NOT_FOUND:  # there is no such chat, so nobody shares in it
                return Reading({})
            self._schedule.again(chat, self._now())
            return None
        self._refused.discard(chat)
        return reading

    def _others_succeed(self, chat: str) -> bool:
        """Whether another chat could be read lately, so that this chat's trouble is its own."""
        since = self._now() - 1.5 * self._settings.poll_interval_seconds - LOOK_EVERY
        return any(at >= since for other, at in self._succeeded.items() if other != chat)

    async def _present(self, chat: str, handle: str, feature: Feature, read_at: datetime) -> AsyncIterator[Batch]:
        state, key, source = self._context.state, person_key(handle), self._context.source(handle)
        kept = await state.get(key)
        person = shares.load(kept)
        after, change = shares.found(person, chat, feature.updated_at, read_at)
        if change is not None:
            reports = reports_of(source, person, after, change, ended_at=None, now=read_at)
            value = shares.dump(shares.introduced(after))
            yield Batch(
                reports=reports,
                intents=[PutIfAbsent(key, value) if kept is None else CompareAndSet(key, kept, value)],
            )
            person = shares.load(await state.get(key))
        self._people[handle] = person
        await self._remember(chat, handle)
        if not person.shares or (person.noted_at is not None and person.noted_at >= read_at):
            self._context.count("position_after_stop")  # asked for before the stop, or an echo: never published
            return
        self._seen_in[handle] = (chat, self._now())
        memory = fixes.load(await state.get(fixes.key(handle)))
        position = fixes.position(source, feature, memory, self._context.clock.now())
        after_read = fixes.seen(memory, position)
        if position is not None:
            yield Batch(reports=[position], intents=[Put(fixes.key(handle), fixes.dump(after_read))])
        elif after_read != memory:
            await state.put(fixes.key(handle), fixes.dump(after_read))

    async def _remember(self, chat: str, handle: str) -> None:
        """Keeps who was seen in a chat."""
        if handle in self._chats.get(chat, ()):
            return
        for intent in chat_intents(chat, await self._context.state.get(chat_key(chat)), handle):
            await self._context.state.put(intent.key, intent.value)
        self._chats[chat] = self._chats.get(chat, frozenset()) | {handle}

    async def _absent(self, chat: str | None, handle: str) -> AsyncIterator[Batch]:
        """A sharing person of whom a read showed nothing: no position yet, or over (expired or lapsed)."""
        seen_in, seen_at = self._seen_in.get(handle, (chat, 0.0))
        if seen_in != chat and self._now() - seen_at < 1.5 * self._settings.poll_interval_seconds:
            return
        state, now, key = self._context.state, self._context.clock.now(), person_key(handle)
        kept = await state.get(key)
        person = after = shares.load(kept)
        memory = fixes.missed(fixes.load(await state.get(fixes.key(handle))), now, not_before=person.noted_at)
        await state.put(fixes.key(handle), fixes.dump(memory))
        if memory.misses == fixes.NO_LOCATION_AFTER:
            self._context.count("no_location")
            hint = "handle_mismatch" if "@" in handle else None
            self._context.log.warning("A share shows no location in its chat", hint=hint)
        lapsed = memory.empty_since is not None and now - memory.empty_since >= self._lapse_after
        cause: Literal["expired", "lapsed"] = "lapsed"
        ended_at = now
        for share in person.shares:
            if share.ends_at is not None and now > share.ends_at + CONFIRM_AFTER:
                cause, ended_at = "expired", share.ends_at
            elif not lapsed:
                continue
            after, _ = shares.over(after, share, now)
        self._people[handle] = after
        if after == person:
            return
        source = self._context.source(handle)
        stopped = [] if after.shares else [SharingStopped(source=source, ended_at=ended_at, cause=cause)]
        yield Batch(reports=stopped, intents=[CompareAndSet(key, kept, shares.dump(after))])
        self._people[handle] = shares.load(await state.get(key))

    @property
    def _lapse_after(self) -> timedelta:
        return timedelta(seconds=self._settings.lapse_after)

    def _now(self) -> float:
        return self._context.clock.monotonic()
