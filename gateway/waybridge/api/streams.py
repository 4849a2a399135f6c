"""Stream sessions over HTTP: made with a token of the gateway, opened with their own (contract section 9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aiohttp import hdrs, web
from pydantic import AfterValidator, BaseModel, Field, create_model, model_validator

from waybridge.api.answers import Answer
from waybridge.api.bodies import Body, InstanceId, Query
from waybridge.api.operations import INSTANCE, Operation
from waybridge.api.problems import BASE_HEADERS
from waybridge.api.share_public import require_handshake
from waybridge.errors import Invalid, Malformed, NotFound, StoreUnavailable
from waybridge.model import canonical_token, iso_us
from waybridge.store.streams import StreamSpec
from waybridge.streams.events import ALWAYS, FIELDS, plain
from waybridge.streams.sessions import HIGHEST_SEQ, StreamSessions
from waybridge.streams.sockets import Frames, accept, turn_away
from waybridge.streams.wire import CloseCode, sse_event, text_frame

if TYPE_CHECKING:
    from waybridge.api.cors import CrossOrigin
    from waybridge.api.operations import Call
    from waybridge.settings_tables import LimitSettings, StreamSettings
    from waybridge.streams.fanout import Fanout, Viewer

MOST_DEVICES = 10_000
ABSENT = "this stream is unknown or has expired"
PONG = text_frame(b'{"type":"pong"}')
SSE_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Server": BASE_HEADERS["Server"],
}


class NewStreamBody(Body):
    """What a stream shows: these devices, or those of these groups, or all. `fields` None is every field."""

    instance_id: InstanceId | None = None
    device_tokens: list[Annotated[str, AfterValidator(canonical_token)]] | None = Field(
        default=None, min_length=1, max_length=MOST_DEVICES
    )
    groups: list[Annotated[str, Field(min_length=1, max_length=200)]] | None = Field(
        default=None, min_length=1, max_length=100
    )
    min_interval_seconds: float = 5
    fields_: list[Literal[FIELDS]] | None = Field(default=None, min_length=1, alias="fields")  # type: ignore[valid-type]
    include_offline: bool = True

    @model_validator(mode="after")
    def _one_choice(self) -> NewStreamBody:
        if self.device_tokens is not None and self.groups is not None:
            raise ValueError("device_tokens and groups exclude each other")
        return self

    def spec(self) -> StreamSpec:
        fields = None
        if self.fields_ is not None:
            fields = tuple(name for name in FIELDS if name == ALWAYS or name in self.fields_)
        return StreamSpec(
            device_tokens=None if self.device_tokens is None else tuple(dict.fromkeys(self.device_tokens)),
            groups=None if self.groups is None else tuple(dict.fromkeys(self.groups)),
            fields=fields,
            min_interval_seconds=self.min_interval_seconds,
            include_offline=self.include_offline,
        )


class ResumeQuery(Query):
    after: str | None = None


class StreamAnswer(Answer):
    """The addresses hold the stream's own token: they open this stream and nothing else."""

    stream_id: str
    websocket_url: str
    sse_url: str
    expires_at: str
    heartbeat_seconds: float
    min_interval_seconds: float


class StreamsApi:
    """The operations. `base_url` is the API's address."""

    def __init__(
        self,
        sessions: StreamSessions,
        fanout: Fanout,
        cross_origin: CrossOrigin,
        limits: LimitSettings,
        settings: StreamSettings,
        *,
        base_url: Callable[[], str],
    ) -> None:
        self._sessions = sessions
        self._fanout = fanout
        self._cross_origin = cross_origin
        self._limits = limits
        self._settings = settings
        self._base_url = base_url

    def operations(self) -> list[Operation]:
        lowest = self._settings.min_interval_seconds
        interval = (float, Field(default=max(5.0, lowest), ge=lowest, le=3600))
        body: type[BaseModel] = create_model("NewStreamBody", __base__=NewStreamBody, min_interval_seconds=interval)
        opened: dict[str, Any] = {
            "method": "GET", "tag": "Live", "scope": None, "instance": "none", "query": ResumeQuery, "absent": ABSENT,
        }  # fmt: skip
        return [
            Operation(
                method="POST",
                path="/streams",
                handler=self._create,
                summary="Create a stream session",
                tag="Live",
                scope="read",
                body=body,
                max_body=self._limits.bulk_body_bytes,
                instance="body_or_query",
                answers={201: StreamAnswer},
                absent="no such instance",
            ),
            Operation(
                path="/streams/{stream_token}/ws",
                handler=self._websocket,
                summary="A stream session, live (WebSocket)",
                websocket=True,
                answers={101: None},
                **opened,
            ),
            Operation(
                path="/streams/{stream_token}/events",
                handler=self._events,
                summary="A stream session, live (server-sent events)",
                answers={200: None},
                content_types=("text/event-stream",),
                **opened,
            ),
        ]

    async def _create(self, call: Call) -> web.Response:
        if call.instance_id is None:
            raise Invalid("the body is not valid", errors=[("instance_id", "is required")])
        row, token = await self._sessions.create(call.instance_id, call.body.spec())
        base = f"{self._base_url()}/api/v1/streams/{token}"
        answer = {
            "stream_id": row.stream_id,
            "websocket_url": f"ws{base.removeprefix('http')}/ws",
            "sse_url": f"{base}/events",
            "expires_at": iso_us(row.expires_us),
            "heartbeat_seconds": self._sessions.heartbeat_seconds,
            "min_interval_seconds": plain(row.spec.min_interval_seconds),
        }
        return call.json(answer, 201)

    async def _websocket(self, call: Call) -> web.StreamResponse:
        require_handshake(call.request)
        request, limit = call.request, self._limits.tenant_frame_bytes
        try:
            after = _after(call.query.after)
            row = await self._sessions.find(call.path["stream_token"])
        except NotFound:
            return await turn_away(request, self._fanout, "stream", _unknown, max_frame=limit)
        except Invalid:  # browsers cannot see a 422
            return await turn_away(request, self._fanout, "stream", _misused, max_frame=limit)
        ws, viewer = await accept(request, self._fanout, "stream", max_frame=limit)
        frames, stream = Frames(ws, viewer), None
        try:
            stream = await self._sessions.take(row, viewer, _text, after)
            async for frame in frames:
                if frame is not None and frame.get("type") == "ping":
                    viewer.reply(PONG)
        except (NotFound, StoreUnavailable) as error:
            _give_up(viewer, error)
            await frames.until_gone()
        finally:
            if stream is not None:
                stream.detach(viewer)
            self._fanout.leave(viewer)
        return ws

    async def _events(self, call: Call) -> web.StreamResponse:
        request = call.request
        row = await self._sessions.find(call.path["stream_token"])
        response = web.StreamResponse(headers=SSE_HEADERS)
        request[INSTANCE] = row.instance_id
        self._cross_origin.mark(request, response, public=False)
        if request.method == hdrs.METH_HEAD:
            return response
        if request.version < (1, 1):
            raise Malformed("server-sent events need HTTP/1.1")
        after = _after(request.headers.get("Last-Event-ID") or call.query.after)
        response.enable_chunked_encoding()
        response.force_close()
        await response.prepare(request)
        if request.transport is None:
            return response
        viewer = self._fanout.join(request.transport, "stream")
        try:
            stream = await self._sessions.take(row, viewer, sse_event, after)
            try:
                await viewer.until_closed()
            finally:
                stream.detach(viewer)
        except (NotFound, StoreUnavailable) as error:
            _give_up(viewer, error)
        finally:
            self._fanout.leave(viewer)
        return response


def _unknown(viewer: Viewer) -> None:
    viewer.end(CloseCode.CREDENTIALS, "unknown or expired")


def _misused(viewer: Viewer) -> None:
    viewer.end(CloseCode.MISUSE, "after must be the seq of an event")


def _give_up(viewer: Viewer, error: Exception) -> None:
    if isinstance(error, NotFound):
        _unknown(viewer)
    else:
        viewer.end(CloseCode.FAILED, "the database does not answer")


def _text(body: bytes, _seq: int) -> bytes:
    return text_frame(body)


def _after(text: str | None) -> int | None:
    """The number that a client saw last. Raises Invalid."""
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and int(text) <= HIGHEST_SEQ):
        raise Invalid("the query is not valid", errors=[("after", "must be the seq of an event")])
    return int(text)
