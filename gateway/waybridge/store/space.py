"""What tells one database from another: nodes of the same one hear each other on a bus that others use too."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from waybridge.store.engine import Store

_CLUSTER = "SELECT system_identifier::text FROM pg_control_system()"
_DATABASE = "SELECT current_database() || '/' || current_schema()"


async def space(store: Store) -> str:
    """Twelve hex digits of the database: the same on each of its nodes, by whatever address they reach it.

    On PostgreSQL of the cluster's own number, the database and the schema; on SQLite of the file's path.
    Raises StoreUnavailable.
    """
    if store.dialect == "sqlite":
        return _of_file(str(store.url.database))
    async with store.read() as conn:
        database = str((await conn.exec_driver_sql(_DATABASE)).scalar_one())
    try:
        async with store.read() as conn:
            cluster = str((await conn.exec_driver_sql(_CLUSTER)).scalar_one())
    except SQLAlchemyError:  # a service that hides it: the names must do
        cluster = ""
    return _digest(f"{cluster}/{database}")


def _of_file(path: str) -> str:
    return _digest(os.path.realpath(path))


def _digest(said: str) -> str:
    return hashlib.sha256(said.encode()).hexdigest()[:12]
