"""Groups: named sets of an instance's device tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, delete, func, select, update

from waybridge.store.tables import group_members, groups

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from waybridge.store.engine import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group. `number` is stable and positive; tokens are sorted and may name devices that do not exist yet."""

    instance_id: str
    group_id: str
    number: int
    name: str | None
    device_tokens: tuple[str, ...]
    created_us: int
    updated_us: int


async def put_group(
    tx: Tx, instance_id: str, group_id: str, name: str | None, device_tokens: Sequence[str]
) -> tuple[Group, bool]:
    """Makes or replaces a group; tells whether it is new."""
    made = (
        tx.insert(groups)
        .values(instance_id=instance_id, group_id=group_id, name=name, created_us=tx.now_us, updated_us=tx.now_us)
        .on_conflict_do_nothing(index_elements=["instance_id", "group_id"])
        .returning(groups.c.id)
    )
    is_new = (await tx.conn.execute(made)).one_or_none() is not None
    mine = (groups.c.instance_id == instance_id) & (groups.c.group_id == group_id)
    if not is_new:
        await tx.conn.execute(update(groups).where(mine).values(name=name, updated_us=tx.now_us))
    row = (await tx.conn.execute(select(groups).where(mine).with_for_update())).one()
    await tx.conn.execute(delete(group_members).where(group_members.c.group_number == row.id))
    tokens = tuple(sorted(set(device_tokens)))
    for start in range(0, len(tokens), 500):
        part = [{"group_number": row.id, "device_token": token} for token in tokens[start : start + 500]]
        await tx.conn.execute(tx.insert(group_members).on_conflict_do_nothing(), part)
    return _group(row, tokens), is_new


async def group_by_id(conn: AsyncConnection, instance_id: str, group_id: str) -> Group | None:
    question = select(groups).where(groups.c.instance_id == instance_id, groups.c.group_id == group_id)
    row = (await conn.execute(question)).one_or_none()
    if row is None:
        return None
    return _group(row, (await _members(conn, [row.id])).get(row.id, ()))


async def groups_of(
    conn: AsyncConnection, instance_id: str, *, limit: int | None = None, offset: int = 0
) -> tuple[Sequence[Group], int]:
    """An instance's groups by id, and how many there are."""
    question = select(groups).where(groups.c.instance_id == instance_id).order_by(groups.c.group_id)
    rows = (await conn.execute(question.limit(limit).offset(offset) if limit is not None else question)).all()
    total = (
        await conn.execute(select(func.count()).select_from(groups).where(groups.c.instance_id == instance_id))
    ).scalar_one()
    members = await _members(conn, [row.id for row in rows])
    return [_group(row, members.get(row.id, ())) for row in rows], int(total)


async def members(conn: AsyncConnection, instance_id: str, group_ids: Sequence[str]) -> frozenset[str]:
    """The device tokens in any of the groups; unknown groups are empty."""
    question = (
        select(group_members.c.device_token)
        .join(groups, groups.c.id == group_members.c.group_number)
        .where(groups.c.instance_id == instance_id, groups.c.group_id.in_(group_ids))
    )
    return frozenset(row.device_token for row in await conn.execute(question))


async def remove_group(tx: Tx, instance_id: str, group_id: str) -> bool:
    """Whether there was such a group."""
    mine = (groups.c.instance_id == instance_id) & (groups.c.group_id == group_id)
    number = (await tx.conn.execute(select(groups.c.id).where(mine))).scalar_one_or_none()
    if number is None:
        return False
    await tx.conn.execute(delete(group_members).where(group_members.c.group_number == number))
    return (await tx.conn.execute(delete(groups).where(groups.c.id == number))).rowcount == 1


async def _members(conn: AsyncConnection, numbers: Sequence[int]) -> Mapping[int, tuple[str, ...]]:
    found: dict[int, list[str]] = {}
    for start in range(0, len(numbers), 500):
        question = (
            select(group_members)
            .where(group_members.c.group_number.in_(numbers[start : start + 500]))
            .order_by(group_members.c.device_token)
        )
        for row in await conn.execute(question):
            found.setdefault(row.group_number, []).append(row.device_token)
    return {number: tuple(tokens) for number, tokens in found.items()}


def _group(row: Row[Any], device_tokens: tuple[str, ...]) -> Group:
    return Group(
        instance_id=row.instance_id,
        group_id=row.group_id,
        number=row.id,
        name=row.name,
        device_tokens=tuple(sorted(device_tokens)),
        created_us=row.created_us,
        updated_us=row.updated_us,
    )
