"""One WebSocket of one stream session: opened at an address that was checked, read, watched, closed.

A frame over 64 KiB closes it. Reading stops while its receiver is busy: nothing is dropped.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from yarl import URL

from waybridge import SourceUnavailable
from waybridge_mycartracks.payload import Connected, Event, Heartbeat, Trouble, Unreadable, parse_event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from waybridge import ProviderContext
    from waybridge_mycartracks.payload import StreamSession
    from waybridge_mycartracks.settings import MyCarTracksSettings

_LARGEST_FRAME: Final = 65_536
_HANDSHAKE: Final = 10.0
_GOODBYE: Final = 0.5


def stream_address(session: StreamSession, settings: MyCarTracksSettings) -> URL:
    """The session's address, if it is encrypted and on an allowed host. Raises SourceUnavailable.

    The one URL object is checked and opened, so that no second parser can read it differently.
    """
    try:
        url = URL(session.websocket_url)
        host = (url.host or "").lower()
    except ValueError:
        host = ""
    if not host:
        raise SourceUnavailable("the stream's websocketUrl is no address")
    if url.scheme != "wss" and not (url.scheme == "ws" and settings.plain_sockets):
        raise SourceUnavailable("the stream's websocketUrl is not encrypted (wss); it is not opened")
    if host not in settings.stream_hosts or url.user is not None or url.password is not None:
        raise SourceUnavailable("the stream's websocketUrl names a host that is not in allowed_stream_hosts")
    return url


class Socket:
    """A socket and the two tasks that read and watch it. `ended` is the reason once it is over.

    `take` is handed every event that says something of a vehicle; the socket waits for it.
    """

    def __init__(
        self,
        session: StreamSession,
        settings: MyCarTracksSettings,
        context: ProviderContext,
        take: Callable[[Event], Awaitable[None]],
    ) -> None:
        self.session = session
        self._settings = settings
        self._context = context
        self._take = take
        self._ws: aiohttp.ClientWebSocketResponse[bool] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._heard = context.clock.monotonic()
        self._busy = False
        self._greeted = asyncio.Event()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Connects and waits for the stream's greeting. Raises SourceUnavailable; then it is closed."""
        url = stream_address(self.session, self._settings)
        try:
            self._ws = await self._connect(url)
            name = f"mycartracks {self._context.connection_id}"
            self._heard = self._context.clock.monotonic()
            self._tasks = [
                asyncio.create_task(self._read(self._ws), name=f"{name} socket"),
                asyncio.create_task(self._watch(), name=f"{name} watchdog"),
            ]
            for task in self._tasks:
                task.add_done_callback(self._broken)
            await self._greeting()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends the tasks and the socket; harmless when called again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._end("closed by us")
        if self._ws is not None and not self._ws.closed:
            await self._ws.close()

    async def _connect(self, url: URL) -> aiohttp.ClientWebSocketResponse[bool]:
        failure: str
        try:
            async with asyncio.timeout(_HANDSHAKE):
                ws = await self._context.session.ws_connect(
                    url,
                    max_msg_size=_LARGEST_FRAME,
                    heartbeat=self._settings.ping_seconds,
                    timeout=aiohttp.ClientWSTimeout(ws_receive=None, ws_close=_GOODBYE),
                )
        except TimeoutError:
            failure = "was not answered in time"
        except aiohttp.WSServerHandshakeError as error:
            failure = f"was refused with {error.status}"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = f"failed ({type(error).__name__})"
        else:
            if not ws._response.history:  # noqa: SLF001 - the only trace of a redirect to an unchecked host
                return ws
            await ws.close()
            failure = "was redirected"
        # Raised outside of the handler: the error in the chain would carry the address along.
        raise SourceUnavailable(f"the stream's socket {failure}")

    async def _greeting(self) -> None:
        """`connected` (or any other event) within 10 s."""
        greeted = asyncio.create_task(self._greeted.wait(), name="mycartracks greeting")
        late = asyncio.ensure_future(self._context.clock.sleep(_HANDSHAKE))
        try:
            awaited: set[asyncio.Future[Any]] = {greeted, late, self.ended}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            greeted.cancel()
            late.cancel()
        if self.ended.done():
            raise SourceUnavailable(f"the stream's socket ended before it began: {self.ended.result()}")
        if not self._greeted.is_set():
            self._context.count("no_greeting")
            raise SourceUnavailable(f"the stream's socket did not say connected within {_HANDSHAKE:.0f} s")

    async def _read(self, ws: aiohttp.ClientWebSocketResponse[bool]) -> None:
        while True:
            message = await ws.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                await self._handle(parse_event(message.data, self._settings.speed_unit))
            elif message.type is aiohttp.WSMsgType.BINARY:
                self._context.count("binary_frame")
            else:
                return self._end(f"closed with code {ws.close_code}")

    async def _handle(self, event: Event) -> None:
        if isinstance(event, Unreadable):
            self._context.count(event.why)
            return
        self._heard = self._context.clock.monotonic()
        self._greeted.set()
        match event:
            case Connected() | Heartbeat():
                return
            case Trouble(code, message):
                self._context.count("vendor_error")
                self._context.log.warning("the stream reported an error", code=code, said=message)
            case _:
                self._busy = True
                await self._take(event)
                self._busy = False
                self._heard = self._context.clock.monotonic()

    async def _watch(self) -> None:
        """Two heartbeats and 15 s of silence end the socket; not while its receiver keeps it from being read."""
        limit = 2 * self.session.heartbeat_seconds + 15
        while True:
            quiet = self._context.clock.monotonic() - self._heard
            if quiet >= limit and not self._busy:
                self._context.count("silent_socket")
                return self._end(f"silent for {quiet:.0f} s")
            await self._context.clock.sleep(max(limit - quiet, 1.0))

    def _broken(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._context.log.error("reading the stream's socket broke", exc_info=task.exception())
            self._end("reading it broke")

    def _end(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_result(why)
