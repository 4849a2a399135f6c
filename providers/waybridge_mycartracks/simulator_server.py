"""The vendor's HTTP side: token endpoint, last positions, stream sessions. Shares no code with the parser."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from waybridge_mycartracks.simulator_faults import Faults, send_json
from waybridge_mycartracks.simulator_oauth import Denied, TokenDesk
from waybridge_mycartracks.simulator_shape import Shape, SystemTime, Time, Vehicle, iso, last_position
from waybridge_mycartracks.simulator_stream import Feed, Session, new_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

API: Final = "/services/rest/v3"
_LONGEST_PAGE: Final = 1000
_LEAST_INTERVAL: Final = 5


class Server:
    """A stand-in for one MyCarTracks account. `start` answers its address; counters tell what clients did."""

    def __init__(
        self,
        *,
        client_id: str = "simulated-client.mycartracks.com",
        client_secret: str = "simulated-secret-of-32-characters",  # noqa: S107 - opens nothing but this stand-in
        scopes: str = "read",
        faults: Faults | None = None,
        shape: Shape | None = None,
        clock: Time | None = None,
        token_seconds: float = 3592.0,
        session_seconds: float = 540.0,
        heartbeat_seconds: int = 30,
    ) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self.faults = faults if faults is not None else Faults()
        self.shape = shape if shape is not None else Shape()
        self.clock: Time = clock if clock is not None else SystemTime()
        self.vehicles: dict[int, Vehicle] = {}
        self.token_requests = 0
        self.rest_requests = 0
        self.streams_created = 0
        self.sockets_opened = 0
        self.sockets_refused = 0
        self.stream_bodies: list[dict[str, Any]] = []
        self.request_times: list[float] = []
        self.url = ""
        self._desk = TokenDesk(client_id, client_secret, frozenset(scopes.split()), token_seconds, self.clock)
        self._session_seconds = session_seconds
        self._heartbeat = heartbeat_seconds
        self._sessions: dict[str, Session] = {}
        self._open: dict[web.WebSocketResponse, asyncio.BaseTransport | None] = {}
        self._serial = 0
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def tokens_issued(self) -> int:
        return self._desk.issued

    @property
    def open_sockets(self) -> int:
        return len(self._open)

    @property
    def base_url(self) -> str:
        return self.url + API

    @property
    def token_url(self) -> str:
        return self.url + "/oauth/token"

    def settings(self) -> dict[str, Any]:
        """The settings of a connection to this stand-in."""
        return {
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "base_url": self.base_url,
            "token_url": self.token_url,
        }

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listens, and answers the address. After `stop`, starting again takes the same port."""
        app = web.Application()
        app.router.add_post("/oauth/token", self._token)
        app.router.add_get(f"{API}/vehicles/lastPositions", self._last_positions)
        app.router.add_post(f"{API}/vehicles/livePositions/stream", self._create_stream)
        app.router.add_get(f"{API}/vehicles/livePositions/stream/{{stream_id}}", self._socket)
        app.on_response_prepare.append(self._dated)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port or self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://{host if ':' not in host else f'[{host}]'}:{self._port}"
        return self.url

    async def stop(self) -> None:
        """Cuts every socket and stops listening; vehicles and credentials stay."""
        self.drop_sockets()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def set_vehicle(
        self,
        vehicle_id: int,
        name: str | None = None,
        *,
        user_id: int | None = None,
        user_name: str | None = None,
        groups: Sequence[int] = (),
        shared: bool = False,
    ) -> Vehicle:
        """Adds a vehicle, or changes its names; it has no position until it moves."""
        known = self.vehicles.get(vehicle_id)
        if known is None:
            known = self.vehicles[vehicle_id] = Vehicle(vehicle_id=vehicle_id, name=name or f"Vehicle {vehicle_id}")
        known.name = name or known.name
        known.user_id, known.user_name = user_id, user_name
        known.groups, known.shared = frozenset(groups), shared
        return known

    def move(
        self,
        vehicle_id: int,
        lat: float,
        lon: float,
        speed_kmh: float | None = None,
        heading: float | None = None,
        recorded_at: datetime | None = None,
    ) -> None:
        """A fresh fix of a vehicle; sessions that show it tell of it, at most once per their interval."""
        vehicle = self.vehicles.get(vehicle_id) or self.set_vehicle(vehicle_id)
        vehicle.latitude, vehicle.longitude = lat, lon
        vehicle.speed_kmh, vehicle.heading = speed_kmh, heading
        vehicle.received_at = self.clock.now()
        vehicle.recorded_at = recorded_at or vehicle.received_at
        vehicle.online = True
        self._serial += 1
        vehicle.serial = self._serial
        self._wake()

    def offline(self, vehicle_id: int) -> None:
        """The vehicle stops sending: `vehicle.offline` to every session that shows it."""
        vehicle = self.vehicles[vehicle_id]
        vehicle.online = False
        notice: dict[str, Any] = {"type": "vehicle.offline", "vehicleId": vehicle_id}
        if vehicle.recorded_at is not None:
            notice["lastSeenAt"] = iso(vehicle.recorded_at)
        for session in self._sessions.values():
            if session.shows(vehicle):
                session.notices.append(notice)
        self._wake()

    def drop_sockets(self) -> None:
        """Cuts every open socket without a close frame."""
        for ws in list(self._open):
            self._cut(ws)

    def revoke_tokens(self) -> None:
        """Every token given out is unknown from now on."""
        self._desk.revoke()

    def _cut(self, ws: web.WebSocketResponse) -> None:
        transport = self._open.get(ws)
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()

    def _wake(self) -> None:
        for session in self._sessions.values():
            session.changed.set()

    async def _dated(self, _: web.Request, response: web.StreamResponse) -> None:
        moment = self.clock.now() + timedelta(seconds=self.faults.date_offset)
        response.headers["Date"] = format_datetime(moment.astimezone(UTC).replace(microsecond=0), usegmt=True)

    async def _token(self, request: web.Request) -> web.StreamResponse:
        self.token_requests += 1
        self.request_times.append(self.clock.monotonic())
        if self.faults.token_redirect is not None:
            return web.Response(status=302, headers={"Location": self.faults.token_redirect})
        if (refused := self._refused("token")) is not None:
            return refused
        try:
            token = self._desk.grant(request.headers.get("Authorization"), await request.text(), self.faults.reissue)
        except Denied as denied:
            return _oauth_error(denied.status, denied.code, denied.description)
        answer: dict[str, Any] = {"access_token": token.value, "token_type": "bearer", "scope": token.scope}
        if self.faults.expires_in:
            answer["expires_in"] = int(token.expires_at - self.clock.monotonic())
        return await self._json(request, answer)

    async def _last_positions(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._unauthorized(request, "lastPositions")) is not None:
            return refused
        limit = min(int(request.query.get("limit", "50")), _LONGEST_PAGE)
        page = int(request.query.get("page", str(self.shape.first_page)))
        start = max(page - self.shape.first_page, 0) * limit
        vehicles = list(self.vehicles.values())
        rows = [last_position(vehicle, self.shape, self.faults.stale_by) for vehicle in vehicles[start : start + limit]]
        headers: dict[str, str] = {}
        following = f"{API}/vehicles/lastPositions?limit={limit}&page={page + 1}"
        more = start + limit < len(vehicles)
        if self.shape.paging == "link" and more:
            headers["Link"] = f'<{following}>; rel="next"'
        if self.shape.envelope is None:
            return await self._json(request, rows, headers)
        answer: dict[str, Any] = {self.shape.envelope: rows}
        if self.shape.paging == "page":
            answer |= {"total": len(vehicles), "limit": limit, "page": page}
        elif self.shape.paging == "next":
            answer["next"] = self.url + following if more else None
        return await self._json(request, answer, headers)

    async def _create_stream(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._unauthorized(request, "stream")) is not None:
            return refused
        body = json.loads(await request.text() or "{}")
        ids, groups, interval = body.get("vehicleIds"), body.get("vehicleGroupIds"), body.get("minIntervalSeconds", 5)
        if interval < _LEAST_INTERVAL or (ids is not None and groups is not None):
            return web.json_response({"error": "bad_request", "message": "Invalid stream request"}, status=400)
        if ids is not None and not set(ids) <= set(self.vehicles):
            return web.json_response({"error": "forbidden", "message": "No access to these vehicles"}, status=403)
        self.streams_created += 1
        self.stream_bodies.append(body)
        session = new_session(body, self.clock.now() + timedelta(seconds=self._session_seconds), self._serial)
        self._sessions[session.stream_id] = session
        scheme = self.faults.websocket_scheme or "ws"
        host = self.faults.websocket_host or request.host
        path = f"{API}/vehicles/livePositions/stream/{session.stream_id}?token={session.token}"
        answer = {
            "streamId": session.stream_id,
            "websocketUrl": f"{scheme}://{host}{path}",
            "expiresAt": iso(session.expires_at),
            "heartbeatSeconds": self._heartbeat,
            "minIntervalSeconds": interval,
        }
        return await self._json(request, answer)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        session = self._sessions.get(request.match_info["stream_id"])
        good = session is not None and session.token == request.query.get("token") and not session.used
        if session is None or not good or session.expires_at <= self.clock.now():
            self.sockets_refused += 1
            return web.json_response({"error": "invalid_stream_token"}, status=401)
        session.used = True
        ws = web.WebSocketResponse(compress=False, timeout=0.5)
        await ws.prepare(request)
        self.sockets_opened += 1
        self._open[ws] = request.transport
        feed = asyncio.create_task(self._feed(session, ws), name="simulated stream")
        try:
            async for _ in ws:
                continue
        finally:
            feed.cancel()
            await asyncio.gather(feed, return_exceptions=True)
            self._open.pop(ws, None)
            self._sessions.pop(session.stream_id, None)
        return ws

    async def _feed(self, session: Session, ws: web.WebSocketResponse) -> None:
        await Feed(session, self.vehicles, self.clock, self.faults, self._heartbeat, self._cut).run(ws)
        await ws.close()

    def _unauthorized(self, request: web.Request, what: str) -> web.Response | None:
        self.rest_requests += 1
        self.request_times.append(self.clock.monotonic())
        if (refused := self._refused(what)) is not None:
            return refused
        token = self._desk.known(request.headers.get("Authorization", ""))
        if token is None or self.faults.forget_tokens:
            return _oauth_error(401, "invalid_token", "The access token is unknown or expired")
        if "read" not in token.scope.split():
            return _oauth_error(403, "insufficient_scope", "Insufficient scope for this resource")
        return None

    def _refused(self, what: str) -> web.Response | None:
        refusal = self.faults.refusal(what)
        if refusal is None:
            return None
        headers = {} if refusal.retry_after is None else {"Retry-After": f"{refusal.retry_after:.0f}"}
        return web.Response(status=refusal.status, text=refusal.body, headers=headers, content_type="application/json")

    async def _json(
        self, request: web.Request, answer: Any, headers: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        return await send_json(request, answer, headers or {}, self.faults, self.clock)


def _oauth_error(status: int, error: str, description: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)
