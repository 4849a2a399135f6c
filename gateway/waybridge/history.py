"""Keeps history for its days and no longer; on PostgreSQL makes and drops the partitions."""

from __future__ import annotations

import structlog

from waybridge.store import retention
from waybridge.store.engine import Store, Tx

log = structlog.get_logger("waybridge.history")
EVERY_SECONDS = 600.0
DAY_US = 86_400_000_000
TRIP_DAYS = 90


class History:
    """`days` of positions are kept, counted from when they were received; 0 keeps only the newest ones."""

    def __init__(self, store: Store, days: float) -> None:
        self._store = store
        self._days = days

    async def tidy(self) -> None:
        """One turn: partitions ahead, what is past its days gone, in short transactions."""
        postgres = self._store.dialect == "postgresql"
        before_us = self._store.now_us() - int(self._days * DAY_US)
        if postgres:
            made = await self._store.write(self._lock_and_make)
            if made:
                log.info("Partitions were made ahead", partitions=made)
            dropped = await self._store.write(lambda tx: retention.drop_partitions(tx, before_us))
            if dropped:
                log.info("Partitions past their days were dropped", partitions=dropped)
        gone = 0
        while count := await self._store.write(lambda tx: retention.purge_history(tx, before_us)):
            gone += count
        gone += await self._store.write(
            lambda tx: retention.purge_trips(tx, min(before_us, tx.now_us - TRIP_DAYS * DAY_US))
        )
        if gone:
            log.info("History past its days was deleted", rows=gone)

    @staticmethod
    async def _lock_and_make(tx: Tx) -> list[str]:
        await tx.conn.exec_driver_sql("SELECT pg_advisory_xact_lock(x'77617963'::int)")  # one node makes them
        return await retention.make_partitions(tx)
