"""Keyed state of connections: JSON under text keys; values under `secret/` are sealed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from waybridge.errors import WaybridgeError
from waybridge.provider import JSON, CompareAndSet, Intent, Put, PutIfAbsent
from waybridge.store.tables import keyed_state

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from waybridge.store.engine import Tx
    from waybridge.vault import Vault

SEALED = "secret/"


class StateConflict(WaybridgeError):
    """The state is not what an intent expected; the push or batch is run again on the new state."""


def canonical(value: JSON) -> str:
    """The one text of a JSON value, so that equal values compare equal."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _bound(instance_id: str, connection_id: str, key: str) -> str:
    return f"keyed_state/{instance_id}/{connection_id}/{key}"


async def state_value(conn: AsyncConnection, vault: Vault, instance_id: str, connection_id: str, key: str) -> JSON:
    """The value under a key, or None."""
    row = (
        await conn.execute(
            select(keyed_state.c.value, keyed_state.c.sealed).where(
                keyed_state.c.instance_id == instance_id,
                keyed_state.c.connection_id == connection_id,
                keyed_state.c.key == key,
            )
        )
    ).one_or_none()
    return None if row is None else _open(vault, instance_id, connection_id, key, row.value, row.sealed)


async def state_items(
    conn: AsyncConnection, vault: Vault, instance_id: str, connection_id: str, prefix: str
) -> dict[str, JSON]:
    """All values whose keys begin with `prefix`."""
    rows = await conn.execute(
        select(keyed_state.c.key, keyed_state.c.value, keyed_state.c.sealed)
        .where(
            keyed_state.c.instance_id == instance_id,
            keyed_state.c.connection_id == connection_id,
            keyed_state.c.key >= prefix,
            keyed_state.c.key < prefix + "\U0010ffff",
        )
        .order_by(keyed_state.c.key)
    )
    return {row.key: _open(vault, instance_id, connection_id, row.key, row.value, row.sealed) for row in rows}


async def apply_intents(tx: Tx, vault: Vault, instance_id: str, connection_id: str, intents: Sequence[Intent]) -> None:
    """Does what a provider intends, all or nothing (call it in a savepoint). Raises StateConflict."""
    for intent in intents:
        question = (
            select(keyed_state.c.value, keyed_state.c.sealed)
            .where(
                keyed_state.c.instance_id == instance_id,
                keyed_state.c.connection_id == connection_id,
                keyed_state.c.key == intent.key,
            )
            .with_for_update()
        )
        row = (await tx.conn.execute(question)).one_or_none()
        now = None if row is None else _open(vault, instance_id, connection_id, intent.key, row.value, row.sealed)
        match intent:
            case PutIfAbsent():
                if now is not None:
                    raise StateConflict(intent.key)
            case CompareAndSet():
                if canonical(now) != canonical(intent.expected):
                    raise StateConflict(intent.key)
            case Put():
                pass
        absent_expected = not isinstance(intent, Put) and row is None
        await _write(tx, vault, instance_id, connection_id, intent.key, intent.value, only_new=absent_expected)


async def put_state(tx: Tx, vault: Vault, instance_id: str, connection_id: str, key: str, value: JSON) -> None:
    """Keeps a value, whatever was there; None deletes."""
    await _write(tx, vault, instance_id, connection_id, key, value, only_new=False)


async def forget_state(tx: Tx, instance_id: str, connection_id: str) -> None:
    """Everything that a removed connection kept."""
    await tx.conn.execute(
        delete(keyed_state).where(
            keyed_state.c.instance_id == instance_id, keyed_state.c.connection_id == connection_id
        )
    )


async def forget_source(tx: Tx, instance_id: str, connection_id: str, external_id: str) -> None:
    """What a connection kept about one source: the keys that name it as a whole part (`kind/{external_id}`, with
    or without more behind).
    """
    key = keyed_state.c.key
    about = key.endswith(f"/{external_id}", autoescape=True) | key.contains(f"/{external_id}/", autoescape=True)
    await tx.conn.execute(
        delete(keyed_state).where(
            keyed_state.c.instance_id == instance_id, keyed_state.c.connection_id == connection_id, about
        )
    )


async def _write(
    tx: Tx, vault: Vault, instance_id: str, connection_id: str, key: str, value: JSON, *, only_new: bool
) -> None:
    if value is None:
        await tx.conn.execute(
            delete(keyed_state).where(
                keyed_state.c.instance_id == instance_id,
                keyed_state.c.connection_id == connection_id,
                keyed_state.c.key == key,
            )
        )
        return
    text = canonical(value)
    sealed = vault.seal(text, bound_to=_bound(instance_id, connection_id, key)) if key.startswith(SEALED) else None
    row = {
        "instance_id": instance_id,
        "connection_id": connection_id,
        "key": key,
        "value": None if sealed is not None else text,
        "sealed": sealed,
        "updated_us": tx.now_us,
    }
    statement = tx.insert(keyed_state).values(row)
    if only_new:
        statement = statement.on_conflict_do_nothing().returning(keyed_state.c.key)
        if (await tx.conn.execute(statement)).one_or_none() is None:
            raise StateConflict(key)
        return
    changed = {"value": row["value"], "sealed": sealed, "updated_us": tx.now_us}
    await tx.conn.execute(
        statement.on_conflict_do_update(index_elements=["instance_id", "connection_id", "key"], set_=changed)
    )


def _open(
    vault: Vault, instance_id: str, connection_id: str, key: str, value: str | None, sealed: bytes | None
) -> JSON:
    if sealed is not None:
        value = vault.open(sealed, bound_to=_bound(instance_id, connection_id, key))
    return None if value is None else json.loads(value)
