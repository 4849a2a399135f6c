"""Brings a database to the newest schema, inside the gateway's own connection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from waybridge.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from waybridge.store.engine import Store

_LOCK = 0x77617962  # "wayb": one process migrates at a time


def scripts() -> Path:
    """Where the migrations are: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "_migrations", package.parent.parent / "migrations"):
        if (place / "env.py").is_file():
            return place
    raise ConfigurationError("the migrations are missing from this installation")


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, with no file behind it."""
    made = Config()
    made.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


async def migrate(store: Store, revision: str = "head") -> tuple[str | None, str | None]:
    """Upgrades the database; returns the revision before and after. Safe when many nodes start at once."""

    def run(connection: Connection) -> tuple[str | None, str | None]:
        if store.dialect == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        before = MigrationContext.configure(connection).get_current_revision()
        _refuse_newer(before)
        command.upgrade(config(connection), revision)
        return before, MigrationContext.configure(connection).get_current_revision()

    async with store.alone() as conn:
        return await conn.run_sync(run)


async def current(store: Store) -> tuple[str | None, str]:
    """The database's revision and the newest one."""

    def ask(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    head = ScriptDirectory.from_config(config()).get_current_head() or ""
    async with store.read() as conn:
        return await conn.run_sync(ask), head


def _refuse_newer(revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise ConfigurationError(f"the database is newer than this version of Waybridge (revision {revision})")
