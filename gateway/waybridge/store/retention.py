"""What time takes away: history past its days, and on PostgreSQL the partitions that hold it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waybridge.store.engine import Tx

DAY_MINUTES = 1440
AHEAD_DAYS = 3
_CHUNK = 20_000


async def make_partitions(tx: Tx) -> list[str]:
    """PostgreSQL: a partition for each of the coming days, made ahead; returns the new ones' names.

    A day for which rows are in the default partition already gets none: its rows stay there.
    """
    today = tx.now_us // 60_000_000 // DAY_MINUTES
    have = await _partitions(tx)
    made: list[str] = []
    for day in range(today, today + AHEAD_DAYS + 1):
        name = f"positions_d{day}"
        if name in have:
            continue
        low, high = day * DAY_MINUTES, (day + 1) * DAY_MINUTES
        taken = "SELECT 1 FROM positions_default WHERE minute >= $1 AND minute < $2 LIMIT 1"
        if (await tx.conn.exec_driver_sql(taken, (low, high))).first() is not None:
            continue
        await tx.conn.exec_driver_sql(
            f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF positions FOR VALUES FROM ({low}) TO ({high})"
        )
        made.append(name)
    return made


async def drop_partitions(tx: Tx, before_us: int) -> list[str]:
    """PostgreSQL: drops each past partition whose newest row was received before a moment."""
    limit_day = before_us // 60_000_000 // DAY_MINUTES
    dropped: list[str] = []
    for name in await _partitions(tx):
        if int(name.removeprefix("positions_d")) >= limit_day:
            continue
        newest = (await tx.conn.exec_driver_sql(f"SELECT max(received_us) FROM {name}")).scalar()  # noqa: S608 - ours
        if newest is None or newest < before_us:
            await tx.conn.exec_driver_sql(f"DROP TABLE {name}")
            dropped.append(name)
    return dropped


async def purge_history(tx: Tx, before_us: int) -> int:
    """Deletes a chunk of the fixes that were received before a moment; 0 when none is left."""
    minute = before_us // 60_000_000
    if tx.dialect == "postgresql":
        sql = (
            "DELETE FROM positions WHERE (minute, source_id, recorded_us) IN (SELECT minute, source_id, recorded_us"  # noqa: S608
            f" FROM positions_default WHERE minute <= $1 AND received_us < $2 LIMIT {_CHUNK})"
        )
    else:
        sql = (
            "DELETE FROM positions WHERE (minute, source_id, recorded_us) IN (SELECT minute, source_id, recorded_us"  # noqa: S608
            f" FROM positions WHERE minute <= ? AND received_us < ? LIMIT {_CHUNK})"
        )
    return (await tx.conn.exec_driver_sql(sql, (minute, before_us))).rowcount


async def purge_trips(tx: Tx, before_us: int) -> int:
    """Deletes trips and closed sharing periods that ended before a moment, unless a source's newest."""
    mark = "$1" if tx.dialect == "postgresql" else "?"
    trips = await tx.conn.exec_driver_sql(
        f"DELETE FROM trips WHERE ended_us < {mark} AND EXISTS (SELECT 1 FROM trips newer"  # noqa: S608 - a mark
        " WHERE newer.source_id = trips.source_id AND newer.started_us > trips.started_us)",
        (before_us,),
    )
    periods = await tx.conn.exec_driver_sql(
        f"DELETE FROM sharing_periods WHERE ended_us < {mark} AND EXISTS (SELECT 1 FROM sharing_periods newer"  # noqa: S608
        " WHERE newer.source_id = sharing_periods.source_id AND newer.began_us > sharing_periods.began_us)",
        (before_us,),
    )
    return trips.rowcount + periods.rowcount


async def _partitions(tx: Tx) -> list[str]:
    rows = await tx.conn.exec_driver_sql(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'positions'::regclass"
    )
    return sorted(row[0] for row in rows if re.fullmatch(r"positions_d\d+", row[0]))
