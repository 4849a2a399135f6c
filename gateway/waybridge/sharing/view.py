"""What a recipient may see of a device, and in which words. Pure: no clock, no I/O.

Everything that `share_config` hides is null here, so that it leaves the gateway on no way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waybridge.model import Place, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from waybridge.bus import Fix
    from waybridge.roster import Device
    from waybridge.store.sessions import ShareSession

SECOND = 1_000_000
ENDINGS = (Stage.ARRIVED, Stage.NO_SHOW)


@dataclass(frozen=True, slots=True)
class PastTrip:
    """A trip that is over, or is not the device's current one: its last fix if it is still kept."""

    fix: Fix | None
    ended_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is to be seen of a device through one session. `fix` None: nothing, and `stage` says why."""

    fix: Fix | None
    stage: Stage
    stage_at_us: int | None
    stale_after_us: int
    destination: Place | None
    name: str | None
    device_id: int | None

    def stale(self, now_us: int) -> bool:
        return self.fix is not None and now_us - self.fix.recorded_us > self.stale_after_us


def sight(session: ShareSession, device: Device | None, past: PastTrip | None = None) -> Sight:
    """What `session` shows of its device now. `past`: the session's trip where the device is on another one."""
    if device is None:
        return Sight(
            fix=None, stage=Stage.WAITING, stage_at_us=None, stale_after_us=60 * SECOND,
            destination=session.destination, name=None, device_id=None,
        )  # fmt: skip
    fix, stage, stage_at_us = _seen(session, device, past)
    return Sight(
        fix=fix,
        stage=stage,
        stage_at_us=stage_at_us,
        stale_after_us=device.stale_after_us,
        destination=session.destination or device.target,
        name=device.public_name,
        device_id=device.id,
    )


def needs_past(session: ShareSession, device: Device | None) -> bool:
    """Whether the session's trip is not the device's current one, so that its last fix must be looked up."""
    if session.track_token is None or device is None:
        return False
    trip = device.trip
    return trip is None or trip.track_token != session.track_token


def answer(
    session: ShareSession, seen: Sight, *, now_us: int, eta: int | None, brand: Mapping[str, Any]
) -> dict[str, Any]:
    """The public answer (seed 001, contract section 8)."""
    fix = seen.fix
    config = session.share_config
    driver = None
    if fix is not None:
        driver = {
            "latitude": fix.latitude,
            "longitude": fix.longitude,
            "heading": fix.heading if config.show_heading else None,
            "speed": fix.speed if config.show_speed else None,
        }
    return {
        "status": "active",
        "driver": driver,
        "destination": place(seen.destination) if config.show_destination_on_map else None,
        "eta_seconds": eta if config.show_eta else None,
        "order_id": session.order_id,
        "recipient_name": session.recipient_name,
        "notes": session.notes,
        "driver_display_name": seen.name,
        "last_updated": None if fix is None else fix.recorded_us // SECOND,
        "stale": None if fix is None else seen.stale(now_us),
        "stale_after": seconds(seen.stale_after_us),
        "age_seconds": age(fix, now_us),
        "stage": seen.stage.value,
        "stage_at": None if seen.stage_at_us is None else seen.stage_at_us // SECOND,
        "expires_at": session.expires_us // SECOND,
        "server_time": now_us // SECOND,
        "update_interval_seconds": config.update_interval_seconds,
        "brand": dict(brand),
    }


def position(session: ShareSession, seen: Sight, fix: Fix, *, now_us: int, eta: int | None) -> dict[str, Any]:
    """The live frame of a position (seed 001) with what tells its age and stage."""
    config = session.share_config
    return {
        "type": "position",
        "latitude": fix.latitude,
        "longitude": fix.longitude,
        "heading": fix.heading if config.show_heading else None,
        "speed": fix.speed if config.show_speed else None,
        "driver_display_name": seen.name,
        "eta_seconds": eta if config.show_eta else None,
        "timestamp": fix.recorded_us // SECOND,
        "stale": seen.stale(now_us),
        "stale_after": seconds(seen.stale_after_us),
        "age_seconds": age(fix, now_us),
        "stage": seen.stage.value,
    }


def place(where: Place | None) -> dict[str, Any] | None:
    if where is None:
        return None
    return {"latitude": where.latitude, "longitude": where.longitude, "label": where.label}


def seconds(us: int) -> int | float:
    """Microseconds as seconds, whole where they are."""
    return us // SECOND if us % SECOND == 0 else us / SECOND


def age(fix: Fix | None, now_us: int) -> int | None:
    """Whole seconds since the fix was taken."""
    return None if fix is None else max(0, now_us - fix.recorded_us) // SECOND


def _seen(session: ShareSession, device: Device, past: PastTrip | None) -> tuple[Fix | None, Stage, int | None]:
    winner = device.winner
    if device.hidden and winner is not None:
        if winner.last_ended_us is None and winner.last is None:  # it never shared: what happened before it will
            return None, device.stage or Stage.WAITING, device.stage_at_us
        if device.stage in ENDINGS:
            return None, device.stage, device.stage_at_us
        return None, Stage.NOT_SHARING, winner.last_ended_us
    if session.track_token is not None:
        return _seen_on_trip(session.track_token, device, past)
    fix = device.public_fix
    if device.stage is not None:
        return fix, device.stage, device.stage_at_us
    return fix, Stage.WAITING if fix is None else Stage.LIVE, None


def _seen_on_trip(
    track_token: str, device: Device, past: PastTrip | None
) -> tuple[Fix | None, Stage, int | None]:
    """Nothing of another trip is ever shown; when the trip ends its last position stays."""
    trip, fix = device.trip, device.public_fix
    if trip is not None and trip.track_token == track_token:
        if fix is not None and fix.trip_id != trip.id:
            fix = None
        if trip.ended_us is not None:
            return fix, Stage.TRIP_ENDED, trip.ended_us
        if device.stage is not None:
            return fix, device.stage, device.stage_at_us
        return fix, Stage.WAITING if fix is None else Stage.LIVE, None
    if past is not None:
        return past.fix, Stage.TRIP_ENDED, past.ended_us
    return None, Stage.WAITING, None
