"""Rate limits that hold over all nodes: one theoretical arrival time a key (GCRA)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from waybridge.store.tables import rate_limits

if TYPE_CHECKING:
    from waybridge.store.engine import Tx


async def arrival_us(tx: Tx, bucket: str) -> int | None:
    """The key's theoretical arrival time, held until the commit."""
    question = select(rate_limits.c.arrival_us).where(rate_limits.c.bucket == bucket).with_for_update()
    return (await tx.conn.execute(question)).scalar_one_or_none()


async def keep_arrival(tx: Tx, bucket: str, arrival_us: int) -> None:
    made = tx.insert(rate_limits).values(bucket=bucket, arrival_us=arrival_us)
    await tx.conn.execute(
        made.on_conflict_do_update(index_elements=["bucket"], set_={"arrival_us": made.excluded.arrival_us})
    )


async def forget_arrivals(tx: Tx, before_us: int) -> int:
    """Keys whose time has passed limit nobody any more."""
    return (await tx.conn.execute(delete(rate_limits).where(rate_limits.c.arrival_us < before_us))).rowcount
