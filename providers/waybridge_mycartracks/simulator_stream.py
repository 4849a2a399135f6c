"""The stand-in's stream sessions: one-time addresses, and the loop that feeds one socket."""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from waybridge_mycartracks.simulator_shape import Time, Vehicle, iso, position_event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from aiohttp import web

    from waybridge_mycartracks.simulator_faults import Faults

_ULID: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(slots=True, kw_only=True)
class Session:
    """One stream session. `since` is the fix serial when it was made: later fixes are its events."""

    stream_id: str
    token: str = field(repr=False)
    expires_at: datetime
    interval: int
    fields: frozenset[str] | None
    vehicle_ids: frozenset[int] | None
    groups: frozenset[int] | None
    shared: bool
    since: int
    used: bool = False
    sent: dict[int, int] = field(default_factory=dict)
    sent_at: dict[int, float] = field(default_factory=dict)
    notices: deque[dict[str, Any]] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def shows(self, vehicle: Vehicle) -> bool:
        """Whether the session covers a vehicle."""
        if vehicle.shared and not self.shared:
            return False
        if self.vehicle_ids is not None:
            return vehicle.vehicle_id in self.vehicle_ids
        return self.groups is None or bool(self.groups & vehicle.groups)


def new_session(body: Mapping[str, Any], expires_at: datetime, since: int) -> Session:
    """The session that a stream request asks for; `since` is the serial of the newest fix so far."""
    ids, groups, fields = body.get("vehicleIds"), body.get("vehicleGroupIds"), body.get("fields")
    return Session(
        stream_id="lps_01" + "".join(secrets.choice(_ULID) for _ in range(24)),
        token=uuid.uuid4().hex,
        expires_at=expires_at.replace(microsecond=0),
        interval=body.get("minIntervalSeconds", 5),
        fields=frozenset(fields) if fields is not None else None,
        vehicle_ids=frozenset(ids) if ids is not None else None,
        groups=frozenset(groups) if groups is not None else None,
        shared=body.get("includeSharedVehicles", True),
        since=since,
    )


class Feed:
    """Sends a session's events to its socket until the session ends, the socket is lost or a fault says so."""

    def __init__(
        self,
        session: Session,
        vehicles: Mapping[int, Vehicle],
        clock: Time,
        faults: Faults,
        heartbeat: float,
        cut: Callable[[web.WebSocketResponse], None],
    ) -> None:
        self._session = session
        self._vehicles = vehicles
        self._clock = clock
        self._faults = faults
        self._heartbeat = heartbeat
        self._cut = cut

    async def run(self, ws: web.WebSocketResponse) -> None:
        """Ends with the session (`error`, then a normal close) or when `drop_after` is over (abruptly)."""
        started = self._clock.monotonic()
        if self._faults.greets and not self._faults.mute:
            await self._send(ws, {"type": "connected", "streamId": self._session.stream_id})
        if self._faults.oversized_frame:
            await ws.send_str(json.dumps({"type": "note", "text": "x" * 70_000}))
        beat_at = started + self._heartbeat
        while not ws.closed:
            now = self._clock.monotonic()
            left = (self._session.expires_at - self._clock.now()).total_seconds()
            drop_in = float("inf") if self._faults.drop_after is None else started + self._faults.drop_after - now
            if left <= 0:
                await self._send(ws, {"type": "error", "code": "stream_expired", "message": "Create a new stream"})
                return
            if drop_in <= 0:
                self._cut(ws)
                return
            if now >= beat_at:
                beat_at = now + self._heartbeat
                await self._beat(ws)
            self._session.changed.clear()
            throttled = await self._updates(ws, now)
            await self._wait(min(beat_at - now, left, drop_in, throttled))

    async def _beat(self, ws: web.WebSocketResponse) -> None:
        if self._faults.strange:
            await self._send(ws, {"type": "vehicle.door.opened", "vehicleId": 1, "sentAt": iso(self._clock.now())})
            await ws.send_str("{not json")
            await ws.send_bytes(b"\x00\x01binary")
        if self._faults.error_events:
            await self._send(ws, {"type": "error", "code": "upstream_delay", "message": "Positions may be delayed"})
        await self._send(ws, {"type": "heartbeat", "sentAt": iso(self._clock.now())})

    async def _updates(self, ws: web.WebSocketResponse, now: float) -> float:
        """Sends what is due; answers the seconds until a vehicle that has to wait may be told of."""
        session, soonest = self._session, float("inf")
        while session.notices:
            await self._send(ws, session.notices.popleft())
        for vehicle in list(self._vehicles.values()):
            if not session.shows(vehicle) or vehicle.serial <= session.sent.get(vehicle.vehicle_id, session.since):
                continue
            due = session.sent_at.get(vehicle.vehicle_id, float("-inf")) + session.interval
            if due > now:
                soonest = min(soonest, due - now)
                continue
            session.sent[vehicle.vehicle_id], session.sent_at[vehicle.vehicle_id] = vehicle.serial, now
            if not self._faults.still:
                await self._send(ws, self._selected(position_event(vehicle, self._faults.stale_by)))
        return soonest

    def _selected(self, event: dict[str, Any]) -> dict[str, Any]:
        if self._session.fields is None:
            return event
        return {name: value for name, value in event.items() if name == "type" or name in self._session.fields}

    async def _send(self, ws: web.WebSocketResponse, event: dict[str, Any]) -> None:
        if self._faults.mute:
            return
        if self._faults.frame_delay:
            await self._clock.sleep(self._faults.frame_delay)
        await ws.send_str(json.dumps(event))

    async def _wait(self, seconds: float) -> None:
        changed = asyncio.create_task(self._session.changed.wait())
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({changed, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            timer.cancel()
