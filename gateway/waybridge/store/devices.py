"""Devices as the API changes them: profiles, display fields, and the erasure of everything known of one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from waybridge.store.tables import (
    attempts,
    deliveries,
    devices,
    last,
    outbox,
    positions,
    share_sessions,
    sharing_periods,
    sources,
    trips,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from waybridge.store.engine import Tx


async def keep_profile(tx: Tx, device_id: int, profile: Mapping[str, str | None], handle: str | None = None) -> None:
    """Replaces a device's profile; a handle is only ever added."""
    values: dict[str, object] = {
        "profile": json.dumps(dict(profile), ensure_ascii=False),
        "profile_updated_us": tx.now_us,
    }
    if handle is not None:
        values["handle"] = handle
    await tx.conn.execute(update(devices).where(devices.c.id == device_id).values(**values))


async def keep_display_fields(tx: Tx, fields: Mapping[int, str]) -> None:
    """Device number -> the profile field that names it."""
    for device_id, field in fields.items():
        await tx.conn.execute(update(devices).where(devices.c.id == device_id).values(display_field=field))


async def sources_of(conn: AsyncConnection, device_id: int) -> tuple[list[int], list[int]]:
    """(sources that belong to a device, sources that belonged to it once and left trips with it)."""
    own = [row.id for row in await conn.execute(select(sources.c.id).where(sources.c.device_id == device_id))]
    past = await conn.execute(select(trips.c.source_id).where(trips.c.device_id == device_id).distinct())
    return own, [row.source_id for row in past if row.source_id not in own]


async def delete_thoroughly(tx: Tx, *, on: bool) -> None:
    """Makes deletions overwrite what they delete, where the database would leave it readable in its file."""
    if tx.dialect == "sqlite":
        await tx.conn.exec_driver_sql(f"PRAGMA secure_delete={'ON' if on else 'OFF'}")


async def erase_names(tx: Tx, device_id: int, device_token: str) -> None:
    """Takes the person's name, handle and chat out of a device's periods, before their ends are told."""
    await tx.conn.execute(
        update(sharing_periods)
        .where(sharing_periods.c.device_id == device_id)
        .values(shared_by=device_token, chat_id=None)
    )


async def erase_device(tx: Tx, device_id: int, own: Sequence[int]) -> None:
    """Deletes a device with its sources, newest fixes, trips and periods.

    Its history is erased beside this (tracks.erase_points); share sessions stay without their link to it.
    """
    conn = tx.conn
    await conn.execute(delete(last).where(last.c.source_id.in_(own) | (last.c.device_id == device_id)))
    await conn.execute(delete(trips).where(trips.c.source_id.in_(own) | (trips.c.device_id == device_id)))
    await conn.execute(
        delete(sharing_periods).where(sharing_periods.c.source_id.in_(own) | (sharing_periods.c.device_id == device_id))
    )
    await conn.execute(update(share_sessions).where(share_sessions.c.device_id == device_id).values(device_id=None))
    await conn.execute(delete(sources).where(sources.c.device_id == device_id))
    await conn.execute(delete(devices).where(devices.c.id == device_id))


async def erase_payloads(tx: Tx, device_id: int, instance_id: str, device_token: str) -> None:
    """Deletes the events that tell of a device, their deliveries, and what targets answered."""
    conn = tx.conn
    about = (outbox.c.device_id == device_id) | (
        (outbox.c.instance_id == instance_id) & (outbox.c.device_token == device_token)
    )
    told = select(outbox.c.id).where(about).scalar_subquery()
    sent = select(deliveries.c.id).where(deliveries.c.outbox_id.in_(told)).scalar_subquery()
    await conn.execute(delete(attempts).where(attempts.c.delivery_id.in_(sent)))
    await conn.execute(delete(deliveries).where(deliveries.c.outbox_id.in_(told)))
    await conn.execute(delete(outbox).where(about))


async def erase_history_of_device(tx: Tx, device_id: int, source_id: int, first: int, last_minute: int) -> int:
    """Deletes what a source that belongs to another device now left in a device's history."""
    done = await tx.conn.execute(
        delete(positions).where(
            positions.c.minute.between(first, last_minute),
            positions.c.source_id == source_id,
            positions.c.device_id == device_id,
        )
    )
    return int(done.rowcount)
