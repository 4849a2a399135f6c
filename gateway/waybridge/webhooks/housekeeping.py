"""What only the clock asks for: measuring the queue, deleting what is old, switching off what is dead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from waybridge.errors import StoreUnavailable
from waybridge.store import deliveries as rows
from waybridge.webhooks import metrics
from waybridge.webhooks.delivery import disable_failing
from waybridge.webhooks.schedule import DAY_US, HOUR_US, SECOND_US

if TYPE_CHECKING:
    from waybridge.settings import WebhookSettings
    from waybridge.store.engine import Store
    from waybridge.webhooks.delivery import Deliverer

log = structlog.get_logger("waybridge.webhooks")

MEASURE_SECONDS = 15.0
ROUNDS = 20
"""Measurements between two clean-ups (5 minutes)."""
CHUNK = 500
"""Rows that one transaction deletes."""


class Housekeeping:
    """Looks after webhooks from time to time; harmless on many nodes at once."""

    def __init__(self, store: Store, deliverer: Deliverer, settings: WebhookSettings) -> None:
        self._store = store
        self._deliverer = deliverer
        self._kept_us = round(settings.dead_letter_days * DAY_US)
        self._disable_after_us = round(settings.disable_after_hours * HOUR_US)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="webhook housekeeping")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def measure(self) -> tuple[int, float]:
        """(how many wait, age of the oldest in seconds), as the metrics say from then on."""
        async with self._store.read() as conn:
            waiting, oldest_us = await rows.queue_state(conn)
        age = 0.0 if oldest_us is None else max(0.0, (self._store.now_us() - oldest_us) / SECOND_US)
        metrics.WAITING.set(waiting)
        metrics.OLDEST_SECONDS.set(age)
        metrics.OPEN_BREAKERS.set(self._deliverer.open_breakers)
        return waiting, age

    async def clean(self) -> int:
        """Deletes what is older than `dead_letter_days` and switches off what is dead; how many rows went."""
        before_us = self._store.now_us() - self._kept_us
        total = 0
        while gone := await self._store.write(lambda tx: rows.purge(tx, before_us, CHUNK)):
            total += gone
        await self._store.write(rows.unstick)
        await self._store.write(lambda tx: disable_failing(tx, self._disable_after_us, set()))
        return total

    async def _run(self) -> None:
        turn = 0
        while True:
            try:
                await self.measure()
                if turn % ROUNDS == 0:
                    await self.clean()
            except StoreUnavailable as error:
                log.debug("Housekeeping waits: the database does not answer", error=str(error))
            except Exception:
                log.exception("Housekeeping of webhooks failed")
            turn += 1
            await asyncio.sleep(MEASURE_SECONDS)
