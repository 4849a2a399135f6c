"""Instances that were made through the API (those of the configuration file live in the settings)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, delete, func, select, update

from waybridge.store.tables import connections, devices, instances, subscriptions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from waybridge.store.engine import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """One tenant. `brand` holds `name` and `color` where they differ from the gateway's."""

    instance_id: str
    name: str | None
    embed_origins: tuple[str, ...]
    brand: Mapping[str, str]
    created_us: int
    updated_us: int


async def add_instance(tx: Tx, instance: InstanceRow) -> bool:
    """False when there is one of this id."""
    made = (
        tx.insert(instances)
        .values(
            instance_id=instance.instance_id,
            name=instance.name,
            embed_origins=json.dumps(list(instance.embed_origins)),
            brand=json.dumps(dict(instance.brand)),
            created_us=instance.created_us,
            updated_us=instance.updated_us,
        )
        .on_conflict_do_nothing(index_elements=["instance_id"])
        .returning(instances.c.instance_id)
    )
    return (await tx.conn.execute(made)).one_or_none() is not None


async def change_instance(tx: Tx, instance: InstanceRow) -> bool:
    """False when there is none of this id."""
    change = (
        update(instances)
        .where(instances.c.instance_id == instance.instance_id)
        .values(
            name=instance.name,
            embed_origins=json.dumps(list(instance.embed_origins)),
            brand=json.dumps(dict(instance.brand)),
            updated_us=tx.now_us,
        )
    )
    return (await tx.conn.execute(change)).rowcount == 1


async def every_instance(conn: AsyncConnection) -> Sequence[InstanceRow]:
    rows = await conn.execute(select(instances).order_by(instances.c.created_us, instances.c.instance_id))
    return [_instance(row) for row in rows]


async def remove_instance(tx: Tx, instance_id: str) -> bool:
    """Whether there was such an instance."""
    return (await tx.conn.execute(delete(instances).where(instances.c.instance_id == instance_id))).rowcount == 1


async def belongings(conn: AsyncConnection, instance_id: str) -> Mapping[str, int]:
    """How many devices, connections and webhook subscriptions an instance has."""
    found: dict[str, int] = {}
    for name, table in (("devices", devices), ("connections", connections), ("webhook subscriptions", subscriptions)):
        question = select(func.count()).select_from(table).where(table.c.instance_id == instance_id)
        found[name] = int((await conn.execute(question)).scalar_one())
    return found


def _instance(row: Row[Any]) -> InstanceRow:
    return InstanceRow(
        instance_id=row.instance_id,
        name=row.name,
        embed_origins=tuple(json.loads(row.embed_origins)),
        brand=json.loads(row.brand) if row.brand else {},
        created_us=row.created_us,
        updated_us=row.updated_us,
    )
