"""A WebSocket as the gateway serves it: its settings, its frames in, its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import WSMessage, WSMsgType, web

from waybridge.streams.wire import CloseCode

if TYPE_CHECKING:
    from waybridge.streams.fanout import Fanout, Viewer

HEARTBEAT_SECONDS = 30.0
FRAMES = 120
FRAMES_SECONDS = 10.0
"""So many frames in so many seconds are a flood (1008)."""
BAD_FRAMES = 10
"""So many frames that make no sense are forgiven (1008 with the next)."""
ENDS = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})


class Socket(web.WebSocketResponse):
    """aiohttp's WebSocket on a diet: with these in slots the rest of it shares the table of its names (1.3 kB less)."""

    __slots__ = (
        "_autoclose", "_autoping", "_compress", "_decode_text", "_heartbeat", "_max_msg_size", "_pong_heartbeat",
        "_protocols", "_receive_timeout", "_timeout", "_writer_limit",
    )  # fmt: skip


async def accept(request: web.Request, fanout: Fanout, kind: str, *, max_frame: int) -> tuple[Socket, Viewer]:
    """Accepts a WebSocket and takes it into the fan-out; the caller lets it go with `fanout.leave`.

    Raises web.HTTPBadRequest for a request that is no handshake, ConnectionResetError when the client has gone.
    Nothing is compressed (that costs more than it saves, and a context per viewer); a dead peer is noticed by
    ping and pong. `max_frame`: bytes that a frame from the client may have; more closes with 1009.
    """
    ws = Socket(heartbeat=HEARTBEAT_SECONDS, compress=False, autoclose=False, max_msg_size=max_frame + 1)
    await ws.prepare(request)
    if request.transport is None:
        raise ConnectionResetError("the client has gone")
    return ws, fanout.join(request.transport, kind, ws)


class Frames:
    """What a client says, frame by frame, until its connection ends: JSON objects, and its manners.

    Floods and the eleventh senseless frame close with 1008. After a close of ours, frames are read and ignored.
    With `strict`, None stands for a frame that makes no sense. It is a plain iterator, and nothing that was said (a
    token first of all) is kept while the client is silent: memory counts here.
    """

    __slots__ = ("_arrived", "_bad", "_strict", "_viewer", "_window", "_ws")

    def __init__(self, ws: web.WebSocketResponse, viewer: Viewer, *, strict: bool = False) -> None:
        self._ws = ws
        self._viewer = viewer
        self._strict = strict
        self._bad = self._arrived = 0
        self._window = 0.0

    def __aiter__(self) -> Frames:
        return self

    async def __anext__(self) -> dict[str, Any] | None:
        while (message := await self._ws.receive()).type not in ENDS:
            if not self._heard():
                continue
            found = self._read(message)
            if self._viewer.closing is None and (found is not None or self._strict):
                return found
            del message, found
        raise StopAsyncIteration

    async def until_gone(self) -> None:
        """Waits for the client to answer a close of ours (it is torn down if it does not)."""
        async for _ in self:
            pass

    def _heard(self) -> bool:
        """Whether a frame counts: not after a close of ours, not one too many."""
        viewer = self._viewer
        if viewer.closing is not None:
            return False
        now = viewer.time()
        if now - self._window >= FRAMES_SECONDS:
            self._window, self._arrived = now, 0
        self._arrived += 1
        if self._arrived > FRAMES:
            viewer.end(CloseCode.MISUSE, "too many frames")
            return False
        return True

    def _read(self, message: WSMessage) -> dict[str, Any] | None:
        """The frame as a JSON object, or None for one that makes no sense."""
        found = _object(message.data) if message.type is WSMsgType.TEXT else None
        if found is None:
            self._bad += 1
            if self._bad > BAD_FRAMES:
                self._viewer.end(CloseCode.MISUSE, "too many frames that make no sense")
        return found


async def turn_away(
    request: web.Request, fanout: Fanout, kind: str, end: Callable[[Viewer], None], *, max_frame: int
) -> web.StreamResponse:
    """Accepts a WebSocket only to tell it why it cannot stay."""
    ws, viewer = await accept(request, fanout, kind, max_frame=max_frame)
    try:
        end(viewer)
        await Frames(ws, viewer).until_gone()
    finally:
        fanout.leave(viewer)
    return ws


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
