from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import BigInteger, Connection, Float, LargeBinary, Text, inspect

from waybridge.store.engine import Store
from waybridge.store.migrate import config, current, migrate
from waybridge.store.tables import metadata


def _rows(connection: Connection) -> dict[str, int]:
    """One row in every table that the database has, whatever its revision; returns the tables' counts."""
    counts = {}
    inspector = inspect(connection)
    for table in metadata.sorted_tables:
        if not inspector.has_table(table.name):
            continue
        present = {column["name"] for column in inspector.get_columns(table.name)}
        row = {}
        for column in table.columns:
            if column.name not in present:
                continue
            match column.type:
                case LargeBinary():
                    row[column.name] = b"x"
                case Text():
                    row[column.name] = "x"
                case Float():
                    row[column.name] = 1.5
                case BigInteger():
                    row[column.name] = 1
                case _:
                    row[column.name] = True if column.type.python_type is bool else 1
        connection.execute(table.insert(), row)
        counts[table.name] = 1
    return counts


async def test_every_earlier_revision_upgrades_with_rows_in_it_and_ends_as_the_metadata(database_url: str) -> None:
    revisions = [script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()][::-1]
    for earlier in revisions:
        store = Store(database_url)
        await store.start()
        await migrate(store, earlier)
        async with store.alone() as conn:
            counts = await conn.run_sync(_rows)
        assert counts
        await migrate(store)
        async with store.alone() as conn:
            differences = await conn.run_sync(
                lambda sync: [
                    each
                    for each in compare_metadata(MigrationContext.configure(sync), metadata)
                    if not (each[0] == "remove_table" and each[1].name.startswith("positions_"))
                ]
            )
            for table in counts:
                assert (await conn.exec_driver_sql(f"SELECT count(*) FROM {table}")).scalar_one() == 1
        assert differences == []
        assert await current(store) == (revisions[-1], revisions[-1])
        await store.close()


async def test_migrating_twice_changes_nothing(store: Store) -> None:
    before, after = await migrate(store)
    assert before == after == (await current(store))[1]
