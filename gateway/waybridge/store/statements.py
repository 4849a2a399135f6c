"""Statements in the drivers' own words for many rows at once (see Tx.append).

On SQLite the rows are bound one by one to numbered parameters; on PostgreSQL the columns are, as arrays, so that
any number of rows is one statement. Names come from the schema alone, values only as parameters.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Boolean, Float, Integer, SmallInteger, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Table

_TYPES = {
    BigInteger: "bigint", Integer: "int", SmallInteger: "smallint", Float: "float8", Text: "text", Boolean: "boolean",
}  # fmt: skip


@cache
def insert(dialect: str, table: Table, names: Sequence[str], given: Sequence[str] = (), conflict: str = "") -> str:
    """An INSERT of the columns `names`. `given`: the names of what a row holds, where that is something else.

    A column that is named otherwise in the row is "column=name"; what is no column of the table has its type behind
    a colon, as in "milestone:smallint".
    """
    held = [each.partition(":")[0] for each in given or names]
    pairs = [(column, name or column) for column, _, name in (each.partition("=") for each in names)]
    columns = ", ".join(column for column, _ in pairs)
    if dialect == "postgresql":
        source = f"SELECT {', '.join(name for _, name in pairs)} FROM {_arrays(table, given or names)}"  # noqa: S608
    else:
        source = f"VALUES ({', '.join(f'?{held.index(name) + 1}' for _, name in pairs)})"
    return f"INSERT INTO {table.name} ({columns}) {source} {conflict}".rstrip()


@cache
def update(dialect: str, table: Table, names: Sequence[str]) -> str:
    """An UPDATE of the columns `names` by number; a row holds the number first. One row a number at the most."""
    if dialect == "postgresql":
        changed = ", ".join(f"{name} = given.{name}" for name in names)
        given = _arrays(table, ("id", *names))
        return f"UPDATE {table.name} SET {changed} FROM {given} WHERE {table.name}.id = given.id"  # noqa: S608
    changed = ", ".join(f"{name} = ?{place}" for place, name in enumerate(names, start=2))
    return f"UPDATE {table.name} SET {changed} WHERE id = ?1"  # noqa: S608


def _arrays(table: Table, given: Sequence[str]) -> str:
    typed, names = [], []
    for place, each in enumerate(given, start=1):
        name, _, kind = each.partition(":")
        typed.append(f"${place}::{kind or _TYPES[type(table.columns[name].type)]}[]")
        names.append(name)
    return f"unnest({', '.join(typed)}) AS given({', '.join(names)})"
