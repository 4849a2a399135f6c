"""Connections, who owns them, and the nodes: configured accounts with outside systems."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, cast, delete, func, literal, or_, select, update

from waybridge.store.tables import connections, nodes

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from waybridge.store.engine import Tx
    from waybridge.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRow:
    """A connection as it is kept. `settings` is None where it comes from the configuration file."""

    id: int
    instance_id: str
    connection_id: str
    provider: str
    origin: str
    settings: Mapping[str, Any] | None
    state: str
    since_us: int
    last_error: str | None
    last_position_us: int | None
    generation: int
    owner_node: str | None
    lease_until_us: int | None

    def __repr__(self) -> str:
        return f"ConnectionRow({self.instance_id}/{self.connection_id}, {self.provider}, {self.state})"


def _bound(instance_id: str, connection_id: str) -> str:
    return f"connections/{instance_id}/{connection_id}/settings"


async def every_connection(conn: AsyncConnection, vault: Vault) -> list[ConnectionRow]:
    """All connections, credentials opened."""
    return [_row(vault, row) for row in await conn.execute(select(connections).order_by(connections.c.id))]


async def one_connection(
    conn: AsyncConnection, vault: Vault, connection_id: str, instance_id: str | None = None
) -> ConnectionRow | None:
    question = select(connections).where(connections.c.connection_id == connection_id)
    if instance_id is not None:
        question = question.where(connections.c.instance_id == instance_id)
    row = (await conn.execute(question)).first()
    return None if row is None else _row(vault, row)


async def add_connection(
    tx: Tx,
    vault: Vault,
    *,
    instance_id: str,
    connection_id: str,
    provider: str,
    origin: str,
    settings: Mapping[str, Any] | None,
) -> bool:
    """Keeps a new connection; False when the id is taken."""
    taken = select(connections.c.id).where(connections.c.connection_id == connection_id)
    if (await tx.conn.execute(taken)).first() is not None:
        return False
    made = (
        tx.insert(connections)
        .values(
            instance_id=instance_id,
            connection_id=connection_id,
            provider=provider,
            origin=origin,
            settings_sealed=_sealed(vault, instance_id, connection_id, settings),
            since_us=tx.now_us,
            created_us=tx.now_us,
            updated_us=tx.now_us,
        )
        .on_conflict_do_nothing()
        .returning(connections.c.id)
    )
    return (await tx.conn.execute(made)).one_or_none() is not None


async def sync_configured(tx: Tx, wanted: Sequence[tuple[str, str, str]]) -> list[str]:
    """Keeps a row for each (instance, connection, provider) of the configuration file, drops rows of others that
    came from it, and returns the ids that an API-made connection has taken.
    """
    known = {
        (row.instance_id, row.connection_id): row for row in await tx.conn.execute(select(connections))
    }
    by_id = {row.connection_id: row for row in known.values() if row.connection_id != "native"}
    clashes: list[str] = []
    for instance_id, connection_id, provider in wanted:
        row = known.get((instance_id, connection_id)) or by_id.get(connection_id)
        if row is None:
            await tx.conn.execute(
                tx.insert(connections)
                .values(
                    instance_id=instance_id, connection_id=connection_id, provider=provider, origin="toml",
                    since_us=tx.now_us, created_us=tx.now_us, updated_us=tx.now_us,
                )
                .on_conflict_do_nothing()
            )  # fmt: skip
        elif row.origin == "api":
            clashes.append(connection_id)
        else:
            await tx.conn.execute(
                update(connections)
                .where(connections.c.id == row.id)
                .values(instance_id=instance_id, provider=provider, updated_us=tx.now_us)
            )
    names = {(instance_id, connection_id) for instance_id, connection_id, _ in wanted}
    for key, row in known.items():
        if row.origin == "toml" and key not in names and not any(row.connection_id == each[1] for each in wanted):
            await tx.conn.execute(delete(connections).where(connections.c.id == row.id))
    return clashes


async def change_connection(
    tx: Tx, vault: Vault, row: ConnectionRow, *, settings: Mapping[str, Any]
) -> None:
    """Gives a connection new settings; it is started anew wherever it runs."""
    await tx.conn.execute(
        update(connections)
        .where(connections.c.id == row.id)
        .values(
            settings_sealed=_sealed(vault, row.instance_id, row.connection_id, settings),
            updated_us=tx.now_us,
            generation=connections.c.generation + 1,
        )
    )


async def restart_connection(tx: Tx, row_id: int) -> None:
    await tx.conn.execute(
        update(connections)
        .where(connections.c.id == row_id)
        .values(generation=connections.c.generation + 1, updated_us=tx.now_us)
    )


async def remove_connection(tx: Tx, row_id: int) -> bool:
    return (await tx.conn.execute(delete(connections).where(connections.c.id == row_id))).rowcount == 1


async def keep_state(
    tx: Tx, row_id: int, *, state: str, since_us: int, last_error: str | None, last_position_us: int | None
) -> None:
    """What a connection is doing, for other nodes and after a restart."""
    values: dict[str, Any] = {"state": state, "since_us": since_us, "last_error": last_error}
    if last_position_us is not None:
        values["last_position_us"] = last_position_us
    await tx.conn.execute(update(connections).where(connections.c.id == row_id).values(**values))


async def keep_position(tx: Tx, row_id: int, last_position_us: int) -> None:
    """When a connection last brought a position in."""
    await tx.conn.execute(
        update(connections).where(connections.c.id == row_id).values(last_position_us=last_position_us)
    )


async def claim(tx: Tx, row_id: int, node_id: str, lease_us: int) -> bool:
    """Takes or keeps the right to run a connection, until the lease ends; False when another node has it.

    On PostgreSQL the database's clock decides, so that nodes' clocks need not agree.
    """
    now_us = _shared_clock(tx.dialect, tx.now_us)
    change = (
        update(connections)
        .where(
            connections.c.id == row_id,
            or_(
                connections.c.owner_node == node_id,
                connections.c.owner_node.is_(None),
                connections.c.lease_until_us < now_us,
            ),
        )
        .values(owner_node=node_id, lease_until_us=now_us + lease_us)
    )
    return (await tx.conn.execute(change)).rowcount == 1


def _shared_clock(dialect: str, now_us: int) -> Any:
    """The time by whatever all nodes share: the database's clock, or that of the one machine that a file is on."""
    if dialect == "postgresql":
        return cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)
    return literal(now_us, BigInteger)


async def release(tx: Tx, node_id: str, row_id: int | None = None) -> None:
    """Gives a node's connections (or one) back, so that another node takes over at once."""
    change = update(connections).where(connections.c.owner_node == node_id)
    if row_id is not None:
        change = change.where(connections.c.id == row_id)
    await tx.conn.execute(change.values(owner_node=None, lease_until_us=None))


async def node_seen(tx: Tx, *, node_id: str, name: str, version: str, started_us: int) -> None:
    """Says that a node lives."""
    seen_us = _shared_clock(tx.dialect, tx.now_us)
    row = {"node_id": node_id, "name": name, "version": version, "started_us": started_us, "seen_us": seen_us}
    made = tx.insert(nodes).values(row)
    await tx.conn.execute(
        made.on_conflict_do_update(
            index_elements=["node_id"], set_={"seen_us": made.excluded.seen_us, "version": version}
        )
    )


async def node_gone(tx: Tx, node_id: str, silent_us: int) -> None:
    """Forgets a node that stops, and those that were not seen for so long."""
    old = nodes.c.seen_us < _shared_clock(tx.dialect, tx.now_us) - silent_us
    await tx.conn.execute(delete(nodes).where(or_(nodes.c.node_id == node_id, old)))


async def every_node(conn: AsyncConnection, now_us: int) -> list[Row[Any]]:
    """The nodes, with `silent_us`: how long each has not been seen, by the clock that wrote it down."""
    silent = (_shared_clock(conn.dialect.name, now_us) - nodes.c.seen_us).label("silent_us")
    return list(await conn.execute(select(nodes, silent).order_by(nodes.c.started_us)))


async def reseal(tx: Tx, vault: Vault) -> int:
    """Seals again, under the first key, all settings that another key sealed. Returns how many."""
    count = 0
    for row in (await tx.conn.execute(select(connections).where(connections.c.settings_sealed.is_not(None)))).all():
        if vault.needs_reseal(row.settings_sealed):
            bound = _bound(row.instance_id, row.connection_id)
            sealed = vault.seal(vault.open(row.settings_sealed, bound_to=bound), bound_to=bound)
            await tx.conn.execute(
                update(connections).where(connections.c.id == row.id).values(settings_sealed=sealed)
            )
            count += 1
    return count


def _sealed(vault: Vault, instance_id: str, connection_id: str, settings: Mapping[str, Any] | None) -> bytes | None:
    if settings is None:
        return None
    return vault.seal(json.dumps(dict(settings)), bound_to=_bound(instance_id, connection_id))


def _row(vault: Vault, row: Row[Any]) -> ConnectionRow:
    settings = None
    if row.settings_sealed is not None:
        settings = json.loads(vault.open(row.settings_sealed, bound_to=_bound(row.instance_id, row.connection_id)))
    return ConnectionRow(
        id=row.id,
        instance_id=row.instance_id,
        connection_id=row.connection_id,
        provider=row.provider,
        origin=row.origin,
        settings=settings,
        state=row.state,
        since_us=row.since_us,
        last_error=row.last_error,
        last_position_us=row.last_position_us,
        generation=row.generation,
        owner_node=row.owner_node,
        lease_until_us=row.lease_until_us,
    )
