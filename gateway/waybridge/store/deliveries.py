"""Deliveries as the workers take them: claims with leases, what an attempt leaves behind, and the purge."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Integer,
    Text,
    any_,
    bindparam,
    column,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    true,
    update,
)

from waybridge.store.engine import new_id
from waybridge.store.tables import attempts, deliveries, outbox, subscriptions
from waybridge.store.webhooks import PARKED, TOLD, Told, order_lock, start_next, told_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from waybridge.store.engine import Tx

# Spelled out, so that the partial indexes serve: a bound value would not prove that they do.
_PENDING = "webhook_deliveries.state = 'pending'"

State: TypeAlias = Literal["pending", "delivered", "dead", "dropped"]


@dataclass(frozen=True, slots=True)
class Head:
    """An active subscription: where it points, and when its next delivery is due."""

    subscription_id: str
    target_url: str
    next_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery that is this claim's until the lease ends; `attempts` ended before; `event` None if it is gone."""

    id: int
    subscription_id: str
    order_key: str
    attempts: int
    claim_id: str
    event: Told | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an attempt of a claimed delivery ended, and the state that it leaves the delivery in.

    `state` "pending" is tried again at `next_us`. `error` is a short sentence, `answer` an excerpt of the body.
    """

    claimed: Claimed
    at_us: int
    duration_ms: int
    status: int | None
    error: str | None
    answer: str | None
    state: State
    next_us: int


async def due_heads(conn: AsyncConnection) -> list[Head]:
    """The active subscriptions for which something waits, with the time of their next delivery, due or not.

    It steps from one subscription to the next in the index of what waits, so that neither a long backlog nor many
    subscriptions without one cost anything.
    """
    first = (
        select(func.min(deliveries.c.subscription_id).label("id")).where(text(_PENDING)).cte("waiting", recursive=True)
    )
    following = (
        select(func.min(deliveries.c.subscription_id))
        .where(deliveries.c.subscription_id > first.c.id, text(_PENDING))
        .scalar_subquery()
    )
    waiting = first.union_all(select(following).where(first.c.id.is_not(None)))
    soonest = (
        select(func.min(deliveries.c.next_us))
        .where(deliveries.c.subscription_id == waiting.c.id, text(_PENDING))
        .scalar_subquery()
        .label("next_us")
    )
    rows = await conn.execute(
        select(subscriptions.c.id, subscriptions.c.target_url, soonest)
        .select_from(waiting.join(subscriptions, subscriptions.c.id == waiting.c.id))
        .where(subscriptions.c.is_active)
    )
    return [Head(row.id, row.target_url, row.next_us) for row in rows if row.next_us not in (None, PARKED)]


async def claim(tx: Tx, slots: Mapping[str, int], claim_id: str, lease_until_us: int) -> list[Claimed]:
    """Takes due deliveries, for each subscription at the most so many, longest due first.

    A claimed delivery becomes due again when its lease ends, so a claim that nobody ends is taken anew. It reads
    the beginning of each subscription's index of what waits and nothing else, however much waits there.
    """
    if not slots:
        return []
    found = (await tx.conn.execute(*_due(tx, slots))).all()
    left = dict(slots)
    taken = []
    for row in found:
        if left[row.subscription_id] > 0:
            left[row.subscription_id] -= 1
            taken.append(row)
    if not taken:
        return []
    await tx.conn.execute(
        update(deliveries)
        .where(among(tx, deliveries.c.id, [row[0] for row in taken]))
        .values(next_us=lease_until_us, lease_us=lease_until_us, claim_id=claim_id)
    )
    return [
        Claimed(
            id=row[0],
            subscription_id=row.subscription_id,
            order_key=row.order_key,
            attempts=row.attempts,
            claim_id=claim_id,
            event=None if row[_CLAIMED] is None else told_of(row[_CLAIMED:]),
        )
        for row in taken
    ]


def among(tx: Tx, column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Whether a column has one of these values, said so that PostgreSQL prepares the question once for any number."""
    if tx.dialect == "postgresql":
        return column == any_(literal(values, ARRAY(column.type)))
    return column.in_(values)


async def settle(tx: Tx, ended: Sequence[Ended]) -> list[Ended]:
    """Writes what attempts left behind and lets the next first attempts begin; returns those that counted.

    An attempt whose claim was lost meanwhile (lease over, delivery dropped or removed) changes nothing.
    """
    firsts = {(each.claimed.subscription_id, each.claimed.order_key) for each in ended if not each.claimed.attempts}
    if firsts:
        await order_lock(tx, shared=True)
    rows = await tx.conn.execute(
        select(deliveries.c.id, deliveries.c.claim_id)
        .where(among(tx, deliveries.c.id, [each.claimed.id for each in ended]), text(_PENDING))
        .order_by(deliveries.c.id)
        .with_for_update()
    )
    holders = {row.id: row.claim_id for row in rows}
    ours = [each for each in ended if holders.get(each.claimed.id) == each.claimed.claim_id]
    if ours:
        await tx.conn.execute(_END, [_ended(each, tx.now_us) for each in ours])
        if tried := [_attempt(each) for each in ours if each.state != "dropped"]:
            await tx.conn.execute(attempts.insert(), tried)
    await start_next(tx, firsts, tx.now_us)
    return ours


async def note_health(tx: Tx, well: Collection[str], failing: Collection[str]) -> None:
    """Remembers since when subscriptions have seen nothing but failures."""
    for ids, since_us, known in (
        (well, None, subscriptions.c.failing_since_us.is_not(None)),
        (failing, tx.now_us, subscriptions.c.failing_since_us.is_(None)),
    ):
        if ids:
            changed = select(subscriptions.c.id).where(among(tx, subscriptions.c.id, sorted(ids)), known)
            await tx.conn.execute(
                update(subscriptions)
                .where(subscriptions.c.id.in_(changed.order_by(subscriptions.c.id).with_for_update()))
                .values(failing_since_us=since_us)
            )


async def failing_too_long(conn: AsyncConnection, since_us: int, tried: Collection[str]) -> list[str]:
    """Active subscriptions that have seen only failures since before `since_us`.

    Of them, those that were just tried, and those that have nothing left that could still succeed.
    """
    waiting = exists().where(deliveries.c.subscription_id == subscriptions.c.id, text(_PENDING))
    rows = await conn.execute(
        select(subscriptions.c.id).where(
            subscriptions.c.is_active,
            subscriptions.c.failing_since_us <= since_us,
            or_(subscriptions.c.id.in_(set(tried)), ~waiting),
        )
    )
    return list(rows.scalars())


async def free_claims(tx: Tx) -> int:
    """Gives up every claim: for the start of the only process that has this database."""
    result = await tx.conn.execute(
        update(deliveries)
        .where(text("state = 'pending'"), deliveries.c.claim_id.is_not(None))
        .values(next_us=tx.now_us, lease_us=None, claim_id=None)
    )
    return int(result.rowcount)


async def give_back(tx: Tx, claimed: Sequence[Claimed]) -> None:
    """Gives up claims, so that anybody may take them at once."""
    await tx.conn.execute(
        update(deliveries)
        .where(
            deliveries.c.id == bindparam("b_id"),
            deliveries.c.claim_id == bindparam("b_claim"),
            text("state = 'pending'"),
        )
        .values(next_us=bindparam("b_now", type_=BigInteger), lease_us=None, claim_id=None),
        [{"b_id": each.id, "b_claim": each.claim_id, "b_now": tx.now_us} for each in claimed],
    )


async def unstick(tx: Tx) -> int:
    """Lets parked deliveries begin before which nobody is open: a safety net, for rows removed by hand."""
    await order_lock(tx, shared=False)
    keys = (
        await tx.conn.execute(
            select(deliveries.c.subscription_id, deliveries.c.order_key, func.min(deliveries.c.next_us))
            .where(text("NOT first_ended"))
            .group_by(deliveries.c.subscription_id, deliveries.c.order_key)
            .having(func.min(deliveries.c.next_us) == PARKED)
        )
    ).all()
    await start_next(tx, {(row.subscription_id, row.order_key) for row in keys}, tx.now_us)
    return len(keys)


async def purge(tx: Tx, before_us: int, limit: int) -> int:
    """Deletes up to `limit` deliveries done before a time, and as many events that nobody needs any more."""
    done = select(deliveries.c.id).where(deliveries.c.done_us < before_us).limit(limit)
    gone = await tx.conn.execute(delete(deliveries).where(deliveries.c.id.in_(done)))
    needed = exists().where(deliveries.c.outbox_id == outbox.c.id)
    old = (
        select(outbox.c.id)
        .where(outbox.c.created_us < before_us, outbox.c.expanded, ~needed)
        .order_by(outbox.c.created_us)
        .limit(limit)
    )
    told = await tx.conn.execute(delete(outbox).where(outbox.c.id.in_(old)))
    return int(gone.rowcount) + int(told.rowcount)


async def queue_state(conn: AsyncConnection) -> tuple[int, int | None]:
    """(how many deliveries and unexpanded events wait, when the oldest of them was made)."""
    pending = (await conn.execute(select(func.count(), func.min(deliveries.c.created_us)).where(text(_PENDING)))).one()
    fresh = (await conn.execute(select(func.count(), func.min(outbox.c.created_us)).where(text("NOT expanded")))).one()
    oldest = [each for each in (pending[1], fresh[1]) if each is not None]
    return pending[0] + fresh[0], min(oldest) if oldest else None


_END = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("b_id"))
    .values(
        state=bindparam("b_state"),
        attempts=bindparam("b_attempts"),
        next_us=bindparam("b_next", type_=BigInteger),
        lease_us=None,
        claim_id=None,
        first_ended=True,
        done_us=bindparam("b_done", type_=BigInteger),
        last_status=bindparam("b_status"),
        last_error=bindparam("b_error"),
    )
)


_TAKEN = (deliveries.c.id, deliveries.c.subscription_id, deliveries.c.order_key, deliveries.c.attempts)
_CLAIMED = len(_TAKEN)
_WANTED = (
    select(*_TAKEN, *TOLD)
    .where(text(_PENDING), deliveries.c.next_us <= bindparam("now_us", type_=BigInteger))
    .order_by(deliveries.c.next_us, deliveries.c.id)
)


def _due(tx: Tx, slots: Mapping[str, int]) -> tuple[Select[Any], dict[str, Any]]:
    """The question for what `claim` takes, in the dialect's own form of "the first few of each"."""
    if tx.dialect == "postgresql":
        return _DUE_POSTGRESQL, {
            "now_us": tx.now_us,
            "ids": list(slots),
            "rooms": list(slots.values()),
        }
    return _DUE_SQLITE, {"now_us": tx.now_us, "ids": json.dumps(list(slots)), "room": max(slots.values())}


def _firsts(subscription_id: ColumnElement[str], room: ColumnElement[int]) -> Select[tuple[int]]:
    head = deliveries.alias("head")
    return (
        select(head.c.id)
        .where(
            head.c.subscription_id == subscription_id,
            text("head.state = 'pending'"),
            head.c.next_us <= bindparam("now_us", type_=BigInteger),
        )
        .order_by(head.c.next_us)
        .limit(room)
    )


def _due_postgresql() -> Select[Any]:
    slots = (
        func.unnest(bindparam("ids", type_=ARRAY(Text)), bindparam("rooms", type_=ARRAY(Integer)))
        .table_valued(column("id", Text), column("room", Integer), name="slots")
        .render_derived()
    )
    firsts = _firsts(slots.c.id, slots.c.room).lateral("firsts")
    return (
        _WANTED.select_from(slots)
        .join(firsts, true())
        .join(deliveries, deliveries.c.id == firsts.c.id)
        .outerjoin(outbox, outbox.c.id == deliveries.c.outbox_id)
        .with_for_update(of=deliveries, skip_locked=True)
    )


def _due_sqlite() -> Select[Any]:
    """Without LATERAL a limit of each one's own cannot be said: the largest serves for all."""
    slots = func.json_each(bindparam("ids", type_=Text)).table_valued(column("value", Text), name="slots")
    firsts = _firsts(slots.c.value, bindparam("room", type_=Integer)).correlate(slots)
    return (
        _WANTED.select_from(slots)
        .join(deliveries, deliveries.c.id.in_(firsts))
        .outerjoin(outbox, outbox.c.id == deliveries.c.outbox_id)
    )


_DUE_POSTGRESQL = _due_postgresql()
_DUE_SQLITE = _due_sqlite()


def _ended(each: Ended, now_us: int) -> dict[str, Any]:
    return {
        "b_id": each.claimed.id,
        "b_state": each.state,
        "b_attempts": each.claimed.attempts + (each.state != "dropped"),
        "b_next": each.next_us,
        "b_done": None if each.state == "pending" else now_us,
        "b_status": each.status,
        "b_error": each.error,
    }


def _attempt(each: Ended) -> dict[str, Any]:
    return {
        "id": new_id(),
        "delivery_id": each.claimed.id,
        "at_us": each.at_us,
        "duration_ms": each.duration_ms,
        "status": each.status,
        "error": each.error,
        "answer": each.answer,
    }
