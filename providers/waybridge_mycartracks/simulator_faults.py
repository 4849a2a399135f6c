"""What the vendor's stand-in can be told to do wrong, and which of the vendor's possible shapes it speaks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

    from waybridge_mycartracks.simulator_shape import Time

_PADDING: Final = 11_000_000
_CHUNK: Final = 65_536


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer given instead of the real one."""

    status: int
    retry_after: float | None = None
    body: str = '{"error":"simulated","error_description":"a simulated failure"}'


@dataclass(slots=True, kw_only=True)
class Faults:
    """Switches; all may be changed while the simulator runs.

    `next` holds refusals for the coming requests of `token`, `lastPositions` or `stream`, used up one by one;
    `always` refuses every request of a kind.

    Token: `expires_in` False leaves it out of the answer; `reissue` hands out the existing token with what is
    left of its life; `forget_tokens` makes every token unknown to REST; `token_redirect` answers with 302.
    REST: `truncated` cuts every JSON answer in half, `oversized` pads it beyond 10 MB, `body_delay` is seconds
    before each byte chunk, `date_offset` shifts the Date header.
    Stream: `websocket_host` and `websocket_scheme` are written into websocketUrl instead of our own;
    `greets` False sends no `connected`; `mute` sends nothing at all (silent but connected); `still` sends
    heartbeats but no positions; `stale_by` shifts every recordedAt into the past; `strange` mixes in unknown
    events, frames that are not JSON and binary frames; `oversized_frame` sends one frame over 64 KiB;
    `error_events` sends an `error` with every heartbeat; `frame_delay` is seconds before each frame (a slow
    socket); `drop_after` cuts each socket after so many seconds, without a close frame.
    """

    next: dict[str, list[Refusal]] = field(default_factory=dict)
    always: dict[str, Refusal] = field(default_factory=dict)

    expires_in: bool = True
    reissue: bool = True
    forget_tokens: bool = False
    token_redirect: str | None = None

    truncated: bool = False
    oversized: bool = False
    body_delay: float = 0.0
    date_offset: float = 0.0

    websocket_host: str | None = None
    websocket_scheme: str | None = None
    greets: bool = True
    mute: bool = False
    still: bool = False
    stale_by: float = 0.0
    strange: bool = False
    oversized_frame: bool = False
    error_events: bool = False
    frame_delay: float = 0.0
    drop_after: float | None = None

    def refuse_next(self, what: str, status: int, *, times: int = 1, retry_after: float | None = None) -> None:
        """Refuses the coming `times` requests of `token`, `lastPositions` or `stream`."""
        self.next.setdefault(what, []).extend([Refusal(status, retry_after)] * times)

    def refusal(self, what: str) -> Refusal | None:
        """The refusal for a request that came now."""
        coming = self.next.get(what)
        return coming.pop(0) if coming else self.always.get(what)


async def send_json(
    request: web.Request, answer: Any, headers: Mapping[str, str], faults: Faults, clock: Time
) -> web.StreamResponse:
    """An answer in JSON, cut short, padded or slowed down as the faults say."""
    body = json.dumps(answer).encode()
    if faults.truncated:
        body = body[: len(body) // 2]
    if faults.oversized:
        body += b" " * _PADDING
    response = web.StreamResponse(headers={"Content-Type": "application/json", **headers})
    response.content_length = len(body)
    await response.prepare(request)
    for start in range(0, len(body), _CHUNK):
        if faults.body_delay:
            await clock.sleep(faults.body_delay)
        await response.write(body[start : start + _CHUNK])
    await response.write_eof()
    return response
