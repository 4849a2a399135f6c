"""What a group of reports changes beside the fixes, gathered, and written in few statements right before the commit.

Nothing here asks the database whether a change still holds: its caller knows the rows as they are, because no other
process writes to them or because it has locked and read them in this transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waybridge.store import statements
from waybridge.store.tables import devices, sharing_periods, sources, trips

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Table

    from waybridge.roster import Trip
    from waybridge.store.engine import Tx

_TRIP = ("id", "device_id", "source_id", "track_token", "started_us", "ended_us")
_PERIOD = (
    "id", "sharing_id", "kind", "instance_id", "device_id", "device_token", "source_id", "connection_id", "provider",
    "shared_by", "shared_with", "chat_id", "began_us", "ends_us", "start_cause", "ended_us", "stop_cause",
)  # fmt: skip


class Changes:
    """Rows of one transaction. What is begun and ended in it is written once, as it ended up."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._new_trips: dict[int, dict[str, Any]] = {}
        self._new_periods: dict[int, dict[str, Any]] = {}
        tables = (sharing_periods, trips, devices, sources)
        self._changed: dict[Table, dict[int, dict[str, Any]]] = {table: {} for table in tables}

    def begin_trip(self, device_id: int, source_id: int, trip: Trip) -> None:
        self._new_trips[trip.id] = dict(
            zip(_TRIP, (trip.id, device_id, source_id, trip.track_token, trip.started_us, trip.ended_us), strict=True)
        )

    def change_trip(self, trip_id: int, **columns: int | None) -> None:
        """`ended_us` ends a trip or, with None, lets it run again; `started_us` moves its start."""
        self._change(trips, trip_id, columns, self._new_trips)

    def begin_period(self, values: Mapping[str, Any]) -> None:
        """Opens a sharing period of a source that has no open one."""
        self._new_periods[values["id"]] = {"ended_us": None, "stop_cause": None, **values}

    def change_period(self, period_id: int, **columns: int | str | None) -> None:
        """`ended_us` and `stop_cause` close a period; `ends_us` is its new planned end."""
        self._change(sharing_periods, period_id, columns, self._new_periods)

    def change_device(self, device_id: int, columns: Mapping[str, Any]) -> None:
        self._change(devices, device_id, columns, {})

    def change_source(self, source_id: int, columns: Mapping[str, Any]) -> None:
        self._change(sources, source_id, columns, {})

    def write(self) -> None:
        """Hands everything to the transaction, for the end of it."""
        tx = self._tx
        for table, by_number in self._changed.items():
            shapes: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
            for number, columns in by_number.items():
                shapes.setdefault(tuple(columns), []).append((number, *columns.values()))
            for names, rows in shapes.items():
                tx.append(statements.update(tx.dialect, table, names), rows)
            by_number.clear()
        # After the updates: a period that ends makes room for the source's next.
        self._insert(sharing_periods, _PERIOD, self._new_periods)
        self._insert(trips, _TRIP, self._new_trips)

    async def write_now(self) -> None:
        """The same at once, so that what follows can ask the database about it."""
        self.write()
        await self._tx.run_appended()

    def _change(
        self, table: Table, number: int, columns: Mapping[str, Any], new: Mapping[int, dict[str, Any]]
    ) -> None:
        row = new.get(number)
        if row is None:
            row = self._changed[table].setdefault(number, {})
        row.update(columns)

    def _insert(self, table: Table, names: Sequence[str], new: dict[int, dict[str, Any]]) -> None:
        if new:
            rows = [tuple(map(row.__getitem__, names)) for row in new.values()]
            self._tx.append(statements.insert(self._tx.dialect, table, names), rows)
            new.clear()
