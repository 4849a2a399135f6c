"""History is read by its clustered key alone: the databases' own plans say so."""

from __future__ import annotations

from sqlalchemy import text

from waybridge.bus import Fix
from waybridge.store import fixes, tracks

MINUTE = 60_000_000
START = 29_000_000


async def _fill(store, sources: int = 20, minutes: int = 60) -> None:
    rows = [
        fixes.row(
            source, source, 0, Fix((START + minute) * MINUTE + n, (START + minute) * MINUTE + n, 0, 1.0, 2.0, trip_id=7)
        )
        for source in range(1, sources + 1)
        for minute in range(minutes)
        for n in range(5)
    ]

    async def unit(tx) -> None:
        for first in range(0, len(rows), 500):
            fixes.record(tx, rows[first : first + 500], [])

    await store.write(unit)
    if store.dialect == "postgresql":

        async def analyze(tx) -> None:
            await tx.conn.execute(text("ANALYZE positions"))

        await store.write(analyze)


async def test_a_track_is_primary_key_searches_and_nothing_else(store):
    await _fill(store)
    explain = "EXPLAIN QUERY PLAN " if store.dialect == "sqlite" else "EXPLAIN "
    wanted = {"first": START, "last": START + 59, "source": 3, "trip": 7}
    async with store.read() as conn:
        plan = "\n".join(str(row) for row in await conn.execute(text(explain + tracks.POINTS[store.dialect]), wanted))

    if store.dialect == "sqlite":
        assert "USING PRIMARY KEY (minute=? AND source_id=?" in plan
        assert "SCAN p" not in plan
    else:
        assert "Seq Scan on positions" not in plan
        assert "pkey" in plan
        assert "minute" in plan.partition("Index Cond")[2]
        assert "source_id" in plan.partition("Index Cond")[2]


async def test_a_track_over_many_chunks_is_whole_and_in_order(store):
    await _fill(store, sources=2, minutes=tracks.CHUNK_MINUTES + 30)
    span = {"first_us": START * MINUTE, "last_us": (START + tracks.CHUNK_MINUTES + 30) * MINUTE}

    async with store.read() as conn:
        newest, truncated = await tracks.newest_points(conn, source_id=1, trip_id=7, limit=200, **span)
        every = [point async for part in tracks.every_point(conn, source_id=1, trip_id=7, **span) for point in part]

    assert truncated
    assert len(newest) == 200
    assert len(every) == (tracks.CHUNK_MINUTES + 30) * 5
    assert newest == every[-200:] == sorted(every)[-200:]


async def test_erasing_one_source_leaves_the_others(store):
    await _fill(store, sources=2, minutes=3)

    async with store.read() as conn:
        first = await tracks.next_minute(conn, 0)
        assert await tracks.next_minute(conn, first + 1) == first + 1
        assert await tracks.next_minute(conn, first + 3) is None
    await store.write(lambda tx: tracks.erase_points(tx.conn, 1, first, first + 2))
    async with store.read() as conn:
        left = (await conn.execute(text("SELECT DISTINCT source_id FROM positions"))).scalars().all()

    assert left == [2]
