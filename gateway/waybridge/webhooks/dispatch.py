"""From the outbox to deliveries: each event becomes one delivery for every subscription that hears of it.

Promise: an event that was committed is expanded, once, in the order of the outbox, on whichever node gets to it
first; a crash in between leaves it waiting. Woken by the bus, and by a timer for what a nudge did not reach.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from waybridge.bus import Nudge
from waybridge.errors import StoreUnavailable
from waybridge.store import webhooks as rows
from waybridge.webhooks.events import Hearer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from waybridge.bus import Bus, Event
    from waybridge.store.engine import Store, Tx

log = structlog.get_logger("waybridge.webhooks")

BATCH = 250
"""Events that one transaction expands."""
LOOK_SECONDS = 1.0
"""How often the outbox is looked at when nobody nudges."""
DOWN_SECONDS = 2.0
"""How long to wait when the database does not answer."""


class Dispatcher:
    """Expands the outbox. `expanded` is called after each batch that made deliveries, to wake the workers."""

    def __init__(self, store: Store, bus: Bus, expanded: Callable[[], None]) -> None:
        self._store = store
        self._bus = bus
        self._expanded = expanded
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._detach: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Begins to expand, at once with what a former process left."""
        self._detach = self._bus.attach(self._nudged)
        self._task = asyncio.create_task(self._run(), name="webhook dispatcher")

    async def close(self) -> None:
        """Stops after the batch that is being written."""
        self._detach()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def expand(self) -> int:
        """Expands everything that waits now; returns how many events that were."""
        total = 0
        while True:
            async with self._store.read() as conn:
                if not await rows.anything_waiting(conn):
                    return total
            events, deliveries = await self._store.write(expand_batch)
            total += events
            if deliveries:
                self._expanded()

    def _nudged(self, events: Sequence[Event]) -> None:
        if any(isinstance(event, Nudge) and event.topic == "outbox" for event in events):
            self._wake.set()

    async def _run(self) -> None:
        down = False
        while True:
            pause = LOOK_SECONDS
            try:
                self._wake.clear()
                await self.expand()
            except StoreUnavailable as error:
                if not down:
                    log.warning("Events wait: the database does not answer", error=str(error))
                down, pause = True, DOWN_SECONDS
            else:
                if down:
                    log.info("Events are expanded again")
                down = False
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass


async def expand_batch(tx: Tx) -> tuple[int, int]:
    """Expands the oldest waiting events in this transaction: (events, deliveries made)."""
    await rows.order_lock(tx, shared=False)
    events = await rows.waiting_events(tx.conn, BATCH)
    if not events:
        return 0, 0
    hearers: dict[str, list[Hearer]] = {}
    for each in await rows.active_subscriptions(tx.conn, (event.instance_id for event in events)):
        hearers.setdefault(each.instance_id, []).append(Hearer(each))
    devices = {
        (event.instance_id, event.device_token)
        for event in events
        if event.device_token is not None and any(each.by_group for each in hearers.get(event.instance_id, ()))
    }
    groups = await rows.groups_of_devices(tx.conn, devices)
    wanted = [
        (hearer.subscription.id, event, event.device_token or "")
        for event in events
        for hearer in hearers.get(event.instance_id, ())
        if hearer.wants(event, groups.get((event.instance_id, event.device_token or ""), ()))
    ]
    await rows.add_deliveries(tx, wanted, tx.now_us)
    await rows.mark_expanded(tx, [event.id for event in events])
    return len(events), len(wanted)
