"""A WebSocket as the gateway serves it: its settings, its frames in, its end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
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


async def accept(
    request: web.Request, fanout: Fanout, kind: str, *, max_frame: int
) -> tuple[web.WebSocketResponse, Viewer]:
    """Accepts a WebSocket and takes it into the fan-out; the caller lets it go with `fanout.leave`.

    Raises web.HTTPBadRequest for a request that is no handshake, ConnectionResetError when the client has gone.
    Nothing is compressed (that costs more than it saves, and a context per viewer); a dead peer is noticed by
    ping and pong. `max_frame`: bytes that a frame from the client may have; more closes with 1009.
    """
    ws = web.WebSocketResponse(
        heartbeat=HEARTBEAT_SECONDS, compress=False, autoclose=False, max_msg_size=max_frame + 1
    )
    await ws.prepare(request)
    if request.transport is None:
        raise ConnectionResetError("the client has gone")
    return ws, fanout.join(request.transport, kind, ws)


@contextlib.asynccontextmanager
async def websocket(
    request: web.Request, fanout: Fanout, kind: str, *, max_frame: int
) -> AsyncIterator[tuple[web.WebSocketResponse, Viewer]]:
    """`accept`, until the block is left."""
    ws, viewer = await accept(request, fanout, kind, max_frame=max_frame)
    try:
        yield ws, viewer
    finally:
        fanout.leave(viewer)


class Talk:
    """What a client says: its frames as JSON objects, and its manners.

    Floods and the eleventh senseless frame close with 1008. After a close of ours, frames are read and ignored.
    """

    __slots__ = ("_arrived", "_bad", "_viewer", "_window")

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._bad = self._arrived = 0
        self._window = 0.0

    def heard(self) -> bool:
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

    def read(self, message: WSMessage) -> dict[str, Any] | None:
        """The frame as a JSON object, or None for one that makes no sense."""
        found = _object(message.data) if message.type is WSMsgType.TEXT else None
        if found is None:
            self._bad += 1
            if self._bad > BAD_FRAMES:
                self._viewer.end(CloseCode.MISUSE, "too many frames that make no sense")
        return found


async def objects(
    ws: web.WebSocketResponse, viewer: Viewer, *, strict: bool = False
) -> AsyncIterator[dict[str, Any] | None]:
    """The client's frames until the connection ends; with `strict`, None for one that makes no sense."""
    talk = Talk(viewer)
    async for message in ws:
        if message.type is WSMsgType.ERROR:
            break
        if talk.heard():
            found = talk.read(message)
            if viewer.closing is None and (found is not None or strict):
                yield found


async def until_gone(ws: web.WebSocketResponse, viewer: Viewer) -> None:
    """Waits for the client to answer a close of ours (it is torn down if it does not)."""
    async for _ in objects(ws, viewer):
        pass


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
