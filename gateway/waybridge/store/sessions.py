"""Share sessions, their views and idempotency keys, as sharing asks for them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import and_, case, delete, func, literal, select, text, update

from waybridge.bus import Fix
from waybridge.model import Place
from waybridge.roster import NOT_LIVE, SUSPECT
from waybridge.store.tables import (
    devices,
    idempotency_keys,
    positions,
    session_views,
    share_sessions,
    sharing_periods,
    trips,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from waybridge.store.engine import Tx

MINUTE_US = 60_000_000
Status: TypeAlias = Literal["active", "completed", "cancelled", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareConfig:
    """What a recipient may see, and how often it is told (seed 000)."""

    show_speed: bool = True
    show_heading: bool = True
    show_eta: bool = True
    show_destination_on_map: bool = True
    update_interval_seconds: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareSession:
    """A link that shows one device to a recipient until it ends. Times in microseconds since 1970 UTC.

    `status` is what the row says; `status_at` is what holds. `token_sealed` opens with the vault alone.
    """

    id: str
    instance_id: str
    device_token: str
    device_id: int | None
    token_sealed: bytes = field(repr=False)
    status: Status = "active"
    created_us: int
    updated_us: int
    expires_us: int
    completed_us: int | None = None
    cancelled_us: int | None = None
    order_id: str | None = None
    recipient_name: str | None = None
    notes: str | None = None
    track_token: str | None = None
    destination: Place | None = None
    share_config: ShareConfig = field(default_factory=ShareConfig)
    views: int = 0
    version: int = 1
    created_by: str | None = None

    def status_at(self, now_us: int) -> Status:
        """The state by the clock: an active session is expired from its `expires_us` on."""
        return "expired" if self.status == "active" and self.expires_us <= now_us else self.status


async def lock(tx: Tx, *names: str) -> None:
    """Lets one transaction at a time pass for a name, until its end (SQLite has one writer anyway)."""
    if tx.dialect == "postgresql":
        await tx.conn.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": "\x1f".join(names)}
        )


async def device_number(conn: AsyncConnection, instance_id: str, device_token: str) -> int | None:
    """The number of a device that exists."""
    question = select(devices.c.id).where(devices.c.instance_id == instance_id, devices.c.device_token == device_token)
    return (await conn.execute(question)).scalar_one_or_none()


async def count_active(conn: AsyncConnection, instance_id: str, device_token: str, now_us: int) -> int:
    """How many sessions of a device are open by the clock."""
    question = select(func.count()).where(*_active_of(instance_id, device_token), share_sessions.c.expires_us > now_us)
    return int((await conn.execute(question)).scalar_one())


async def add_session(tx: Tx, session: ShareSession, digest: bytes) -> None:
    """Stores a new session; `digest` is the SHA-256 of its token."""
    row = {name: getattr(session, name) for name in _COLUMNS}
    row |= {
        "token_digest": digest,
        "destination": _destination(session.destination),
        "share_config": json.dumps(asdict(session.share_config)),
    }
    await tx.conn.execute(share_sessions.insert().values(row))


async def session_of(conn: AsyncConnection, instance_id: str, session_id: str) -> ShareSession | None:
    """An instance's session by its id."""
    return await _one(conn, share_sessions.c.id == session_id, share_sessions.c.instance_id == instance_id)


async def session_by_id(conn: AsyncConnection, session_id: str) -> ShareSession | None:
    return await _one(conn, share_sessions.c.id == session_id)


async def session_by_digest(conn: AsyncConnection, digest: bytes) -> ShareSession | None:
    """The session whose token has this SHA-256."""
    return await _one(conn, share_sessions.c.token_digest == digest)


async def locked_session(tx: Tx, instance_id: str, session_id: str) -> ShareSession | None:
    """A session that nobody else changes until the transaction ends."""
    question = select(share_sessions).where(
        share_sessions.c.id == session_id, share_sessions.c.instance_id == instance_id
    )
    if tx.dialect == "postgresql":
        question = question.with_for_update()
    row = (await tx.conn.execute(question)).one_or_none()
    return None if row is None else _session(row)


async def sessions_of(
    conn: AsyncConnection,
    instance_id: str,
    *,
    now_us: int,
    status: Status | None = None,
    device_token: str | None = None,
    order_id: str | None = None,
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[ShareSession], int]:
    """(a page of an instance's sessions, newest first; how many there are). Expiry is by the clock."""
    where = [share_sessions.c.instance_id == instance_id]
    if status is not None:
        effective = case(
            (and_(share_sessions.c.status == "active", share_sessions.c.expires_us <= now_us), literal("expired")),
            else_=share_sessions.c.status,
        )
        where.append(effective == status)
    if device_token is not None:
        where.append(share_sessions.c.device_token == device_token)
    if order_id is not None:
        where.append(share_sessions.c.order_id == order_id)
    total = (await conn.execute(select(func.count()).where(*where).select_from(share_sessions))).scalar_one()
    page = (
        select(share_sessions)
        .where(*where)
        .order_by(share_sessions.c.created_us.desc(), share_sessions.c.id.desc())
        .limit(limit)
        .offset(offset)
    )
    return [_session(row) for row in await conn.execute(page)], int(total)


async def open_sessions_of_device(tx: Tx, instance_id: str, device_token: str) -> list[ShareSession]:
    """A device's sessions that still count as active in their rows, locked, oldest first."""
    question = select(share_sessions).where(*_active_of(instance_id, device_token)).order_by(share_sessions.c.id)
    if tx.dialect == "postgresql":
        question = question.with_for_update()
    return [_session(row) for row in await tx.conn.execute(question)]


async def sessions_due(conn: AsyncConnection, now_us: int, limit: int) -> list[str]:
    """The ids of active sessions whose time is up."""
    question = (
        select(share_sessions.c.id)
        .where(share_sessions.c.status == "active", share_sessions.c.expires_us <= now_us)
        .order_by(share_sessions.c.expires_us)
        .limit(limit)
    )
    return list((await conn.execute(question)).scalars())


async def end_session(
    tx: Tx, session_id: str, status: Status, at_us: int, device_id: int | None = None
) -> ShareSession | None:
    """Ends an active session; the ended session, or None when it was not active any more."""
    values: dict[str, Any] = {"status": status, "updated_us": at_us, "version": share_sessions.c.version + 1}
    if status in ("completed", "cancelled"):
        values[f"{status}_us"] = at_us
    if device_id is not None:
        values["device_id"] = device_id
    change = (
        update(share_sessions)
        .where(share_sessions.c.id == session_id, share_sessions.c.status == "active")
        .values(values)
        .returning(share_sessions)
    )
    row = (await tx.conn.execute(change)).one_or_none()
    return None if row is None else _session(row)


async def change_session(tx: Tx, session_id: str, changes: Mapping[str, Any]) -> ShareSession:
    """Changes a session that `locked_session` found active; `changes` by the names of ShareSession."""
    values = {**changes, "updated_us": tx.now_us, "version": share_sessions.c.version + 1}
    if "destination" in changes:
        values["destination"] = _destination(changes["destination"])
    if "share_config" in changes:
        values["share_config"] = json.dumps(asdict(changes["share_config"]))
    change = (
        update(share_sessions).where(share_sessions.c.id == session_id).values(values).returning(share_sessions)
    )
    return _session((await tx.conn.execute(change)).one())


async def add_views(tx: Tx, session_id: str, count: int) -> ShareSession | None:
    """Counts views; the session as it is then."""
    change = (
        update(share_sessions)
        .where(share_sessions.c.id == session_id)
        .values(views=share_sessions.c.views + count)
        .returning(share_sessions)
    )
    row = (await tx.conn.execute(change)).one_or_none()
    return None if row is None else _session(row)


async def first_seen_from(tx: Tx, session_id: str, address_digest: bytes) -> bool:
    """Remembers that a session was looked at from an address; False when it had been before."""
    made = (
        tx.insert(session_views)
        .values(session_id=session_id, address_digest=address_digest, seen_us=tx.now_us)
        .on_conflict_do_nothing()
        .returning(session_views.c.session_id)
    )
    return (await tx.conn.execute(made)).one_or_none() is not None


async def remembered_key(
    conn: AsyncConnection, instance_id: str, key: str, since_us: int
) -> tuple[bytes, str] | None:
    """(fingerprint of the body, session id) of an idempotency key that is still kept."""
    question = select(idempotency_keys.c.fingerprint, idempotency_keys.c.session_id).where(
        idempotency_keys.c.instance_id == instance_id,
        idempotency_keys.c.key == key,
        idempotency_keys.c.created_us > since_us,
    )
    row = (await conn.execute(question)).one_or_none()
    return None if row is None else (bytes(row.fingerprint), row.session_id)


async def remember_key(tx: Tx, instance_id: str, key: str, fingerprint: bytes, session_id: str) -> None:
    values = {"fingerprint": fingerprint, "session_id": session_id, "created_us": tx.now_us}
    await tx.conn.execute(
        tx.insert(idempotency_keys)
        .values(instance_id=instance_id, key=key, **values)
        .on_conflict_do_update(index_elements=["instance_id", "key"], set_=values)
    )


async def change_share_period(tx: Tx, session_id: str, values: Mapping[str, Any]) -> Row[Any] | None:
    """Changes the open sharing period of a session; its row then, or None when none is open."""
    change = (
        update(sharing_periods)
        .where(
            sharing_periods.c.session_id == session_id,
            sharing_periods.c.kind == "share",
            sharing_periods.c.ended_us.is_(None),
        )
        .values(**values)
        .returning(sharing_periods)
    )
    row: Row[Any] | None = (await tx.conn.execute(change)).one_or_none()
    return row


async def purge(tx: Tx, *, ended_before_us: int, keys_before_us: int, limit: int = 500) -> int:
    """Forgets sessions that ended long ago, with their views, and old idempotency keys; how many sessions."""
    await tx.conn.execute(delete(idempotency_keys).where(idempotency_keys.c.created_us <= keys_before_us))
    over = (
        select(share_sessions.c.id)
        .where(
            share_sessions.c.status != "active",
            share_sessions.c.updated_us < ended_before_us,
            share_sessions.c.expires_us < ended_before_us,
        )
        .limit(limit)
    )
    ids: Sequence[str] = list((await tx.conn.execute(over)).scalars())
    if ids:
        await tx.conn.execute(delete(session_views).where(session_views.c.session_id.in_(ids)))
        await tx.conn.execute(delete(share_sessions).where(share_sessions.c.id.in_(ids)))
    return len(ids)


async def last_of_trip(conn: AsyncConnection, device_id: int, track_token: str) -> tuple[Fix | None, int | None] | None:
    """(the last fix that is kept of a device's trip, when it ended), or None when there was no such trip."""
    question = (
        select(trips)
        .where(trips.c.device_id == device_id, trips.c.track_token == track_token)
        .order_by(trips.c.started_us.desc())
        .limit(1)
    )
    trip = (await conn.execute(question)).one_or_none()
    if trip is None:
        return None
    until = [] if trip.ended_us is None else [positions.c.minute <= trip.ended_us // MINUTE_US]
    newest = (
        select(positions)
        .where(
            positions.c.minute >= trip.started_us // MINUTE_US - 1,
            *until,
            positions.c.source_id == trip.source_id,
            positions.c.trip_id == trip.id,
            positions.c.flags.bitwise_and(NOT_LIVE) == 0,
        )
        .order_by(positions.c.minute.desc(), positions.c.recorded_us.desc())
        .limit(1)
    )
    row = (await conn.execute(newest)).one_or_none()
    if row is None:
        return None, trip.ended_us
    fix = Fix(
        row.received_us if row.flags & SUSPECT else row.recorded_us, row.recorded_us, row.received_us, row.latitude,
        row.longitude, row.altitude, row.accuracy, row.speed, row.heading, row.trip_id, row.flags, row.extra,
    )  # fmt: skip
    return fix, trip.ended_us


def _active_of(instance_id: str, device_token: str) -> list[ColumnElement[bool]]:
    return [
        share_sessions.c.instance_id == instance_id,
        share_sessions.c.device_token == device_token,
        share_sessions.c.status == "active",
    ]


async def _one(conn: AsyncConnection, *where: ColumnElement[bool]) -> ShareSession | None:
    row = (await conn.execute(select(share_sessions).where(*where))).one_or_none()
    return None if row is None else _session(row)


def _destination(place: Place | None) -> str | None:
    return None if place is None else json.dumps(asdict(place), ensure_ascii=False)


def _session(row: Row[Any]) -> ShareSession:
    values = {name: row._mapping[name] for name in _COLUMNS}  # noqa: SLF001 - a public name in SQLAlchemy
    values["token_sealed"] = bytes(row.token_sealed)
    values["destination"] = Place(**json.loads(row.destination)) if row.destination else None
    values["share_config"] = ShareConfig(**json.loads(row.share_config))
    return ShareSession(**values)


_COLUMNS = tuple(ShareSession.__dataclass_fields__)
