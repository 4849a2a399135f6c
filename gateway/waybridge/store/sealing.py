"""Every column that holds something sealed, and sealing it again under the first key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Table, and_, select, update

from waybridge.store.engine import Store, Tx
from waybridge.store.tables import connections, keyed_state, share_sessions, subscriptions

if TYPE_CHECKING:
    from sqlalchemy import Row

    from waybridge.vault import Vault

_BATCH = 200

_SEALED: tuple[tuple[Table, Column[Any], Callable[[Row[Any]], str]], ...] = (
    (
        connections,
        connections.c.settings_sealed,
        lambda row: f"connections/{row.instance_id}/{row.connection_id}/settings",
    ),
    (
        keyed_state,
        keyed_state.c.sealed,
        lambda row: f"keyed_state/{row.instance_id}/{row.connection_id}/{row.key}",
    ),
    (share_sessions, share_sessions.c.token_sealed, lambda row: f"share_sessions/{row.id}"),
    (subscriptions, subscriptions.c.secrets_sealed, lambda row: f"webhook_subscriptions/{row.id}"),
)


async def reseal_everything(store: Store, vault: Vault) -> int:
    """Seals again what another key than the first sealed, in small transactions; returns how many.

    Raises VaultError for what no key opens. It may be stopped and run again.
    """
    return sum([await _reseal(store, vault, table, column, bound) for table, column, bound in _SEALED])


async def _reseal(
    store: Store, vault: Vault, table: Table, column: Column[Any], bound: Callable[[Row[Any]], str]
) -> int:
    key = list(table.primary_key.columns)
    async with store.read() as conn:
        rows = (await conn.execute(select(table).where(column.is_not(None)).order_by(*key))).all()
    stale = [row for row in rows if vault.needs_reseal(getattr(row, column.name))]
    for start in range(0, len(stale), _BATCH):

        async def unit(tx: Tx, part: list[Row[Any]] = stale[start : start + _BATCH]) -> None:
            for row in part:
                before = getattr(row, column.name)
                sealed = vault.seal(vault.open(before, bound_to=bound(row)), bound_to=bound(row))
                same = and_(*(each == getattr(row, each.name) for each in key), column == before)
                await tx.conn.execute(update(table).where(same).values({column.name: sealed}))

        await store.write(unit)
    return len(stale)
