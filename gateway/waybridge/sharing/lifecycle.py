"""How a share session begins and ends: the row, its sharing period and what integrators are told, in one transaction.

The functions for a whole device run inside the transaction of whoever ends it (a terminal driver event, erasure).
"""

from __future__ import annotations

import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from waybridge.bus import SessionEvent
from waybridge.model import iso_us
from waybridge.store import sessions as store
from waybridge.store.engine import Tx, new_id
from waybridge.store.fleet import begin_period

if TYPE_CHECKING:
    from waybridge.roster import Device
    from waybridge.store.sessions import ShareSession

Change: TypeAlias = Literal["created", "updated", "viewed", "completed", "cancelled", "expired"]
Ending: TypeAlias = Literal["completed", "cancelled", "expired"]
Cause: TypeAlias = Literal["completed", "cancelled", "expired", "erased"]
DUE_AT_ONCE = 200


async def begin(tx: Tx, session: ShareSession, device: Device | None) -> None:
    """Tells of a new session and opens its sharing period."""
    source = None
    if device is not None:
        source = device.winner or (device.sources[0] if device.sources else None)
    period = {
        "id": new_id(),
        "sharing_id": "shr_" + secrets.token_hex(12),
        "kind": "share",
        "instance_id": session.instance_id,
        "device_id": session.device_id,
        "device_token": session.device_token,
        "session_id": session.id,
        "connection_id": source.connection_id if source is not None else None,
        "provider": source.policy.provider if source is not None else None,
        "shared_by": device.display_name if device is not None else session.device_token,
        "shared_with": session.recipient_name or session.id,
        "began_us": tx.now_us,
        "ends_us": session.expires_us,
        "start_cause": "share_created",
    }
    await begin_period(tx, period)
    tell(tx, session, "created")
    _emit(tx, session, "location.sharing.started", {**_period(period), "cause": "share_created"}, "share_created")


async def finish(
    tx: Tx, session_id: str, ending: Ending, *, cause: Cause | None = None, device_id: int | None = None
) -> ShareSession | None:
    """Ends an active session; the ended session, or None when it had ended already.

    `device_id` is filled in where the session was made before its device was known.
    """
    session = await store.end_session(tx, session_id, ending, tx.now_us, device_id)
    if session is None:
        return None
    cause = cause or ending
    ended_us = min(tx.now_us, session.expires_us) if ending == "expired" else tx.now_us
    row = await store.change_share_period(tx, session.id, {"ended_us": ended_us, "stop_cause": cause})
    tell(tx, session, ending, cause=cause)
    if row is not None:
        told = {**_period(row._mapping), "ended_at": iso_us(ended_us), "cause": cause}  # noqa: SLF001 - public there
        _emit(tx, session, "location.sharing.stopped", told, cause)
    return session


async def complete_for_device(
    tx: Tx, device_id: int | None, device_token: str, instance_id: str
) -> list[ShareSession]:
    """Completes a device's open sessions, in the transaction of the event that ends the journey."""
    return await _finish_all(tx, device_token, instance_id, "completed", None, device_id)


async def cancel_for_device(tx: Tx, device_id: int | None, device_token: str, instance_id: str) -> list[ShareSession]:
    """Cancels a device's open sessions because its data is erased."""
    return await _finish_all(tx, device_token, instance_id, "cancelled", "erased", device_id)


async def expire_due(tx: Tx) -> int:
    """Ends sessions whose time is up, a bounded number at a time; safe on many nodes. Returns how many."""
    ended = 0
    for session_id in await store.sessions_due(tx.conn, tx.now_us, DUE_AT_ONCE):
        ended += await finish(tx, session_id, "expired") is not None
    return ended


class Endings:
    """Share sessions as those see them who end a journey or erase a person, inside their own transactions."""

    async def complete_for_device(self, tx: Tx, device_id: int, device_token: str, instance_id: str) -> None:
        await complete_for_device(tx, device_id, device_token, instance_id)

    async def cancel_for_device(self, tx: Tx, device_id: int, device_token: str, instance_id: str) -> None:
        await cancel_for_device(tx, device_id, device_token, instance_id)

    async def expire_due(self, tx: Tx) -> None:
        await expire_due(tx)


def tell(tx: Tx, session: ShareSession, change: Change, *, cause: str | None = None) -> None:
    """Tells integrators (the outbox) and this gateway's nodes (the bus) of a change."""
    _emit(tx, session, f"share.session.{change}", event_data(session), cause)
    tx.publish(
        SessionEvent(
            kind=change,
            instance_id=session.instance_id,
            session_id=session.id,
            device_id=session.device_id,
            device_token=session.device_token,
            version=session.version,
        )
    )


def event_data(session: ShareSession) -> dict[str, Any]:
    """A session as integrators are told of it: without its token, its destination by label alone."""
    return {
        "id": session.id,
        "device_token": session.device_token,
        "instance_id": session.instance_id,
        "status": session.status,
        "created_at": iso_us(session.created_us),
        "updated_at": iso_us(session.updated_us),
        "expires_at": iso_us(session.expires_us),
        "completed_at": iso_us(session.completed_us),
        "cancelled_at": iso_us(session.cancelled_us),
        "order_id": session.order_id,
        "recipient_name": session.recipient_name,
        "notes": session.notes,
        "track_token": session.track_token,
        "destination": None if session.destination is None else {"label": session.destination.label},
        "share_config": asdict(session.share_config),
        "views": session.views,
    }


async def _finish_all(
    tx: Tx, device_token: str, instance_id: str, ending: Ending, cause: Cause | None, device_id: int | None
) -> list[ShareSession]:
    ended = []
    for session in await store.open_sessions_of_device(tx, instance_id, device_token):
        if session.status_at(tx.now_us) == "expired":
            done = await finish(tx, session.id, "expired", device_id=device_id)
        else:
            done = await finish(tx, session.id, ending, cause=cause, device_id=device_id)
        if done is not None:
            ended.append(done)
    return ended


def _period(row: Any) -> dict[str, Any]:
    """What start and stop of a share's sharing period have in common (contract section 11)."""
    return {
        "sharing_id": row["sharing_id"],
        "kind": "share",
        "device_token": row["device_token"],
        "provider": row["provider"],
        "connection_id": row["connection_id"],
        "shared_by": row["shared_by"],
        "shared_with": row["shared_with"],
        "chat_id": None,
        "began_at": iso_us(row["began_us"]),
        "ends_at": iso_us(row["ends_us"]),
        "share_session_id": row["session_id"],
    }


def _emit(tx: Tx, session: ShareSession, event_type: str, data: dict[str, Any], cause: str | None) -> None:
    tx.emit(
        event_type,
        instance_id=session.instance_id,
        data=data,
        device_id=session.device_id,
        device_token=session.device_token,
        cause=cause,
    )
