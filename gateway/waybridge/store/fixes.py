"""Fixes on their way into the store: the history, and the newest of each source.

These are the statements of every position that comes in: all rows of a group in one statement for each table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec.structs import astuple

from waybridge.store import statements
from waybridge.store.tables import last, positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waybridge.bus import Fix
    from waybridge.store.engine import Tx

FixRow: TypeAlias = tuple[Any, ...]
"""A fix as both tables take it; see `row`."""

_MEASURED = ("latitude", "longitude", "altitude", "accuracy", "speed", "heading", "trip_id", "flags", "extra")
# In the order of a Fix, behind what `row` puts before it.
_GIVEN = (
    "source_id", "device_id", "milestone:smallint", "minute:int", "recorded_us", "sent_us:bigint", "received_us",
    *_MEASURED,
)  # fmt: skip
_HISTORY = ("minute", "source_id", "recorded_us=sent_us", "device_id", "received_us", *_MEASURED)
_LAST = ("source_id", "milestone", "recorded_us", "sent_us", "device_id", "received_us", *_MEASURED)
_NEWER = (
    f"ON CONFLICT (source_id, milestone) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _LAST[2:])}"
    " WHERE excluded.recorded_us >= last.recorded_us"
)


def row(source_id: int, device_id: int, milestone: int, fix: Fix) -> FixRow:
    """`milestone`: 1 for a coordinate that is not live."""
    return (source_id, device_id, milestone, fix.sent_us // 60_000_000, *astuple(fix))


def record(tx: Tx, history: Sequence[FixRow], newest: Sequence[FixRow]) -> None:
    """Adds fixes to the history and keeps the newest, right before the commit.

    What the history has already stays; a newest fix replaces only an older one. `newest` holds one row a source
    and kind at the most.
    """
    if history:
        tx.append(statements.insert(tx.dialect, positions, _HISTORY, _GIVEN, "ON CONFLICT DO NOTHING"), history)
    if newest:
        tx.append(statements.insert(tx.dialect, last, _LAST, _GIVEN, _NEWER), newest)
