"""What recipients of a link reach without logging in: GET, and the live WebSocket (contract section 8, seed 001).

Every answer carries the state of the client's rate limit. Tokens that never existed count in a bucket of their own,
so that guessing ends long before real viewers meet a limit; whoever is limited learns nothing of any token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from aiohttp import web

from waybridge.api.answers import Answer
from waybridge.api.operations import Operation
from waybridge.api.problems import problem_of
from waybridge.errors import Malformed, RequestError, TooMany
from waybridge.limits import MISSES, PUBLIC, Bucket, Limiter, Verdict, headers
from waybridge.sharing import UnknownLink
from waybridge.streams.fanout import Fanout, Seats
from waybridge.streams.shares import end_at_once
from waybridge.streams.sockets import Frames, accept, turn_away
from waybridge.streams.wire import CloseCode, text_frame
from waybridge.vault import digest

if TYPE_CHECKING:
    from waybridge.api.operations import Call
    from waybridge.settings_tables import LimitSettings
    from waybridge.sharing import Recipients
    from waybridge.streams.fanout import Viewer
    from waybridge.streams.shares import ShareChannel, ShareChannels

POLICY = "share"
PONG = text_frame(b'{"type":"pong"}')
NOINDEX = {"X-Robots-Tag": "noindex"}


class DriverAnswer(Answer):
    latitude: float
    longitude: float
    heading: float | None
    speed: float | None


class SharePlace(Answer):
    latitude: float
    longitude: float
    label: str | None


class BrandAnswer(Answer):
    name: str
    color: str


class ShareAnswer(Answer):
    """What a link shows now; speeds in m/s, times in unix seconds. What the sender hides is null."""

    status: Literal["active"]
    driver: DriverAnswer | None
    destination: SharePlace | None
    eta_seconds: int | None
    order_id: str | None
    recipient_name: str | None
    notes: str | None
    driver_display_name: str | None
    last_updated: int | None
    stale: bool | None
    stale_after: float
    age_seconds: int | None
    stage: Literal[
        "waiting", "not_sharing", "live", "en_route_to_pickup", "at_pickup", "on_trip", "arrived", "no_show",
        "trip_ended",
    ]  # fmt: skip
    stage_at: int | None
    expires_at: int
    server_time: int
    update_interval_seconds: int
    brand: BrandAnswer


class SharePublicApi:
    """The two public operations. `buckets` are those that `limiter` counts by, for the headers."""

    def __init__(
        self,
        recipients: Recipients,
        channels: ShareChannels,
        fanout: Fanout,
        limiter: Limiter,
        buckets: Mapping[str, Bucket],
        limits: LimitSettings,
    ) -> None:
        self._recipients = recipients
        self._channels = channels
        self._fanout = fanout
        self._limiter = limiter
        self._buckets = buckets
        self._max_frame = limits.public_frame_bytes
        self._by_token = Seats(limits.sockets_per_token)
        self._by_address = Seats(limits.sockets_per_address)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="GET",
                path="/share/{share_token}",
                handler=self._get,
                summary="What a share link shows now",
                tag="Public",
                scope=None,
                instance="none",
                answers={200: ShareAnswer, 404: None, 410: None, 429: None},
                absent="this link is unknown or has expired",
            ),
            Operation(
                method="GET",
                path="/share/{share_token}/live",
                handler=self._live,
                summary="What a share link shows, live (WebSocket)",
                tag="Public",
                scope=None,
                instance="none",
                websocket=True,
                answers={101: None},
                absent="this link is unknown or has expired",
            ),
        ]

    async def _get(self, call: Call) -> web.StreamResponse:
        client = call.client
        verdict = await self._limiter.hit(PUBLIC, client)
        said = {**NOINDEX, **headers(POLICY, self._buckets[PUBLIC], verdict)}
        try:
            if not verdict.allowed:
                raise TooMany("too many requests from your address; wait a moment", retry_after=_wait(verdict))
            await self._refuse_guessing(client)
            state = await self._recipients.public_state(call.path["share_token"], client)
        except RequestError as error:
            if isinstance(error, UnknownLink):
                await self._limiter.hit(MISSES, client)
            # The bucket's own Retry-After is the later one where both limits hold.
            answer = problem_of(error)
            answer.headers.update({name: value for name, value in said.items() if name not in answer.headers})
            return answer
        return call.json(state, headers=said)

    async def _refuse_guessing(self, client: str) -> None:
        misses = await self._limiter.peek(MISSES, client)
        if not misses.allowed:
            raise TooMany("too many requests from your address; wait a moment", retry_after=_wait(misses))

    async def _live(self, call: Call) -> web.StreamResponse:
        request, share_token, client = call.request, call.path["share_token"], call.client
        del call  # a viewer stays for hours: what it needs no more goes
        require_handshake(request)
        allowed = (await self._limiter.hit(PUBLIC, client)).allowed
        allowed = allowed and (await self._limiter.peek(MISSES, client)).allowed
        token_key = digest(share_token)
        if not allowed or not self._by_address.take(client):
            return await self._turned_away(request)
        if not self._by_token.take(token_key):
            self._by_address.free(client)
            return await self._turned_away(request)
        channel: ShareChannel | str | None = None
        try:
            channel = await self._channels.hold(share_token)
            if isinstance(channel, str):
                if channel == "unknown":
                    await self._limiter.hit(MISSES, client)
                return await self._ended(request, channel)
            ws, viewer = await accept(request, self._fanout, "share", max_frame=self._max_frame)
            try:
                await channel.join(viewer)
                async for frame in Frames(ws, viewer):
                    if frame is not None and frame.get("type") == "ping":
                        viewer.reply(PONG)
            finally:
                channel.leave(viewer)
                self._fanout.leave(viewer)
            return ws
        finally:
            if channel is not None and not isinstance(channel, str):
                self._channels.release(channel)
            self._by_token.free(token_key)
            self._by_address.free(client)

    async def _ended(self, request: web.Request, how: str) -> web.StreamResponse:
        return await self._only_told(request, lambda viewer: end_at_once(viewer, how))

    async def _turned_away(self, request: web.Request) -> web.StreamResponse:
        return await self._only_told(request, lambda viewer: viewer.end(CloseCode.TOO_SLOW_OR_TOO_MANY, "too many"))

    async def _only_told(self, request: web.Request, end: Callable[[Viewer], None]) -> web.StreamResponse:
        return await turn_away(request, self._fanout, "share", end, max_frame=self._max_frame)


def require_handshake(request: web.Request) -> None:
    """Raises Malformed for a request that is no WebSocket handshake."""
    if not web.WebSocketResponse().can_prepare(request).ok:
        raise Malformed("this address is a WebSocket; connect to it with a handshake", headers={"Upgrade": "websocket"})


def _wait(verdict: Verdict) -> int:
    return int(verdict.retry_after) + 1
