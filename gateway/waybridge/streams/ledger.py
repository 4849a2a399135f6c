"""The numbers of a stream: what was sent, what is owed, and how much was left out. Pure.

Every event of a stream is one number, whether it is sent or superseded by a newer one of the same key before it
could be. What is sent carries `seq` and, when numbers before it were left out, `dropped`; so a client's `dropped`
and what it received always add up to the last `seq`. What the gateway itself says (connected, heartbeat, error) has
numbers too, but when those are lost on the way nothing is: a client that comes back never finds them in `dropped`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from waybridge.streams.compact import Numbers

SAID_KEPT = 1000


class Ledger:
    """`last` is the number of the last event that was sent (or left out before it)."""

    __slots__ = ("_said", "_sent", "begun", "last", "owed", "skipped")

    def __init__(self) -> None:
        self.begun = False
        self.last = 0
        self.skipped = 0
        self.owed: dict[Hashable, None] = {}
        self._sent = Numbers("q")
        self._said: list[int] = []

    def happened(self, key: Hashable) -> None:
        """An event: from now on the newest of its key is owed."""
        if key in self.owed:
            self.skipped += 1
        else:
            self.owed[key] = None

    def sending(self, key: Hashable) -> tuple[int, int]:
        """(seq, dropped) of the newest event of a key, which goes out now."""
        self._settle(key)
        dropped, self.skipped = self.skipped, 0
        self.last += dropped + 1
        self._sent.put(key, self.last)
        return self.last, dropped

    def saying(self) -> int:
        """The number of something that the gateway itself says now."""
        self.last += 1
        self._said.append(self.last)
        del self._said[:-SAID_KEPT]
        return self.last

    def told(self, key: Hashable) -> bool:
        """Whether something of a key was sent since the last snapshot."""
        return self._sent.get(key) > 0

    def void(self, key: Hashable) -> None:
        """What was owed has nothing to say any more (the device is not to be seen): it counts as left out."""
        if self._settle(key):
            self.skipped += 1
        self._sent.drop(key)

    def resume(self, after: int) -> int | None:
        """Goes back to what a client has; the number of events that it will never get, or None if that is unknown.

        What was sent after `after` is owed again, the newest of each key.
        """
        if not self.begun or not 0 <= after <= self.last:
            return None
        unheard = sum(number > after for number in self._said)
        happened = self.last - after - unheard + len(self.owed) + self.skipped
        lost = [key for key, number in sorted(self._sent.items(), key=_number) if number > after]
        self.owed = dict.fromkeys([key for key in lost if key not in self.owed]) | self.owed
        dropped = happened - len(self.owed)
        self.last, self.skipped = after + dropped, 0
        self._said = [number for number in self._said if number <= after]
        for key in lost:
            self._sent.drop(key)
        return dropped

    def restart(self, keys: Iterable[Hashable], base: int = 0) -> None:
        """Begins with a snapshot: all `keys` are owed, numbers go on from `base` or from where they were."""
        self.begun = True
        self.last = max(self.last + len(self.owed) + self.skipped, base)
        self.skipped = 0
        self._sent.clear()
        self._said.clear()
        self.owed = dict.fromkeys(keys)

    def _settle(self, key: Hashable) -> bool:
        """Owes a key no more; whether it was owed."""
        owed = self.owed.pop(key, self) is None
        if owed and not self.owed:
            self.owed = {}  # an emptied dict keeps its room: kilobytes after a fleet's snapshot
        return owed


def _number(sent: tuple[Hashable, float]) -> float:
    return sent[1]
