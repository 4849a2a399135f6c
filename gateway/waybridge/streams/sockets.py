"""A WebSocket as the gateway serves it: its settings, its frames in, its end."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from waybridge.streams.wire import CloseCode

if TYPE_CHECKING:
    from waybridge.streams.fanout import Fanout, Viewer

HEARTBEAT_SECONDS = 30.0
FRAMES = 120
FRAMES_SECONDS = 10.0
"""So many frames in so many seconds are a flood (1008)."""
BAD_FRAMES = 10
"""So many frames that make no sense are forgiven (1008 with the next)."""


@contextlib.asynccontextmanager
async def websocket(
    request: web.Request, fanout: Fanout, kind: str, *, max_frame: int
) -> AsyncIterator[tuple[web.WebSocketResponse, Viewer]]:
    """Accepts a WebSocket and takes it into the fan-out until the block is left.

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
    viewer = fanout.join(request.transport, kind, ws)
    try:
        yield ws, viewer
    finally:
        fanout.leave(viewer)


async def objects(
    ws: web.WebSocketResponse, viewer: Viewer, *, strict: bool = False
) -> AsyncIterator[dict[str, Any] | None]:
    """The client's frames as JSON objects until the connection ends; with `strict`, None for one that makes no sense.

    Floods and the eleventh senseless frame close with 1008. After a close of ours, frames are read and ignored
    until the client has answered.
    """
    arrivals: deque[float] = deque(maxlen=FRAMES)
    bad = 0
    async for message in ws:
        if message.type is WSMsgType.ERROR:
            break
        if viewer.closing is not None:
            continue
        now = viewer.time()
        if len(arrivals) == FRAMES and now - arrivals[0] < FRAMES_SECONDS:
            viewer.end(CloseCode.MISUSE, "too many frames")
            continue
        arrivals.append(now)
        found = _object(message.data) if message.type is WSMsgType.TEXT else None
        if found is None:
            bad += 1
            if bad > BAD_FRAMES:
                viewer.end(CloseCode.MISUSE, "too many frames that make no sense")
                continue
        if found is not None or strict:
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
