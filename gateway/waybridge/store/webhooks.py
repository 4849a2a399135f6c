"""Webhook subscriptions, the outbox as it is expanded into deliveries, and what a subscription got."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, bindparam, delete, func, select, text, tuple_, update

from waybridge.store.engine import new_id
from waybridge.store.tables import attempts, deliveries, group_members, groups, outbox, subscriptions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from waybridge.store.engine import Tx

PARKED = 2**62
"""`next_us` of a delivery that waits for the first attempt of the one before it (same subscription and key)."""

_ORDER_LOCK = 0x77625F6F72646572  # "wb_order": expanding the outbox against ending a first attempt
_LISTS = ("device_tokens", "groups", "causes", "phone_numbers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A row of webhook_subscriptions; a filter that is None lets everything through."""

    id: str
    instance_id: str
    target_url: str
    subscribed_events: tuple[str, ...]
    device_tokens: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    causes: tuple[str, ...] | None
    phone_numbers: tuple[str, ...] | None
    is_active: bool
    disabled_reason: str | None
    secrets_sealed: bytes
    failing_since_us: int | None
    created_us: int
    updated_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An event of the outbox; `data` is JSON text."""

    id: int
    event_id: str
    instance_id: str
    event_type: str
    device_token: str | None
    cause: str | None
    data: str
    trace_id: str
    created_us: int


TOLD = tuple(
    outbox.c[name]
    for name in (
        "id", "event_id", "instance_id", "event_type", "device_token", "cause", "data", "trace_id", "created_us",
    )
)  # fmt: skip


async def add_subscription(tx: Tx, subscription: Subscription) -> None:
    """Writes a new subscription."""
    await tx.conn.execute(subscriptions.insert(), _columns(subscription))


async def subscription(
    conn: AsyncConnection, instance_ids: Collection[str] | None, subscription_id: str, *, lock: bool = False
) -> Subscription | None:
    """One subscription of some instances (None: of any), or None; `lock` keeps others from changing it."""
    question = select(subscriptions).where(subscriptions.c.id == subscription_id)
    if lock:
        question = question.with_for_update()
    row = (await conn.execute(_of(question, instance_ids))).one_or_none()
    return None if row is None else _subscription(row)


async def subscriptions_of(conn: AsyncConnection, instance_ids: Collection[str] | None) -> list[Subscription]:
    """The subscriptions of some instances (None: of all), oldest first."""
    question = _of(select(subscriptions), instance_ids).order_by(subscriptions.c.created_us, subscriptions.c.id)
    return [_subscription(row) for row in await conn.execute(question)]


async def count_subscriptions(conn: AsyncConnection, instance_id: str) -> int:
    """How many subscriptions an instance has."""
    question = select(func.count()).select_from(subscriptions).where(subscriptions.c.instance_id == instance_id)
    return int((await conn.execute(question)).scalar_one())


async def change_subscription(tx: Tx, subscription: Subscription) -> None:
    """Writes a subscription's changed fields over its row."""
    await tx.conn.execute(
        update(subscriptions).where(subscriptions.c.id == subscription.id).values(_columns(subscription))
    )


async def remove_subscription(tx: Tx, instance_ids: Collection[str] | None, subscription_id: str) -> bool:
    """Deletes a subscription with all its deliveries; False when there is none."""
    question = delete(subscriptions).where(subscriptions.c.id == subscription_id)
    if instance_ids is not None:
        question = question.where(subscriptions.c.instance_id.in_(instance_ids))
    return bool((await tx.conn.execute(question)).rowcount)


async def switch_off(tx: Tx, subscription_id: str, reason: str) -> str | None:
    """Disables an active subscription and drops what waits for it; its instance, or None if it was off already."""
    row = (
        await tx.conn.execute(
            update(subscriptions)
            .where(subscriptions.c.id == subscription_id, subscriptions.c.is_active)
            .values(is_active=False, disabled_reason=reason, updated_us=tx.now_us)
            .returning(subscriptions.c.instance_id)
        )
    ).one_or_none()
    if row is None:
        return None
    await drop_waiting(tx, subscription_id)
    return str(row.instance_id)


async def drop_waiting(tx: Tx, subscription_id: str) -> None:
    """Drops everything that still waits for a subscription."""
    await tx.conn.execute(
        update(deliveries)
        .where(deliveries.c.subscription_id == subscription_id, text("state = 'pending'"))
        .values(state="dropped", first_ended=True, claim_id=None, lease_us=None, done_us=tx.now_us)
    )


# -- from the outbox to deliveries


async def order_lock(tx: Tx, *, shared: bool) -> None:
    """Keeps expanding apart from ending first attempts until the commit (PostgreSQL; SQLite has one writer).

    One node expands at a time, so that deliveries are numbered in the order of their events; attempts end
    side by side (`shared`), but never while an expansion decides whether somebody waits before.
    """
    if tx.dialect == "postgresql":
        name = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        await tx.conn.execute(select(getattr(func, name)(text(str(_ORDER_LOCK)))))


async def anything_waiting(conn: AsyncConnection) -> bool:
    """Whether some event of the outbox was not expanded yet."""
    return (await conn.execute(select(outbox.c.id).where(text("NOT expanded")).limit(1))).first() is not None


async def waiting_events(conn: AsyncConnection, limit: int) -> list[Told]:
    """The oldest events that were not expanded yet."""
    rows = await conn.execute(select(*TOLD).where(text("NOT expanded")).order_by(outbox.c.id).limit(limit))
    return [told_of(row) for row in rows]


async def active_subscriptions(conn: AsyncConnection, instance_ids: Iterable[str]) -> list[Subscription]:
    """The active subscriptions of some instances."""
    question = select(subscriptions).where(
        subscriptions.c.instance_id.in_(set(instance_ids)), subscriptions.c.is_active
    )
    return [_subscription(row) for row in await conn.execute(question.order_by(subscriptions.c.id))]


async def subscriptions_by_id(conn: AsyncConnection, ids: Collection[str]) -> dict[str, Subscription]:
    """Subscriptions by their ids."""
    if not ids:
        return {}
    rows = await conn.execute(select(subscriptions).where(subscriptions.c.id.in_(sorted(ids))))
    return {row.id: _subscription(row) for row in rows}


async def groups_of_devices(
    conn: AsyncConnection, devices: Collection[tuple[str, str]]
) -> Mapping[tuple[str, str], set[str]]:
    """(instance, device token) -> the ids of the groups that the device is in."""
    found: dict[tuple[str, str], set[str]] = {}
    if devices:
        rows = await conn.execute(
            select(groups.c.instance_id, group_members.c.device_token, groups.c.group_id)
            .join(group_members, group_members.c.group_number == groups.c.id)
            .where(
                groups.c.instance_id.in_({instance for instance, _ in devices}),
                group_members.c.device_token.in_({token for _, token in devices}),
            )
        )
        for row in rows:
            found.setdefault((row.instance_id, row.device_token), set()).add(row.group_id)
    return found


async def mark_expanded(tx: Tx, ids: Sequence[int]) -> None:
    """Says that all deliveries of these events exist."""
    await tx.conn.execute(update(outbox).where(outbox.c.id.in_(ids)).values(expanded=True))


async def add_deliveries(tx: Tx, wanted: Sequence[tuple[str, Told, str]], now_us: int) -> None:
    """Writes a delivery for each (subscription, event, order key), numbered in that order.

    The first of each key is due at once. Call it under the exclusive `order_lock`.
    """
    if not wanted:
        return
    newest = (await tx.conn.execute(select(func.max(deliveries.c.id)))).scalar() or 0
    number = max(new_id(), newest + 1)
    await tx.conn.execute(
        deliveries.insert(),
        [
            {
                "id": number + offset,
                "subscription_id": subscription_id,
                "outbox_id": event.id,
                "event_id": event.event_id,
                "order_key": order_key,
                "state": "pending",
                "next_us": PARKED,
                "created_us": now_us,
            }
            for offset, (subscription_id, event, order_key) in enumerate(wanted)
        ],
    )
    await start_next(tx, {(subscription_id, order_key) for subscription_id, _, order_key in wanted}, now_us)


async def start_next(tx: Tx, keys: Collection[tuple[str, str]], now_us: int) -> None:
    """Makes the first open delivery of each (subscription, order key) due, if it is parked."""
    if not keys:
        return
    head = deliveries.alias("head")
    first = (
        select(head.c.id)
        .where(
            head.c.subscription_id == bindparam("b_subscription"),
            head.c.order_key == bindparam("b_key"),
            text("NOT head.first_ended"),
        )
        .order_by(head.c.id)
        .limit(1)
        .scalar_subquery()
    )
    await tx.conn.execute(
        update(deliveries)
        .where(deliveries.c.id == first, deliveries.c.next_us == PARKED)
        .values(next_us=bindparam("b_now", type_=BigInteger)),
        [{"b_subscription": each, "b_key": key, "b_now": now_us} for each, key in sorted(keys)],
    )


async def add_test_event(tx: Tx, told: Told, subscription_id: str) -> None:
    """Writes an event that only one subscription gets, whatever its filters say."""
    await tx.conn.execute(
        outbox.insert(),
        {
            **{name: getattr(told, name) for name in Told.__slots__},
            "device_id": None,
            "expanded": True,
        },
    )
    await order_lock(tx, shared=False)
    await add_deliveries(tx, [(subscription_id, told, f"test/{told.event_id}")], tx.now_us)


# -- what was told, and what became of it


async def told(conn: AsyncConnection, instance_id: str, event_id: str) -> Told | None:
    """An event of an instance that is still kept."""
    question = select(*TOLD).where(outbox.c.event_id == event_id, outbox.c.instance_id == instance_id)
    row = (await conn.execute(question)).one_or_none()
    return None if row is None else told_of(row)


async def told_between(
    conn: AsyncConnection, instance_id: str, since_us: int, until_us: int, after: tuple[int, int], limit: int
) -> list[Told]:
    """Expanded events of an instance made in [since, until), oldest first, those after (time, id) `after`."""
    question = (
        select(*TOLD)
        .where(
            outbox.c.instance_id == instance_id,
            outbox.c.created_us >= max(since_us, after[0]),
            outbox.c.created_us < until_us,
            tuple_(outbox.c.created_us, outbox.c.id) > after,
            outbox.c.expanded,
        )
        .order_by(outbox.c.created_us, outbox.c.id)
        .limit(limit)
    )
    return [told_of(row) for row in await conn.execute(question)]


async def was_sent(conn: AsyncConnection, subscription_id: str, event: Told) -> bool:
    """Whether a subscription has a delivery of the event."""
    question = select(deliveries.c.id).where(
        deliveries.c.outbox_id == event.id, deliveries.c.subscription_id == subscription_id
    )
    return (await conn.execute(question.limit(1))).first() is not None


async def deliveries_of(
    conn: AsyncConnection, subscription_id: str, *, state: str | None, event_id: str | None, limit: int, offset: int
) -> tuple[int, Sequence[Row[Any]], Mapping[int, list[Row[Any]]]]:
    """(total, deliveries newest first with their events' types, their attempts oldest first)."""
    where = [deliveries.c.subscription_id == subscription_id]
    if state is not None:
        where.append(deliveries.c.state == state)
    if event_id is not None:
        where.append(deliveries.c.event_id == event_id)
    total = (await conn.execute(select(func.count()).select_from(deliveries).where(*where))).scalar_one()
    rows = (
        await conn.execute(
            select(deliveries, outbox.c.event_type)
            .outerjoin(outbox, outbox.c.id == deliveries.c.outbox_id)
            .where(*where)
            .order_by(deliveries.c.id.desc())
            .limit(limit)
            .offset(offset)
        )
    ).all()
    tried: dict[int, list[Row[Any]]] = {}
    for row in await conn.execute(
        select(attempts).where(attempts.c.delivery_id.in_([row.id for row in rows])).order_by(attempts.c.id)
    ):
        tried.setdefault(row.delivery_id, []).append(row)
    return total, rows, tried


def told_of(row: Sequence[Any]) -> Told:
    """The event of a row of `TOLD`'s columns."""
    return Told(**dict(zip(Told.__slots__, row, strict=True)))


def _of(question: Select[Any], instance_ids: Collection[str] | None) -> Select[Any]:
    return question if instance_ids is None else question.where(subscriptions.c.instance_id.in_(set(instance_ids)))


def _columns(subscription: Subscription) -> dict[str, Any]:
    columns = {name: getattr(subscription, name) for name in Subscription.__slots__}
    columns["subscribed_events"] = json.dumps(subscription.subscribed_events)
    for name in _LISTS:
        columns[name] = None if columns[name] is None else json.dumps(columns[name])
    return columns


def _subscription(row: Row[Any]) -> Subscription:
    columns = {name: getattr(row, name) for name in Subscription.__slots__}
    columns["subscribed_events"] = tuple(json.loads(row.subscribed_events))
    for name in _LISTS:
        columns[name] = None if columns[name] is None else tuple(json.loads(columns[name]))
    return Subscription(**columns)
