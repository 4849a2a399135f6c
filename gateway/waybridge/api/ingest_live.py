"""`GET /ingest/native/live`: native pushes over a WebSocket, acknowledged in order once stored.

Frames are handled in a pipeline: up to `IN_FLIGHT` frames, or `IN_FLIGHT_BYTES`, are on their way into the store at
once, so that they share commits. When so much waits, no more is read, and TCP holds the sender back. Acknowledgements
keep the order of the frames; one that cannot be written for `SEND_SECONDS` ends the connection.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import WSMessage, WSMsgType, web

from waybridge.api.bodies import decode_json
from waybridge.api.ingest import SCOPE, Ingest, sender_of
from waybridge.api.operations import Verifier
from waybridge.api.problems import title
from waybridge.auth import Principal
from waybridge.errors import PushRejected, RequestError, StoreUnavailable, Unauthorized
from waybridge.model import now_utc
from waybridge.provider import Push
from waybridge.settings_tables import NATIVE
from waybridge.streams.wire import text_frame

log = structlog.get_logger("waybridge.ingest")

IN_FLIGHT = 256
IN_FLIGHT_BYTES = 4 * 1_048_576
AUTHENTICATE_SECONDS = 10.0
SEND_SECONDS = 10.0
CLOSE_SECONDS = 2.0
HEARTBEAT_SECONDS = 30.0
GONE, TOO_LARGE, BAD_CREDENTIALS, TOO_SLOW = 1001, 1009, 4001, 4008


class LiveIngest:
    """The live sockets of native devices. `wall` is unix seconds, for the end of tokens."""

    def __init__(
        self,
        ingest: Ingest,
        auth: Verifier,
        *,
        most: int = 1_048_576,
        authenticate_seconds: float = AUTHENTICATE_SECONDS,
        send_seconds: float = SEND_SECONDS,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ingest = ingest
        self._auth = auth
        self._most = most
        self._authenticate_seconds = authenticate_seconds
        self._send_seconds = send_seconds
        self._wall = wall
        self._open: set[web.WebSocketResponse] = set()

    def mount(self, app: web.Application) -> None:
        app.router.add_get("/ingest/native/live", self.handle, allow_head=False)

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Ends all sockets with 1001; what was read of them is still stored. Waits so long for clients to agree."""
        closing = [asyncio.create_task(ws.close(code=GONE, message=b"shutting down")) for ws in tuple(self._open)]
        if not closing:
            return
        _, late = await asyncio.wait(closing, timeout=seconds)
        for each in late:
            each.cancel()
        await asyncio.gather(*closing, return_exceptions=True)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(
            compress=False,
            max_msg_size=self._most,
            heartbeat=HEARTBEAT_SECONDS,
            timeout=self._send_seconds,
            decode_text=False,  # the provider checks the UTF-8 while it parses
            writer_limit=1,  # every send waits while the client does not read
        )
        await ws.prepare(request)
        self._open.add(ws)
        try:
            principal = await self._authenticated(ws)
            if principal is not None:
                pipeline = _Pipeline(self._ingest, ws, request.transport, principal, self._send_seconds)
                await pipeline.run(principal.expires_at - self._wall())
        finally:
            self._open.discard(ws)
        return ws

    async def _authenticated(self, ws: web.WebSocketResponse) -> Principal | None:
        """Reads the first frame; None when the socket was closed over it."""
        try:
            async with asyncio.timeout(self._authenticate_seconds):
                message = await ws.receive()
            token = _credentials(message)
            principal = self._auth.cached(token) or await self._auth.verify(token)
            principal.require(SCOPE)
        except TimeoutError:
            await _refuse(ws, 401, "authenticate was not sent in time")
        except RequestError as error:
            await _refuse(ws, error.status, error.detail)
        else:
            return principal
        return None


class _Pipeline:
    """One authenticated socket: reads frames, hands each on, acknowledges in order."""

    def __init__(
        self,
        ingest: Ingest,
        ws: web.WebSocketResponse,
        transport: asyncio.WriteTransport | None,
        principal: Principal,
        send_seconds: float,
    ) -> None:
        self._ingest = ingest
        self._ws = ws
        self._transport = transport
        self._principal = principal
        self._sender = sender_of(principal)
        self._send_seconds = send_seconds
        self._pending: asyncio.Queue[asyncio.Task[str] | None] = asyncio.Queue(IN_FLIGHT)
        self._bytes = 0
        self._room = asyncio.Event()

    async def run(self, seconds_left: float) -> None:
        loop = asyncio.get_running_loop()
        ending: set[asyncio.Task[object]] = set()

        def expire() -> None:
            task = loop.create_task(_refuse(self._ws, 401, "the token has expired"), name="live ingest expiry")
            ending.add(task)

        expiry = loop.call_later(max(0.0, seconds_left), expire)
        writer = loop.create_task(self._acknowledge(), name="live ingest acknowledgements")
        number = 0
        try:
            async for message in self._ws:
                number += 1
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
                while self._bytes > IN_FLIGHT_BYTES:
                    self._room.clear()
                    await self._room.wait()
                self._bytes += len(message.data)
                await self._pending.put(loop.create_task(self._push(number, message.data), name="live ingest frame"))
        finally:
            expiry.cancel()
            await self._pending.put(None)
            await asyncio.gather(writer, *ending, return_exceptions=True)

    async def _push(self, number: int, body: bytes) -> str:
        """One frame's acknowledgement, once what it holds is stored or refused."""
        try:
            return await self._taken(number, body)
        finally:
            self._bytes -= len(body)
            self._room.set()

    async def _taken(self, number: int, body: bytes) -> str:
        push = Push(
            method="FRAME",
            path="",
            segments=(),
            query={},
            headers={},
            body=body,
            received_at=now_utc(),
            sender=self._sender,
            frame=number,
        )
        try:
            answer = await self._ingest.push(NATIVE, push, self._principal)
        except PushRejected as refused:
            return _refusal(number, refused.status, _detail(refused))
        except RequestError as error:
            return _refusal(number, error.status, error.detail)
        except StoreUnavailable:
            return _refusal(number, 503, "the database does not answer; try again")
        except Exception:
            log.exception("A frame failed by a bug")
            return _refusal(number, 500, "something went wrong; it was logged")
        if not answer.body.startswith(b"{"):
            return _refusal(number, answer.status, title(answer.status))
        return f'{{"type":"ack","n":{number},{answer.body[1:].decode()}'

    async def _acknowledge(self) -> None:
        """Sends acknowledgements in order; those that a commit made ready together leave in one write."""
        pending = self._pending
        held: asyncio.Task[str] | None = None
        while True:
            task = held or await pending.get()
            held = None
            if task is None:
                return
            told = [await task]
            while held is None and len(told) < IN_FLIGHT and not pending.empty():
                following = pending.get_nowait()
                if following is None:
                    await self._send(told)
                    return
                if following.done():
                    told.append(following.result())
                else:
                    held = following
            await self._send(told)

    async def _send(self, told: list[str]) -> None:
        ws, transport = self._ws, self._transport
        if ws.closed or transport is None:
            return
        try:
            if len(told) > 1:
                transport.write(b"".join(text_frame(each.encode()) for each in told[:-1]))
            async with asyncio.timeout(self._send_seconds):
                await ws.send_str(told[-1])  # waits while the client does not read
        except TimeoutError:
            await ws.close(code=TOO_SLOW, message=b"acknowledgements are not read", drain=False)
        except ConnectionError:
            return


def _credentials(message: WSMessage) -> str:
    """The token of the first frame. Raises Unauthorized."""
    if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
        raise Unauthorized("authenticate is the first frame")
    try:
        frame = decode_json(message.data)
    except RequestError as error:
        raise Unauthorized("authenticate is the first frame") from error
    if not isinstance(frame, dict) or frame.get("type") != "authenticate" or not isinstance(frame.get("jwt"), str):
        raise Unauthorized('the first frame is {"type": "authenticate", "jwt": "..."}')
    return str(frame["jwt"])


async def _refuse(ws: web.WebSocketResponse, status: int, detail: str) -> None:
    """Says why and closes with 4001."""
    if ws.closed:
        return
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await ws.send_str(json.dumps({"type": "error", "code": status, "message": detail}))
            await ws.close(code=BAD_CREDENTIALS, message=detail.encode()[:100])
    except (TimeoutError, ConnectionError):
        await ws.close(code=BAD_CREDENTIALS, drain=False)


def _refusal(number: int, status: int, detail: str) -> str:
    told: dict[str, Any] = {"type": "ack", "n": number, "accepted": 0, "duplicates": 0, "rejected": []}
    return json.dumps({**told, "status": status, "error": detail})


def _detail(refused: PushRejected) -> str:
    """What a provider's refusal says, in a sentence."""
    try:
        said = json.loads(refused.body)["detail"]
    except (ValueError, KeyError, TypeError):
        return title(refused.status)
    return str(said)
