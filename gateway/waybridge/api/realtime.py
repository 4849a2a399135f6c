"""`/ws/realtime`: a whole instance, live, in both dialects (contract section 9, seed 001)."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from pydantic import Field, ValidationError

from waybridge.api.bodies import InstanceId, Query, keepable
from waybridge.api.operations import Operation
from waybridge.api.share_public import require_handshake
from waybridge.api.times import time_format, zone
from waybridge.errors import Unauthorized
from waybridge.model import canonical_token
from waybridge.streams import dialects
from waybridge.streams.dialects import Wording
from waybridge.streams.realtime import Channel
from waybridge.streams.sockets import Frames, accept
from waybridge.streams.wire import CloseCode, text_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import web

    from waybridge.api.operations import Call, Verifier
    from waybridge.auth import Principal
    from waybridge.settings_tables import LimitSettings
    from waybridge.streams.fanout import Fanout, Viewer
    from waybridge.streams.realtime import RealtimeFeeds

GONE: dict[str, Any] = {}
"""Stands for the first frame of a client that left without one."""

_encode = msgspec.json.Encoder().encode


class Authenticate(Query):
    """The first frame. `jwt` selects the seed's frames, `access_token` the older dialect; unknown keys are ignored."""

    jwt: str | None = None
    access_token: str | None = None
    instance_id: InstanceId
    device_token: str | None = Field(default=None, max_length=200)
    client_id: str | None = None
    units: Literal["metric", "imperial"] | None = None
    timezone: str = "UTC"
    date_format: Literal["unix", "iso", "human", "localized"] = "unix"


class Refused(Exception):
    """Ends the connection: an `error` frame, then the close."""

    def __init__(self, status: int, message: str, close: CloseCode) -> None:
        super().__init__(message)
        self.status = status
        self.close = close


class RealtimeApi:
    """The operation. `instance_exists` tells instances that are none from those that are."""

    def __init__(
        self,
        auth: Verifier,
        feeds: RealtimeFeeds,
        fanout: Fanout,
        limits: LimitSettings,
        *,
        instance_exists: Callable[[str], bool],
    ) -> None:
        self._auth = auth
        self._feeds = feeds
        self._fanout = fanout
        self._limits = limits
        self._instance_exists = instance_exists

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="GET",
                path="/ws/realtime",
                handler=self._live,
                summary="Every device of an instance, live (WebSocket)",
                description="The first frame authenticates; see the page on live streams.",
                tag="Live",
                scope=None,
                instance="none",
                websocket=True,
                answers={101: None},
            )
        ]

    async def _live(self, call: Call) -> web.StreamResponse:
        require_handshake(call.request)
        limit = self._limits.tenant_frame_bytes
        ws, viewer = await accept(call.request, self._fanout, "realtime", max_frame=limit)
        connection, frames = Connection(self, viewer), Frames(ws, viewer, strict=True)
        try:
            await connection.begin(frames)
            await connection.talk(frames)
        except Refused as refused:
            error = {"type": "error", "code": refused.status, "message": str(refused)}
            viewer.end(refused.close, str(refused), last=text_frame(_encode(error)))
            await frames.until_gone()
        finally:
            connection.leave()
            self._fanout.leave(viewer)
        return ws

    async def admit(self, token: str, instance_id: str) -> Principal:
        """Raises Refused: 401 for the token, 403 for the scope and for an instance that is foreign or none."""
        try:
            principal = self._auth.cached(token) or await self._auth.verify(token)
        except Unauthorized as error:
            raise Refused(401, error.detail, CloseCode.CREDENTIALS) from None
        if not principal.may("read"):
            raise Refused(403, "the token lacks the scope read", CloseCode.NOT_YOUR_INSTANCE)
        if not principal.covers(instance_id) or not self._instance_exists(instance_id):
            raise Refused(403, "the token is not for this instance", CloseCode.NOT_YOUR_INSTANCE)
        return principal

    @property
    def feeds(self) -> RealtimeFeeds:
        return self._feeds

    @property
    def patience(self) -> float:
        return self._limits.authenticate_seconds


class Connection:
    """One client from its first frame to its last."""

    __slots__ = ("_api", "_channel", "_expiry", "_id", "_leave", "_viewer")

    def __init__(self, api: RealtimeApi, viewer: Viewer) -> None:
        self._api = api
        self._viewer = viewer
        self._id = secrets.token_hex(8)
        self._channel: Channel | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._leave: Callable[[Viewer], None] | None = None

    async def begin(self, frames: AsyncIterator[dict[str, Any] | None]) -> None:
        """Waits for the first frame, admits the client, sends the greeting and the snapshot."""
        try:
            async with asyncio.timeout(self._api.patience):
                first = await anext(frames, GONE)
        except TimeoutError:
            raise Refused(401, "no credentials came in time", CloseCode.CREDENTIALS) from None
        if first is GONE or not self._viewer.open:
            return
        if first is None or first.get("type") != "authenticate":
            raise Refused(401, "the first frame must authenticate", CloseCode.CREDENTIALS)
        asked, token = _read(first)
        await self._admit(token, asked.instance_id)
        wording = Wording(
            "jwt" if asked.jwt is not None else "access_token", asked.units, asked.timezone, asked.date_format
        )
        channel = Channel(asked.instance_id, asked.device_token, wording)
        feed = self._api.feeds.feed(channel, time_format(wording.date_format, wording.timezone))
        self._channel = feed.channel  # equal to ours, and shared by all who read the same
        self._greet()
        feed.join(self._viewer)
        self._leave = feed.leave

    async def talk(self, frames: AsyncIterator[dict[str, Any] | None]) -> None:
        """Answers the client until it goes."""
        bad = 0
        async for frame in frames:
            match frame.get("type") if frame is not None else None:
                case "ping" if frame is not None:
                    self._say({"type": "pong", **_pong(frame)})
                case "pong":
                    continue
                case "authenticate" if frame is not None:
                    await self._again(frame)
                case _:
                    bad += 1
                    if bad > 10:
                        raise Refused(400, "too many frames that make no sense", CloseCode.MISUSE)
                    self._say({"type": "error", "code": 400, "message": "this frame is not understood"})

    def leave(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self._leave is not None:
            self._leave(self._viewer)

    async def _again(self, frame: dict[str, Any]) -> None:
        """A second authenticate renews the token, for the same instance only."""
        asked, token = _read(frame)
        if self._channel is None or asked.instance_id != self._channel.instance_id:
            raise Refused(403, "the instance cannot change", CloseCode.NOT_YOUR_INSTANCE)
        await self._admit(token, asked.instance_id)
        self._greet()

    async def _admit(self, token: str, instance_id: str) -> None:
        principal = await self._api.admit(token, instance_id)
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = asyncio.get_running_loop().call_later(principal.expires_at - time.time(), self._expired)

    def _expired(self) -> None:
        error = {"type": "error", "code": 401, "message": "the token has expired"}
        self._viewer.end(CloseCode.CREDENTIALS, "the token has expired", last=text_frame(_encode(error)))

    def _greet(self) -> None:
        channel = self._channel
        if channel is None:
            return
        when = time_format(channel.wording.date_format, channel.wording.timezone)
        for frame in dialects.greeting(
            channel.wording,
            connection_id=self._id,
            server_time=when(time.time_ns() // 1000),
            instance_id=channel.instance_id,
            device_token=channel.device_token,
        ):
            self._say(frame)

    def _say(self, frame: dict[str, Any]) -> None:
        self._viewer.reply(text_frame(_encode(frame)))


def _read(frame: dict[str, Any]) -> tuple[Authenticate, str]:
    """(what is asked, the token). Raises Refused: credentials that are missing come before anything else."""
    token = frame.get("jwt") if frame.get("jwt") is not None else frame.get("access_token")
    if not isinstance(token, str) or not token:
        raise Refused(401, "jwt or access_token is required", CloseCode.CREDENTIALS)
    try:
        asked = Authenticate.model_validate(frame)
        zone(asked.timezone)
        if asked.device_token is not None:
            asked = asked.model_copy(update={"device_token": canonical_token(asked.device_token)})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Refused(422, f"{field}: {first['msg']}", CloseCode.MISUSE) from None
    except ValueError as error:
        raise Refused(422, str(error), CloseCode.MISUSE) from None
    return asked, token


def _pong(frame: dict[str, Any]) -> dict[str, Any]:
    """The client's own `timestamp` and `id` back, where they are short and plain; else the gateway's time in ms."""
    echoed = {key: frame[key] for key in ("timestamp", "id") if _plain(frame.get(key))}
    return {"timestamp": time.time_ns() // 1_000_000, **echoed}


def _plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= 100 and keepable(value)
    return isinstance(value, (int, float)) and abs(value) < 2**63
