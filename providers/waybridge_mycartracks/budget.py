"""The client-side limit on requests: never more than so many in any minute."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from waybridge import ProviderContext

_WINDOW: Final = 60.0


class Budget:
    """Lets `per_minute` requests pass in any window of 60 s; the next ones wait, in order."""

    def __init__(self, per_minute: int, context: ProviderContext) -> None:
        self._clock = context.clock
        self._starts: deque[float] = deque([float("-inf")] * per_minute, maxlen=per_minute)

    async def spend(self) -> None:
        """Returns when the request may go out. A caller cancelled while it waits has spent it."""
        now = self._clock.monotonic()
        start = max(now, self._starts[0] + _WINDOW)
        self._starts.append(start)
        if start > now:
            await self._clock.sleep(start - now)
