"""Stream sessions: what each shows, and which connection holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import delete, select, update

from waybridge.store.tables import stream_sessions

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from waybridge.store.engine import Tx


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream shows. `device_tokens` and `groups` None: every device; `fields` None: every field."""

    device_tokens: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    fields: tuple[str, ...] | None = None
    min_interval_seconds: float = 5.0
    include_offline: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRow:
    """A stream session. `holder` names the connection that was opened last."""

    stream_id: str
    instance_id: str
    spec: StreamSpec
    holder: str | None
    created_us: int
    expires_us: int


async def add_stream(tx: Tx, row: StreamRow, digest: bytes) -> None:
    """Stores a new stream; `digest` is the SHA-256 of its token."""
    await tx.conn.execute(
        stream_sessions.insert().values(
            stream_id=row.stream_id,
            instance_id=row.instance_id,
            token_digest=digest,
            spec=_encode(row.spec).decode(),
            created_us=row.created_us,
            expires_us=row.expires_us,
        )
    )


async def stream_by_digest(conn: AsyncConnection, digest: bytes) -> StreamRow | None:
    """The stream whose token has this SHA-256."""
    return await _one(conn, stream_sessions.c.token_digest == digest)


async def stream_by_id(conn: AsyncConnection, stream_id: str) -> StreamRow | None:
    return await _one(conn, stream_sessions.c.stream_id == stream_id)


async def hold_stream(tx: Tx, stream_id: str, holder: str) -> bool:
    """Notes the connection that has a stream now; False when the stream is gone."""
    change = update(stream_sessions).where(stream_sessions.c.stream_id == stream_id).values(holder=holder)
    return (await tx.conn.execute(change)).rowcount == 1


async def purge_streams(tx: Tx, before_us: int) -> int:
    """Forgets streams that expired before; how many."""
    return (await tx.conn.execute(delete(stream_sessions).where(stream_sessions.c.expires_us < before_us))).rowcount


async def _one(conn: AsyncConnection, where: ColumnElement[bool]) -> StreamRow | None:
    row = (await conn.execute(select(stream_sessions).where(where))).one_or_none()
    if row is None:
        return None
    return StreamRow(
        stream_id=row.stream_id,
        instance_id=row.instance_id,
        spec=_decode(row.spec),
        holder=row.holder,
        created_us=row.created_us,
        expires_us=row.expires_us,
    )


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(StreamSpec).decode
