"""What a subscription got and gets again: its deliveries, the test event, replay (contract section 11)."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from waybridge.errors import Conflict, Invalid, NotFound
from waybridge.model import iso_us
from waybridge.store import webhooks as rows
from waybridge.store.engine import new_id
from waybridge.store.webhooks import PARKED, Subscription, Told
from waybridge.webhooks.events import TEST_EVENT, Hearer
from waybridge.webhooks.schedule import DAY_US
from waybridge.webhooks.subscriptions import found, wake

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from waybridge.settings import WebhookSettings
    from waybridge.store import AsyncConnection, Row
    from waybridge.store.engine import Store, Tx

PAGE = 500
"""Events that one transaction of a replay looks at."""


class History:
    """The deliveries of subscriptions. Instances are given as the caller may see them; None is all."""

    def __init__(self, store: Store, settings: WebhookSettings) -> None:
        self._store = store
        self._kept_us = round(settings.dead_letter_days * DAY_US)

    async def deliveries(
        self,
        instance_ids: Collection[str] | None,
        subscription_id: str,
        *,
        state: str | None = None,
        event_id: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> dict[str, Any]:
        """`{deliveries, total, limit, offset}`, newest first, each with its attempts. Raises NotFound."""
        async with self._store.read() as conn:
            await found(conn, instance_ids, subscription_id)
            total, found_rows, tried = await rows.deliveries_of(
                conn, subscription_id, state=state, event_id=event_id, limit=limit, offset=offset
            )
        return {
            "deliveries": [_delivery(row, tried.get(row.id, [])) for row in found_rows],
            "total": total,
            "limit": limit,
            "offset": offset,
        }

    async def test(self, instance_ids: Collection[str] | None, subscription_id: str) -> dict[str, Any]:
        """Sends the test event to one subscription, whatever it is subscribed to. Raises NotFound, Conflict."""

        async def unit(tx: Tx) -> dict[str, Any]:
            subscription = await _active(tx.conn, instance_ids, subscription_id)
            event = Told(
                id=new_id(),
                event_id="evt_" + secrets.token_hex(16),
                instance_id=subscription.instance_id,
                event_type=TEST_EVENT,
                device_token=None,
                cause=None,
                data=json.dumps({"subscription_id": subscription.id, "message": "Waybridge reaches this address."}),
                trace_id=secrets.token_hex(16),
                created_us=tx.now_us,
            )
            await rows.add_test_event(tx, event, subscription.id)
            wake(tx)
            return {"event_id": event.event_id, "event_type": TEST_EVENT}

        return await self._store.write(unit)

    async def replay_event(
        self, instance_ids: Collection[str] | None, subscription_id: str, event_id: str
    ) -> dict[str, Any]:
        """Sends one event again, with its id: `{replayed: 1}`. Raises NotFound, Conflict.

        The subscription must have got it before, or hear of such events now.
        """

        async def unit(tx: Tx) -> dict[str, Any]:
            subscription = await _active(tx.conn, instance_ids, subscription_id)
            event = await rows.told(tx.conn, subscription.instance_id, event_id)
            if event is None or not (
                await rows.was_sent(tx.conn, subscription.id, event) or await _heard(tx.conn, subscription, [event])
            ):
                raise NotFound("no such event for this webhook subscription; events are kept for a while only")
            await self._again(tx, subscription, [event], secrets.token_hex(4))
            return {"replayed": 1}

        return await self._store.write(unit)

    async def replay_range(
        self,
        instance_ids: Collection[str] | None,
        subscription_id: str,
        since_us: int | None,
        until_us: int | None,
    ) -> dict[str, Any]:
        """Sends all events again that were made in [since, until) and that the subscription hears of, in order.

        Dead, delivered and never sent ones alike: `{replayed: n}`. Raises NotFound, Conflict, Invalid.
        """
        now_us = self._store.now_us()
        since = now_us - self._kept_us if since_us is None else since_us
        until = now_us if until_us is None else until_us
        if since > until:
            raise Invalid("the body is not valid", errors=[("until", "must not be before since")])
        run = secrets.token_hex(4)
        after: tuple[int, int] | None = (since, 0)
        replayed = 0

        while after is not None:
            start = after

            async def unit(tx: Tx, start: tuple[int, int] = start) -> tuple[int, tuple[int, int] | None]:
                subscription = await _active(tx.conn, instance_ids, subscription_id)
                page = await rows.told_between(tx.conn, subscription.instance_id, since, until, start, PAGE)
                heard = await _heard(tx.conn, subscription, page)
                await self._again(tx, subscription, heard, run)
                return len(heard), (page[-1].created_us, page[-1].id) if len(page) == PAGE else None

            count, after = await self._store.write(unit)
            replayed += count
        return {"replayed": replayed}

    @staticmethod
    async def _again(tx: Tx, subscription: Subscription, events: Sequence[Told], run: str) -> None:
        """Replays are ordered among themselves and neither wait for what is new nor hold it up."""
        await rows.order_lock(tx, shared=False)
        wanted = [(subscription.id, event, f"replay/{run}/{event.device_token or ''}") for event in events]
        await rows.add_deliveries(tx, wanted, tx.now_us)
        wake(tx)


async def _active(conn: AsyncConnection, instance_ids: Collection[str] | None, subscription_id: str) -> Subscription:
    subscription = await found(conn, instance_ids, subscription_id)
    if not subscription.is_active:
        raise Conflict("the webhook subscription is not active; switch it on first")
    return subscription


async def _heard(conn: AsyncConnection, subscription: Subscription, events: Sequence[Told]) -> list[Told]:
    groups: Mapping[tuple[str, str], set[str]] = {}
    if subscription.groups is not None:
        devices = {(event.instance_id, event.device_token) for event in events if event.device_token is not None}
        groups = await rows.groups_of_devices(conn, devices)
    hearer = Hearer(subscription)
    return [
        event
        for event in events
        if event.event_type != TEST_EVENT
        and hearer.wants(event, groups.get((event.instance_id, event.device_token or ""), ()))
    ]


def _delivery(row: Row[Any], tried: Sequence[Row[Any]]) -> dict[str, Any]:
    waits = row.state != "pending" or row.next_us == PARKED or row.claim_id is not None
    return {
        "delivery_id": str(row.id),
        "event_id": row.event_id,
        "event_type": row.event_type,
        "state": row.state,
        "attempt_count": row.attempts,
        "attempts": [
            {
                "at": iso_us(each.at_us),
                "duration_ms": each.duration_ms,
                "status": each.status,
                "error": each.error,
                "answer": each.answer,
            }
            for each in tried
        ],
        "next_attempt_at": None if waits else iso_us(row.next_us),
        "created_at": iso_us(row.created_us),
        "done_at": iso_us(row.done_us),
    }
