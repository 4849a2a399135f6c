"""The three routes: last positions, stream sessions, and the sockets that their addresses open once."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from waybridge_mycartracks_api.requests import NotAllowed, NotJson, Unknown, page_request, stream_request
from waybridge_mycartracks_api.stream import HEARTBEAT, Stream
from waybridge_mycartracks_api.words import rfc3339, row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waybridge import Caller, Gateway

ROOT: Final = "/services/rest/v3/vehicles"
SESSION_SECONDS: Final = 3600
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CREDENTIALS: Final = 4001
_LARGEST_FRAME: Final = 4096


class Dialect:
    """Handlers over what the gateway lets plugins see: visible devices with a position, of the caller's instances."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.get(f"{ROOT}/lastPositions", self.last_positions, allow_head=False),
            web.post(f"{ROOT}/livePositions/stream", self.create_stream),
            web.get(f"{ROOT}/livePositions/stream/{{stream_id}}", self.socket, allow_head=False),
        ]

    async def last_positions(self, request: web.Request) -> web.Response:
        """`?limit=&page=`, vehicles in the order of their ids."""
        instances = await self._instances(await self._caller(request))
        limit, page = page_request(request.query)
        found = [
            (view, view.position)
            for instance_id in instances
            for view in await self._gateway.devices(instance_id)
            if view.visible and view.position is not None
        ]
        found.sort(key=lambda one: one[0].number)
        rows = [row(view, position) for view, position in found[page * limit : (page + 1) * limit]]
        return _json({"data": rows, "total": len(found), "limit": limit, "page": page})

    async def create_stream(self, request: web.Request) -> web.Response:
        """A session for the chosen vehicles; its address serves one socket, once, on whichever node."""
        instances = await self._instances(await self._caller(request))
        wanted = stream_request(await request.read())
        now = datetime.now(UTC)
        expires_at = now.replace(microsecond=0) + timedelta(seconds=SESSION_SECONDS)
        stream_id, token = new_stream_id(), secrets.token_urlsafe(24)
        spec = {
            "instances": list(instances),
            "vehicle_ids": wanted.vehicleIds,
            "group_ids": wanted.vehicleGroupIds,
            "fields": wanted.fields,
            "interval": wanted.interval,
            "since": now.timestamp(),
            "until": expires_at.timestamp(),
        }
        await self._gateway.keep_ticket(_ticket(stream_id, token), spec, SESSION_SECONDS)
        socket = self._gateway.public_base_url.rstrip("/").replace("http", "ws", 1)
        answer = {
            "streamId": stream_id,
            "websocketUrl": f"{socket}{ROOT}/livePositions/stream/{stream_id}?token={token}",
            "expiresAt": rfc3339(expires_at),
            "heartbeatSeconds": int(HEARTBEAT),
            "minIntervalSeconds": int(wanted.interval) if wanted.interval.is_integer() else wanted.interval,
        }
        return _json(answer, status=201)

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """The session's events. An unknown, used or old address is accepted and closed with 4001."""
        ws = web.WebSocketResponse(compress=False, max_msg_size=_LARGEST_FRAME, heartbeat=HEARTBEAT, timeout=2.0)
        if not ws.can_prepare(request):
            raise NotJson("this address is for WebSockets")
        ticket = _ticket(request.match_info["stream_id"], request.query.get("token", ""))
        spec = await self._gateway.take_ticket(ticket)
        await ws.prepare(request)
        if spec is None:
            await ws.close(code=_CREDENTIALS, message=b"unknown, used or expired stream address")
            return ws
        await Stream(self._gateway, request.match_info["stream_id"], spec).run(ws, request)
        return ws

    async def _caller(self, request: web.Request) -> Caller:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unknown("send the access token as Authorization: Bearer")
        caller = await self._gateway.authenticate(token.strip())
        if "read" not in caller.scopes:
            raise NotAllowed("the token lacks the scope read")
        return caller

    async def _instances(self, caller: Caller) -> Sequence[str]:
        return await self._gateway.instances(caller)


def new_stream_id() -> str:
    """`lps_` and a ULID."""
    number = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    return "lps_" + "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -5, -5))


def _ticket(stream_id: str, token: str) -> str:
    return f"mycartracks/{stream_id}/{token}"


def _json(answer: Any, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(answer),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
