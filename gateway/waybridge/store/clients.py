"""API clients (OAuth client credentials): who may fetch a token, and for what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, delete, func, select

from waybridge.store.tables import clients

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from waybridge.store.engine import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRow:
    """One API client. `scope` is space separated; the secret is kept hashed only."""

    client_id: str
    name: str
    instances: tuple[str, ...]
    scope: str
    created_us: int
    secret_hash: bytes = field(repr=False)


async def add_client(tx: Tx, client: ClientRow) -> None:
    await tx.conn.execute(
        clients.insert().values(
            client_id=client.client_id,
            name=client.name,
            instances=json.dumps(list(client.instances)),
            scope=client.scope,
            secret_hash=client.secret_hash,
            created_us=client.created_us,
        )
    )


async def client_by_id(conn: AsyncConnection, client_id: str) -> ClientRow | None:
    row = (await conn.execute(select(clients).where(clients.c.client_id == client_id))).one_or_none()
    return None if row is None else _client(row)


async def every_client(conn: AsyncConnection) -> Sequence[ClientRow]:
    """All clients, oldest first."""
    rows = await conn.execute(select(clients).order_by(clients.c.created_us, clients.c.client_id))
    return [_client(row) for row in rows]


async def count_clients(conn: AsyncConnection) -> int:
    return int((await conn.execute(select(func.count()).select_from(clients))).scalar_one())


async def remove_client(tx: Tx, client_id: str) -> bool:
    """Whether there was such a client."""
    return (await tx.conn.execute(delete(clients).where(clients.c.client_id == client_id))).rowcount == 1


def _client(row: Row[Any]) -> ClientRow:
    return ClientRow(
        client_id=row.client_id,
        name=row.name,
        instances=tuple(json.loads(row.instances)),
        scope=row.scope,
        created_us=row.created_us,
        secret_hash=bytes(row.secret_hash),
    )
