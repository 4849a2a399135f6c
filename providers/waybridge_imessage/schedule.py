"""When which chat is read next. Times are monotonic seconds; nothing here reads a clock."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

FIRST_READS = (2.0, 10.0)


class Schedule:
    """Reads that are forced (whoever shares), planned once, and the next regular one of each chat."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._forced: set[str] = set()
        self._planned: dict[str, set[float]] = {}
        self._next: dict[str, float] = {}

    def force(self, chat: str) -> None:
        """Read as soon as may be, even if nobody is known to share there."""
        self._forced.add(chat)

    def begin(self, chat: str, now: float, confirm_in: float | None) -> None:
        """A share is new in a chat: read early, and once when its time should be up."""
        first, second = FIRST_READS
        times = {now + min(first, self._interval), now + second}
        if confirm_in is not None:
            times.add(now + max(first, confirm_in))
        self._planned.setdefault(chat, set()).update(times)

    def again(self, chat: str, now: float, at_least: float = 0.0) -> None:
        """A read has ended: the next is an interval away (+-10 %), or as much later as the vendor asks."""
        jittered = self._interval * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, not a secret
        self._next[chat] = now + max(jittered, at_least)
        if at_least:
            self._planned[chat] = {at for at in self._planned.get(chat, ()) if at >= now + at_least}

    def due(self, now: float, *, active: AbstractSet[str], reading: AbstractSet[str]) -> list[str]:
        """The chats to read now, taken off the plan. Plans of chats in which nobody shares any more are dropped."""
        for plan in (self._planned, self._next):
            for chat in plan.keys() - active:
                del plan[chat]
        chats = [chat for chat in self._forced | active if chat not in reading and self._at(chat, now) <= now]
        for chat in chats:
            self._forced.discard(chat)
            self._next.pop(chat, None)
            if chat in self._planned:
                self._planned[chat] = {at for at in self._planned[chat] if at > now}
        return chats

    def wait(self, now: float, *, active: AbstractSet[str], reading: AbstractSet[str]) -> float:
        """Seconds until the next read is due; infinity when none is."""
        waits = [self._at(chat, now) - now for chat in (self._forced | active) - reading]
        return max(0.0, min(waits, default=float("inf")))

    def _at(self, chat: str, now: float) -> float:
        if chat in self._forced:
            return now
        return min((*self._planned.get(chat, ()), self._next.get(chat, float("inf"))), default=float("inf"))
