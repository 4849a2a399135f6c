"""Fixes on their way into the store: the history, and the newest of each source.

These are the statements of every position that comes in, so they go to the driver as they stand: all rows of a
group in one statement for each table, in one visit to the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waybridge.store.engine import Tx
    from waybridge.store.fleet import FixRow

_FIX = ("device_id", "received_us", "trip_id", "latitude", "longitude", "altitude", "accuracy", "speed", "heading")
_HISTORY = ("minute", "source_id", "recorded_us", *_FIX, "flags", "extra")
_LAST = ("source_id", "milestone", "recorded_us", "sent_us", *_FIX, "flags", "extra")
_TYPES = {
    "minute": "int",
    "milestone": "smallint",
    "flags": "smallint",
    "extra": "text",
    **dict.fromkeys(("latitude", "longitude", "altitude", "accuracy", "speed", "heading"), "float8"),
}


def record(tx: Tx, history: Sequence[FixRow], newest: Sequence[FixRow]) -> None:
    """Adds fixes to the history and keeps the newest, right before the commit.

    What the history has already stays; a newest fix replaces only an older one. `newest` holds one row a source
    and kind at the most.
    """
    statements = _POSTGRESQL if tx.dialect == "postgresql" else _SQLITE
    if history:
        rows = [
            (f.sent_us // 60_000_000, source_id, f.sent_us, device_id, f.received_us, f.trip_id, f.latitude,
             f.longitude, f.altitude, f.accuracy, f.speed, f.heading, f.flags, f.extra)
            for source_id, device_id, _, f in history
        ]  # fmt: skip
        tx.append(statements[0], rows)
    if newest:
        kept = [
            (source_id, milestone, f.recorded_us, f.sent_us, device_id, f.received_us, f.trip_id, f.latitude,
             f.longitude, f.altitude, f.accuracy, f.speed, f.heading, f.flags, f.extra)
            for source_id, device_id, milestone, f in newest
        ]  # fmt: skip
        tx.append(statements[1], kept)


def _statements(*, arrays: bool) -> tuple[str, str]:
    """The two statements: rows one by one (SQLite), or columns as arrays (PostgreSQL)."""

    def insert(table: str, names: Sequence[str]) -> str:
        typed = ", ".join(f"${n}::{_TYPES.get(name, 'bigint')}[]" for n, name in enumerate(names, start=1))
        source = f"SELECT * FROM unnest({typed})" if arrays else f"VALUES ({','.join('?' * len(names))})"  # noqa: S608
        return f"INSERT INTO {table} ({', '.join(names)}) {source}"

    changed = ", ".join(f"{name} = excluded.{name}" for name in _LAST[2:])
    newer = f"DO UPDATE SET {changed} WHERE excluded.recorded_us >= last.recorded_us"
    return (
        f"{insert('positions', _HISTORY)} ON CONFLICT DO NOTHING",
        f"{insert('last', _LAST)} ON CONFLICT (source_id, milestone) {newer}",
    )


_SQLITE = _statements(arrays=False)
_POSTGRESQL = _statements(arrays=True)
