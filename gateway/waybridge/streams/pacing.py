"""When each device of a stream may be told again. Pure: the clock is handed in, in seconds."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from waybridge.streams.compact import Numbers


class Pace:
    """A device's positions come no closer than `interval` seconds; one that comes too early waits, its newest alone.

    `told` says whether a device was told since the last snapshot: one that was told in a snapshot and has not moved
    since has no entry here, and waits from the end of that snapshot on.
    """

    __slots__ = ("_caught_up", "_due", "_interval", "_next", "_told", "_waiting")

    def __init__(self, interval: float, told: Callable[[int], bool]) -> None:
        self._interval = interval
        self._told = told
        self._next = Numbers("d")
        self._caught_up = 0.0
        self._due: list[tuple[float, int]] = []
        self._waiting: set[int] = set()

    def moved(self, device_id: int, now: float) -> bool:
        """Whether a device that has moved is told now; else it waits for `due`."""
        if device_id in self._waiting:
            return False
        when = self._when(device_id)
        if now >= when:
            self._next.put(device_id, now + self._interval)
            return True
        self._waiting.add(device_id)
        heapq.heappush(self._due, (when, device_id))
        return False

    def sent(self, device_id: int, now: float) -> None:
        """Its newest position goes out now, whatever brought it: it is not told again when its wait is over."""
        self._waiting.discard(device_id)
        if self._next.get(device_id):
            self._next.put(device_id, now + self._interval)
        else:
            self._caught_up = now

    def due(self, now: float) -> list[int]:
        """The devices whose wait is over; they are told now."""
        found = []
        while self._due and self._due[0][0] <= now:
            _, device_id = heapq.heappop(self._due)
            if device_id not in self._waiting:
                continue
            when = self._when(device_id)
            if when > now:
                heapq.heappush(self._due, (when, device_id))
                continue
            self._waiting.discard(device_id)
            self._next.put(device_id, now + self._interval)
            found.append(device_id)
        if not self._due:
            self._due, self._waiting = [], set()  # an emptied set keeps its room
        return found

    @property
    def next(self) -> float | None:
        """When `due` has something again."""
        return self._due[0][0] if self._due else None

    def _when(self, device_id: int) -> float:
        when = self._next.get(device_id)
        if not when and self._told(device_id):
            when = self._caught_up + self._interval
        return when
