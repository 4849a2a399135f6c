"""A stream that outlives its sessions: the next one is opened before the last one ends (make before break).

Events of both sockets go into one queue; what both say is told apart by the ledger. After a socket was lost
the vendor's last positions fill the gap.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from waybridge import ProviderError, SourceUnavailable
from waybridge_mycartracks.payload import Fix, Gone
from waybridge_mycartracks.redact import clean
from waybridge_mycartracks.stream_socket import Socket

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from waybridge import ProviderContext
    from waybridge_mycartracks.payload import Event
    from waybridge_mycartracks.rest import Opening, Rest
    from waybridge_mycartracks.settings import MyCarTracksSettings

_QUEUE: Final = 1000
_DRAIN: Final = 500
_AHEAD: Final = 30.0
_LEAST_LIFE: Final = 5.0
_LIFE_WHEN_UNTOLD: Final = 300.0
_LONGEST_BACKOFF: Final = 60.0

Arrival: TypeAlias = Fix | Gone | list[Fix]
"""An event, or a page of last positions."""


class Live:
    """Sockets, renewals and gap fills of one run. `start`, then `next` until it raises, then `close`."""

    def __init__(self, rest: Rest, settings: MyCarTracksSettings, context: ProviderContext) -> None:
        self._rest = rest
        self._settings = settings
        self._context = context
        # When it is full, sockets are read no further until the gateway has taken some.
        self._queue: asyncio.Queue[Arrival | Exception] = asyncio.Queue(_QUEUE)
        self._failure: Exception | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: set[Socket] = set()

    async def start(self) -> None:
        """Opens the first socket; then fills the gap before it. Raises CredentialsRejected, SourceUnavailable."""
        socket, life = await self._open()
        self._spawn(self._fill(), "gap fill")
        self._spawn(self._keep(socket, life), "renewal")

    async def next(self) -> list[Arrival]:
        """What has come since the last call, at least one thing. Raises what ended the stream, after everything."""
        if self._failure is not None:
            raise self._failure
        arrivals: list[Arrival] = []
        first = await self._queue.get()
        while True:
            if isinstance(first, Exception):
                self._failure = first
                break
            arrivals.append(first)
            if len(arrivals) >= _DRAIN or self._queue.empty():
                break
            first = self._queue.get_nowait()
        if not arrivals and self._failure is not None:
            raise self._failure
        return arrivals

    async def close(self) -> None:
        """Ends every task and socket of this run; harmless when called again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(socket.close() for socket in self._sockets), return_exceptions=True)
        self._sockets.clear()

    async def _open(self) -> tuple[Socket, float]:
        """A connected socket of a new session, and the seconds until it is to be replaced."""
        opening = await self._rest.create_stream()
        since = self._context.clock.monotonic()
        life = self._life(opening)
        socket = Socket(opening.session, self._settings, self._context, self._take)
        self._sockets.add(socket)
        try:
            await socket.open()
        except BaseException:
            self._sockets.discard(socket)
            raise
        return socket, max(since + life - self._context.clock.monotonic(), 0.0)

    def _life(self, opening: Opening) -> float:
        """Until 30 s before the session expires by the vendor's own clock, but never under 5 s."""
        expires_at = opening.session.expires_at
        if expires_at is None:
            return _LIFE_WHEN_UNTOLD - _AHEAD
        left = (expires_at - (opening.vendor_now or self._context.clock.now())).total_seconds()
        return max(left - _AHEAD, _LEAST_LIFE)

    async def _take(self, event: Event) -> None:
        if isinstance(event, (Fix, Gone)):
            await self._queue.put(event)

    async def _keep(self, current: Socket, life: float) -> None:
        """Replaces the socket in time, for ever. A lost socket ends the run, unless its successor is on the way."""
        attempt = 0
        while True:
            if await self._ends_within(current, life):
                return await self._fail(SourceUnavailable(f"the stream's socket ended: {current.ended.result()}"))
            try:
                successor, life = await self._open()
            except SourceUnavailable as error:
                attempt += 1
                life = max(error.retry_after or 0.0, _LEAST_LIFE, _backoff(attempt))
                self._context.log.warning("the stream could not be renewed", error=str(error), again_in=round(life))
                continue
            except ProviderError as error:
                return await self._fail(error)
            attempt = 0
            self._context.count("stream_renewed")
            if current.ended.done():
                self._spawn(self._fill(), "gap fill")
            self._spawn(self._retire(current), "retiring socket")
            current = successor

    async def _ends_within(self, socket: Socket, seconds: float) -> bool:
        timer = asyncio.ensure_future(self._context.clock.sleep(seconds))
        try:
            awaited: set[asyncio.Future[Any]] = {timer, socket.ended}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        return socket.ended.done()

    async def _retire(self, socket: Socket) -> None:
        """Closes a replaced socket, after the last thing it may have noticed before its successor began."""
        await self._ends_within(socket, socket.session.min_interval_seconds)
        await socket.close()
        self._sockets.discard(socket)

    async def _fill(self) -> None:
        """Reads the last positions once, again after a while when it fails; the stream goes on meanwhile."""
        attempt = 0
        while True:
            try:
                async with aclosing(self._rest.last_positions()) as pages:
                    async for page in pages:
                        await self._queue.put(page)
            except SourceUnavailable as error:
                attempt += 1
                wait = max(error.retry_after or 0.0, _LEAST_LIFE, _backoff(attempt))
                said = clean(str(error))
                self._context.log.warning("last positions could not be read", error=said, again_in=round(wait))
                await self._context.clock.sleep(wait)
            except ProviderError as error:
                return await self._fail(error)
            else:
                return None

    async def _fail(self, error: ProviderError) -> None:
        await self._queue.put(error)

    def _spawn(self, work: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.create_task(work, name=f"mycartracks {self._context.connection_id} {what}")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        """A task that broke ends the run with its own exception, so that it is never a silent one."""
        self._tasks.discard(task)
        if task.cancelled() or (broken := task.exception()) is None:
            return
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(broken if isinstance(broken, Exception) else RuntimeError(repr(broken)))


def _backoff(attempt: int) -> float:
    """Full jitter over 1, 2, 4 ... 60 s."""
    return random.uniform(0, min(_LONGEST_BACKOFF, 2.0 ** min(attempt, 6)))  # noqa: S311 - jitter, not a secret
