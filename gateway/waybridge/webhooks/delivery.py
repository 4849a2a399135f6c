"""The workers: they claim what is due, attempt it, and write down what became of it.

Promise: at least once, with the same id and bytes each time. A claim is a short transaction with a lease; a
process that dies leaves its claims to whoever comes after the lease. First attempts of one subscription and
device go out one after the other; retries hold up nobody. One transaction after the other writes down all
attempts that ended meanwhile, sets free what waited for them and claims anew for the slots that are free, so that
a slow target holds only its own slots and costs the others nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog

from waybridge.errors import StoreUnavailable
from waybridge.store import deliveries as rows
from waybridge.store.deliveries import Claimed, Ended, Head
from waybridge.store.webhooks import subscriptions_by_id, switch_off
from waybridge.webhooks import metrics
from waybridge.webhooks.breaker import Targets
from waybridge.webhooks.events import OPERATIONS
from waybridge.webhooks.schedule import HOUR_US, SECOND_US, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from waybridge.settings import WebhookSettings
    from waybridge.store.engine import Store, Tx
    from waybridge.store.webhooks import Subscription
    from waybridge.webhooks.attempt import Sender

log = structlog.get_logger("waybridge.webhooks")

SLOTS = 256
"""Attempts of one process at once; more wait in the database."""
AT_ONCE = 16
"""Attempts at one target at once."""
RECORDED = 512
"""Attempts that one transaction writes down."""
LOOK_SECONDS = 1.0
"""How often a worker looks for what no wake-up told of (other nodes' work, leases that ended)."""
DOWN_SECONDS = 1.0
"""How long to wait when the database does not answer."""
CLOSE_SECONDS = 2.0
"""How long a claim that is being written may take when the gateway stops."""
LEASE_MARGIN_SECONDS = 10.0
"""How much longer than an attempt's limit a lease lasts."""


class Deliverer:
    """The delivery workers of one process."""

    def __init__(
        self,
        store: Store,
        sender: Sender,
        settings: WebhookSettings,
        *,
        slots: int = SLOTS,
        at_once: int = AT_ONCE,
        lease_seconds: float | None = None,
    ) -> None:
        self._store = store
        self._sender = sender
        self._slots = slots
        self._targets = Targets(at_once)
        self._lease_us = round((lease_seconds or settings.timeout_seconds + LEASE_MARGIN_SECONDS) * SECOND_US)
        self._disable_after_us = round(settings.disable_after_hours * HOUR_US)
        self._wake = asyncio.Event()
        self._running: dict[asyncio.Task[None], Claimed] = {}
        self._ended: list[Ended] = []
        self._rounds = asyncio.Lock()
        self._next_us: int | None = None
        self._turn = 0
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to deliver. The only process of a database takes up at once what its predecessor had claimed."""
        if self._store.exclusive:
            await self._store.write(rows.free_claims)
        self._task = asyncio.create_task(self._run(), name="webhook workers")

    async def close(self, grace_seconds: float = 5.0) -> None:
        """Claims no more, lets running attempts end for a while, then gives back what is left."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._running:
            await asyncio.wait(self._running, timeout=grace_seconds)
        left = dict(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        ended, self._ended = self._ended, []

        async def unit(tx: Tx) -> None:
            if ended:
                await record(tx, ended, self._disable_after_us)
            if left:
                await rows.give_back(tx, list(left.values()))

        if ended or left:
            with contextlib.suppress(StoreUnavailable):  # their leases end by themselves
                await self._store.write(unit)

    def wake(self) -> None:
        """Something may be due now."""
        self._wake.set()

    async def drain(self) -> None:
        """Attempts everything that is due now and returns when nothing is (instead of `start`)."""
        while await self._round() or self._running or self._ended:
            if self._running and not self._ended:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)

    @property
    def open_breakers(self) -> int:
        """How many targets are left alone now."""
        return self._targets.open(self._store.now_us())

    async def _run(self) -> None:
        down = False
        while not self._closing:
            self._wake.clear()
            pause = LOOK_SECONDS
            try:
                if await self._round():
                    continue
                if self._next_us is not None:
                    pause = min(pause, max(0.0, (self._next_us - self._store.now_us()) / SECOND_US))
            except StoreUnavailable as error:
                if not down:
                    log.warning("Deliveries wait: the database does not answer", error=str(error))
                down, pause = True, DOWN_SECONDS
            except Exception:
                log.exception("Deliveries could not be claimed or written down; their leases end")
                pause = DOWN_SECONDS
            else:
                if down:
                    log.info("Deliveries go on")
                down = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0 if self._closing else pause):
                    await self._wake.wait()

    async def _round(self) -> int:
        """Writes down what ended, claims a delivery for each free slot that has one; how many rows that were.

        What cannot be written down because the database is away is kept for the next round; if it comes too late
        the lease is over, and the word of an attempt whose claim was lost counts nothing.
        """
        async with self._rounds:
            ended = self._ended[:RECORDED]
            if not ended and not await self._anything_due():
                return 0
            try:
                claimed, subscriptions, self._next_us = await self._store.write(partial(self._written, ended))
            except StoreUnavailable:
                raise
            except Exception:
                del self._ended[: len(ended)]
                raise
            del self._ended[: len(ended)]
            for each in claimed:
                self._begin(each, subscriptions[each.subscription_id])
        return len(ended) + len(claimed)

    async def _written(
        self, ended: Sequence[Ended], tx: Tx
    ) -> tuple[Sequence[Claimed], Mapping[str, Subscription], int | None]:
        """A round's transaction: (claims, their subscriptions, when the next delivery falls due)."""
        if ended:
            await record(tx, ended, self._disable_after_us)
        if self._closing:
            return [], {}, None
        heads = await rows.due_heads(tx.conn)
        taken = await rows.claim(tx, self._shares(heads), secrets.token_hex(8), tx.now_us + self._lease_us)
        return (
            taken,
            await subscriptions_by_id(tx.conn, {each.subscription_id for each in taken}),
            _next_us(heads, tx.now_us),
        )

    async def _anything_due(self) -> bool:
        """Whether a free slot would find something, asked without keeping the writer."""
        async with self._store.read() as conn:
            heads = await rows.due_heads(conn)
        self._next_us = _next_us(heads, self._store.now_us())
        return bool(self._shares(heads))

    def _shares(self, heads: Sequence[Head]) -> dict[str, int]:
        """Free slots for the subscriptions that have something due: as equal as their targets allow."""
        now_us, free = self._store.now_us(), self._slots - len(self._running)
        due = [head for head in heads if head.next_us <= now_us]
        room: dict[str, int] = {}
        for head in due:
            target = head.target_url
            if target not in room:
                room[target] = self._targets.free(target, now_us)
        due = [head for head in due if room[head.target_url]]
        self._turn += 1
        shares: dict[str, int] = {}
        for index in range(len(due)):
            head = due[(index + self._turn) % len(due)]
            target = head.target_url
            share = min(room[target], max(1, free // (len(due) - index)))
            if share > 0 and free > 0:
                shares[head.subscription_id] = share
                room[target] -= share
                free -= share
        return shares

    def _begin(self, claimed: Claimed, subscription: Subscription) -> None:
        target = subscription.target_url
        self._targets.begin(target)
        task = asyncio.create_task(self._deliver(claimed, subscription, target), name=f"webhook {claimed.id}")
        self._running[task] = claimed
        metrics.RUNNING.set(len(self._running))
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        claimed = self._running.pop(task)
        metrics.RUNNING.set(len(self._running))
        if not task.cancelled() and task.exception() is not None:
            log.error("A delivery broke off; its lease ends", delivery_id=claimed.id, exc_info=task.exception())
        self._wake.set()

    async def _deliver(self, claimed: Claimed, subscription: Subscription, target: str) -> None:
        event = claimed.event
        if event is None or not subscription.is_active:
            self._targets.forget(target)
            self._ended.append(_dropped(claimed, self._store.now_us()))
            return
        began = time.monotonic()
        if not claimed.attempts:
            metrics.FIRST_ATTEMPT_SECONDS.observe((self._store.now_us() - event.created_us) / SECOND_US)
        try:
            outcome, ended = await self._sender.attempt(claimed, event, subscription)
        except BaseException:
            self._targets.forget(target)
            raise
        metrics.ATTEMPTS.labels(outcome.value).inc()
        metrics.ATTEMPT_SECONDS.observe(time.monotonic() - began)
        well = outcome is Outcome.DELIVERED
        self._targets.end(target, self._store.now_us(), well=well)
        if not well:
            log.debug(
                "A webhook was not taken",
                subscription_id=subscription.id,
                event_id=event.event_id,
                attempt=claimed.attempts + 1,
                outcome=outcome.value,
                status=ended.status,
            )
        self._ended.append(ended)


async def record(tx: Tx, batch: Sequence[Ended], disable_after_us: int) -> None:
    """Writes down attempts with all that follows from them: retries, dead letters, subscriptions switched off."""
    ours = await rows.settle(tx, batch)
    well = {each.claimed.subscription_id for each in ours if each.state == "delivered"}
    failing = {each.claimed.subscription_id for each in ours if each.error is not None} - well
    await rows.note_health(tx, well, failing)
    for each in ours:
        event = each.claimed.event
        if each.state != "dead" or each.status == HTTPStatus.GONE or event is None or event.event_type in OPERATIONS:
            continue
        data = {
            "subscription_id": each.claimed.subscription_id,
            "event_id": event.event_id,
            "attempts": each.claimed.attempts + 1,
        }
        tx.emit("message.exhausted", instance_id=event.instance_id, data=data)
    for gone in sorted({each.claimed.subscription_id for each in ours if each.status == HTTPStatus.GONE}):
        await disable(tx, gone, "gone")
    if failing:
        await disable_failing(tx, disable_after_us, failing)


async def disable_failing(tx: Tx, disable_after_us: int, tried: set[str]) -> None:
    """Switches off what has seen nothing but failures for too long."""
    for each in await rows.failing_too_long(tx.conn, tx.now_us - disable_after_us, tried):
        await disable(tx, each, "failing")


async def disable(tx: Tx, subscription_id: str, reason: str) -> None:
    """Switches a subscription off and says so: `gone` (410), or `failing` (nothing but failures for 120 h)."""
    instance_id = await switch_off(tx, subscription_id, reason)
    if instance_id is not None:
        tx.emit(
            "webhook.disabled", instance_id=instance_id, data={"subscription_id": subscription_id, "reason": reason}
        )
        tx.after_commit(
            lambda: log.warning("A webhook was switched off", subscription_id=subscription_id, reason=reason)
        )


def _next_us(heads: Sequence[Head], now_us: int) -> int | None:
    """When the next of them falls due; what is due already but kept back waits for a wake-up."""
    return min((head.next_us for head in heads if head.next_us > now_us), default=None)


def _dropped(claimed: Claimed, now_us: int) -> Ended:
    return Ended(
        claimed=claimed,
        at_us=now_us,
        duration_ms=0,
        status=None,
        error=None,
        answer=None,
        state="dropped",
        next_us=now_us,
    )
