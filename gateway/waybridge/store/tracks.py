"""History: the points of a trip, read by the clustered key (minute, source, time) alone.

A trip is a row of minutes; each minute's points of one source lie together, so a track is one short range a
minute: nothing is scanned, however much the others moved meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

MINUTE_US = 60_000_000
CHUNK_MINUTES = 720
SUSPECT = 2

_COLUMNS = "p.recorded_us, p.received_us, p.flags, p.latitude, p.longitude, p.altitude, p.accuracy, p.speed, p.heading"

# The range of recorded_us is implied by the minute; naming it lets both databases walk the key in order.
_SQLITE = f"""
WITH RECURSIVE m(minute) AS (SELECT :first UNION ALL SELECT minute + 1 FROM m WHERE minute < :last)
SELECT {_COLUMNS} FROM m CROSS JOIN positions p
WHERE p.minute = m.minute AND p.source_id = :source AND p.trip_id = :trip
"""  # noqa: S608 - our own names
_POSTGRESQL = f"""
SELECT {_COLUMNS} FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS m(minute)
CROSS JOIN LATERAL (
  SELECT * FROM positions q WHERE q.minute = m.minute AND q.source_id = :source AND q.trip_id = :trip OFFSET 0
) AS p
"""  # noqa: S608 - our own names
POINTS = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
"""The question for the points of some minutes, by dialect: `first`, `last` (minutes), `source`, `trip`."""

_ERASE_SQLITE = """
WITH RECURSIVE m(minute) AS (SELECT :first UNION ALL SELECT minute + 1 FROM m WHERE minute < :last)
DELETE FROM positions WHERE minute IN (SELECT minute FROM m) AND source_id = :source
"""
_ERASE_POSTGRESQL = """
DELETE FROM positions WHERE minute BETWEEN CAST(:first AS int) AND CAST(:last AS int) AND source_id = :source
"""
ERASE = {"sqlite": _ERASE_SQLITE, "postgresql": _ERASE_POSTGRESQL}


class Point(NamedTuple):
    """A stored fix of a trip; SI units.

    `recorded_us` is when it counts from: where the device's clock was ahead, when it was received.
    """

    recorded_us: int
    latitude: float
    longitude: float
    altitude: float | None
    accuracy: float | None
    speed: float | None
    heading: float | None


async def newest_points(
    conn: AsyncConnection, *, source_id: int, trip_id: int, first_us: int, last_us: int, limit: int
) -> tuple[list[Point], bool]:
    """A trip's newest points, oldest first, and whether older ones were left out."""
    found: list[Point] = []
    last = last_us // MINUTE_US
    first = first_us // MINUTE_US
    while last >= first and len(found) <= limit:
        start = max(first, last - CHUNK_MINUTES + 1)
        found += await _points(conn, source_id, trip_id, start, last)
        last = start - 1
    found.sort()
    return found[-limit:] if limit else [], len(found) > limit


async def every_point(
    conn: AsyncConnection, *, source_id: int, trip_id: int, first_us: int, last_us: int
) -> AsyncIterator[Sequence[Point]]:
    """All points of a trip, oldest first, a few hours at a time."""
    last = last_us // MINUTE_US
    start = first_us // MINUTE_US
    while start <= last:
        end = min(last, start + CHUNK_MINUTES - 1)
        points = await _points(conn, source_id, trip_id, start, end)
        if points:
            yield sorted(points)
        start = end + 1


async def _points(conn: AsyncConnection, source_id: int, trip_id: int, first: int, last: int) -> list[Point]:
    rows = await conn.execute(
        text(POINTS[conn.dialect.name]), {"first": first, "last": last, "source": source_id, "trip": trip_id}
    )
    return [
        Point(row[1] if row[2] & SUSPECT else row[0], row[3], row[4], row[5], row[6], row[7], row[8]) for row in rows
    ]


async def next_minute(conn: AsyncConnection, minute: int) -> int | None:
    """The first minute from `minute` on that the history holds anything of."""
    row = await conn.execute(text("SELECT min(minute) FROM positions WHERE minute >= :minute"), {"minute": minute})
    found = row.scalar_one()
    return None if found is None else int(found)


async def erase_points(conn: AsyncConnection, source_id: int, first: int, last: int) -> None:
    """Deletes a source's history of some minutes."""
    await conn.execute(text(ERASE[conn.dialect.name]), {"first": first, "last": last, "source": source_id})
