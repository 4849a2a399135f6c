"""A number for each device in sixteen bytes: a dict with boxed numbers takes nine times as much, in each stream."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Hashable, Iterator
from typing import Literal


class Numbers:
    """Numbers by key, like a dict of them. Keys that are device numbers (int) are what it is good at."""

    __slots__ = ("_keys", "_kind", "_others", "_values")

    def __init__(self, kind: Literal["q", "d"]) -> None:
        """`kind`: q for whole numbers, d for seconds."""
        self._kind = kind
        self.clear()

    def clear(self) -> None:
        self._keys: array[int] = array("q")
        self._values: array[int] | array[float] = array(self._kind)
        self._others: dict[Hashable, float] | None = None

    def get(self, key: Hashable) -> float:
        """The number of a key; 0 where there is none."""
        if type(key) is int:
            keys = self._keys
            place = bisect_left(keys, key)
            return self._values[place] if place < len(keys) and keys[place] == key else 0
        return self._others.get(key, 0) if self._others is not None else 0

    def put(self, key: Hashable, number: float) -> None:
        if type(key) is int:
            keys = self._keys
            place = bisect_left(keys, key)
            if place < len(keys) and keys[place] == key:
                self._values[place] = number  # type: ignore[call-overload]
            else:
                keys.insert(place, key)
                self._values.insert(place, number)  # type: ignore[arg-type]
            return
        if self._others is None:
            self._others = {}
        self._others[key] = number

    def drop(self, key: Hashable) -> None:
        """Forgets a key, if it is known."""
        if type(key) is int:
            keys = self._keys
            place = bisect_left(keys, key)
            if place < len(keys) and keys[place] == key:
                del keys[place]
                del self._values[place]
        elif self._others is not None:
            self._others.pop(key, None)

    def items(self) -> Iterator[tuple[Hashable, float]]:
        yield from zip(self._keys, self._values, strict=True)
        if self._others is not None:
            yield from self._others.items()
