"""The database: one engine, one way to read, one way to write.

Writes run as units inside transactions. On SQLite one writer task owns the only writing connection and runs
everything that waits in ONE transaction (group commit), each unit in a savepoint, so that a unit that fails
takes nobody else's rows with it. On PostgreSQL a unit has a transaction of its own. In both, `write` returns
after the commit, and the unit's events are published only then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy import Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from waybridge.bus import Event, Nudge
from waybridge.errors import ConfigurationError, StoreUnavailable, WaybridgeError
from waybridge.store import statements
from waybridge.store.tables import outbox

log = structlog.get_logger("waybridge.store")
T = TypeVar("T")

GROUP = 256
"""Units that share one transaction at the most."""
WAITING = 20_000
"""Units that may wait for the writer; more are refused with StoreUnavailable."""


class Ids:
    """Numbers that grow with time and are unique on every node: microseconds and ten random bits."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> int:
        number = ((time.time_ns() // 1000) << 10) | random.getrandbits(10)
        self._last = number if number > self._last else self._last + 1
        return self._last


new_id = Ids()

_OUTBOX = (
    "id", "event_id", "instance_id", "event_type", "device_id", "device_token", "cause", "data", "trace_id",
    "created_us", "expanded",
)  # fmt: skip


class Tx:
    """One unit's view of a transaction: the connection, the time, and what is told after the commit."""

    def __init__(self, conn: AsyncConnection, now_us: int, dialect: str) -> None:
        self.conn = conn
        self.now_us = now_us
        self.dialect = dialect
        self.events: list[Event] = []
        self.appended: list[tuple[str, Sequence[tuple[Any, ...]]]] = []
        self._outbox: list[tuple[Any, ...]] = []
        self._after: list[Callable[[], None]] = []

    def append(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Runs a statement in the driver's own words for many rows, as the last thing before the commit.

        On PostgreSQL its parameters are the columns, as arrays. On SQLite they are the rows, one by one, and a unit
        that is alone in its transaction and asks nothing else costs one visit to the database's thread.
        """
        self.appended.append((statement, rows))

    def insert(self, table: Table) -> Any:
        """The dialect's own INSERT, which has `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return postgresql.insert(table) if self.dialect == "postgresql" else sqlite.insert(table)

    def publish(self, event: Event) -> None:
        """Puts an event on the bus after the commit."""
        self.events.append(event)

    def after_commit(self, call: Callable[[], None]) -> None:
        """Calls a function after the commit, before the unit's caller goes on."""
        self._after.append(call)

    def emit(
        self,
        event_type: str,
        *,
        instance_id: str,
        data: dict[str, Any],
        device_id: int | None = None,
        device_token: str | None = None,
        cause: str | None = None,
        trace_id: str | None = None,
    ) -> str:
        """Writes an event for integrators into the outbox, in this transaction. Returns its event id."""
        chance = secrets.token_hex(32)
        event_id = "evt_" + chance[:32]
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        self._outbox.append(
            (new_id(), event_id, instance_id, event_type, device_id, device_token, cause, text, trace_id or chance[32:],
             self.now_us, False)
        )  # fmt: skip
        return event_id

    def finish(self) -> None:
        """Hands over what was emitted; the store calls it when the unit is through, before the end of it."""
        if self._outbox:
            self.append(statements.insert(self.dialect, outbox, _OUTBOX), self._outbox)
            self.events.append(Nudge("outbox"))
            self._outbox = []

    async def run_appended(self) -> None:
        """Runs what was appended now."""
        appended, self.appended = self.appended, []
        for statement, rows in appended:
            given: Any = rows if self.dialect == "sqlite" else tuple(map(list, zip(*rows, strict=True)))
            await self.conn.exec_driver_sql(statement, given)

    def committed(self) -> None:
        """Calls what waited for the commit; the store calls it, then publishes the events."""
        calls, self._after = self._after, []  # they know this transaction: kept, each would be cyclic garbage
        for call in calls:
            call()


class _Unit(Generic[T]):
    __slots__ = ("alone", "future", "work")

    def __init__(self, work: Callable[[Tx], Awaitable[T]], future: asyncio.Future[T], *, alone: bool) -> None:
        self.work = work
        self.future = future
        self.alone = alone


class _UnitFailed(Exception):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Store:
    """The database of a gateway. `publish` takes events after each commit (the bus)."""

    def __init__(
        self,
        url: str,
        *,
        durability: str = "full",
        publish: Callable[[Sequence[Event]], None] = lambda _events: None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        shared_file: bool = False,
    ) -> None:
        self.url = make_url(url)
        self.dialect = self.url.get_backend_name()
        if self.dialect not in ("sqlite", "postgresql"):
            raise ConfigurationError(f"database_url: {self.dialect} is not supported; use SQLite or PostgreSQL")
        if self.dialect == "sqlite" and self.url.database in (None, "", ":memory:"):
            raise ConfigurationError("database_url: SQLite needs a file; nothing would outlive the process")
        self.exclusive = self.dialect == "sqlite" and not shared_file
        self.now_us = now_us
        self._durability = durability
        self._publish = publish
        self._writer: AsyncEngine
        self._reader: AsyncEngine
        self._waiting: list[_Unit[Any]] = []
        self._wake = asyncio.Event()
        self._deciding = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._writing: AsyncConnection | None = None
        self._closing = False
        self.healthy = True

    async def start(self) -> None:
        """Opens the database. Raises StoreUnavailable when it cannot be reached."""
        if self.dialect == "sqlite":
            self._writer = self._sqlite_engine(writes=True)
            self._reader = self._sqlite_engine(writes=False)
            self._task = asyncio.create_task(self._write_groups(), name="store writer")
        else:
            self._writer = self._reader = create_async_engine(
                self.url,
                pool_size=10,
                max_overflow=10,
                pool_timeout=10,
                pool_pre_ping=True,
                connect_args={"timeout": 5, "command_timeout": 60},
            )

    async def close(self) -> None:
        """Commits what waits, then lets go of the database."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
            self._task = None
        await self._let_go()
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for questions. Raises StoreUnavailable when the database does not answer."""
        try:
            async with self._reader.connect() as conn:
                yield conn
        except (OSError, TimeoutError) as error:
            self.healthy = False
            raise StoreUnavailable("the database does not answer") from error
        except DBAPIError as error:
            if not _unreachable(error, _sqlstate(error)):
                raise
            self.healthy = False
            raise StoreUnavailable("the database does not answer") from error
        except SQLAlchemyError as error:
            if "QueuePool limit" in str(error):
                raise StoreUnavailable("the database is too busy") from error
            raise

    async def write(self, work: Callable[[Tx], Awaitable[T]], *, alone: bool = False) -> T:
        """Runs a unit of work in a transaction and returns its result after the commit.

        The unit may run again when the database asked for it (a deadlock), so it must not change anything
        but the database; use `tx.after_commit` for the rest. `alone`: the unit shares its transaction with nobody
        and runs after the ones before it, because it decides on what they left in memory. Raises what the unit
        raises, and StoreUnavailable.
        """
        if self._closing:
            raise StoreUnavailable("the gateway is stopping")
        if self.dialect != "sqlite":
            if not alone:
                return await self._write_once(work)
            async with self._deciding:
                return await self._write_once(work)
        if len(self._waiting) >= WAITING:
            raise StoreUnavailable("too much waits to be written")
        unit: _Unit[T] = _Unit(work, asyncio.get_running_loop().create_future(), alone=alone)
        self._waiting.append(unit)
        self._wake.set()
        return await unit.future

    async def ping(self) -> bool:
        """Whether the database answers now."""
        try:
            async with asyncio.timeout(3), self.read() as conn:
                await conn.exec_driver_sql("SELECT 1")
        except (StoreUnavailable, TimeoutError, SQLAlchemyError, OSError):
            self.healthy = False
        else:
            self.healthy = True
        return self.healthy

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction of its own, for migrations before anything else runs."""
        engine = self._writer
        async with engine.begin() as conn:
            yield conn

    # -- PostgreSQL

    async def _write_once(self, work: Callable[[Tx], Awaitable[T]]) -> T:
        for attempt in range(4):
            try:
                async with self._writer.begin() as conn:
                    tx = Tx(conn, self.now_us(), self.dialect)
                    result = await work(tx)
                    tx.finish()
                    await tx.run_appended()
            except DBAPIError as error:
                state = _sqlstate(error)
                if state in ("40001", "40P01") and attempt < 3:
                    await asyncio.sleep(random.random() * 0.02 * 2**attempt)  # noqa: S311
                    continue
                if _unreachable(error, state):
                    self.healthy = False
                    raise StoreUnavailable("the database does not answer") from error
                raise
            except (OSError, TimeoutError) as error:
                self.healthy = False
                raise StoreUnavailable("the database does not answer") from error
            except SQLAlchemyError as error:
                if "QueuePool limit" in str(error):
                    raise StoreUnavailable("the database is too busy") from error
                raise
            self.healthy = True
            tx.committed()
            self._publish(tx.events)
            return result
        raise StoreUnavailable("the database could not order concurrent writes")

    # -- SQLite

    def _sqlite_engine(self, *, writes: bool) -> AsyncEngine:
        engine = create_async_engine(
            self.url,
            pool_size=1 if writes else 4,
            max_overflow=0 if writes else 4,
            pool_timeout=30,
            connect_args={"timeout": 30},
        )
        synchronous = "FULL" if self._durability == "full" else "NORMAL"

        @event.listens_for(engine.sync_engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # transactions are ours, see "begin"
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute(f"PRAGMA synchronous={synchronous}")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.execute(f"PRAGMA cache_size=-{65536 if writes else 8192}")  # kB; readers have the system's beside
            cursor.execute("PRAGMA temp_store=MEMORY")
            cursor.execute("PRAGMA wal_autocheckpoint=4000")
            if not writes:
                cursor.execute("PRAGMA query_only=ON")
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine

    async def _write_groups(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                group = self._next_group()
                await self._write_group([unit for unit in group if not unit.future.cancelled()])
            if self._closing:
                return

    def _next_group(self) -> list[_Unit[Any]]:
        count = 1
        if not self._waiting[0].alone:
            while count < min(GROUP, len(self._waiting)) and not self._waiting[count].alone:
                count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _write_group(self, group: list[_Unit[Any]]) -> None:
        done: list[tuple[_Unit[Any], Tx, Any]] = []
        failed: list[tuple[_Unit[Any], BaseException]] = []
        try:
            if self._writing is None:
                self._writing = await self._writer.connect()
            if group and group[0].alone:
                await self._alone(self._writing, group[0], done)
            else:
                async with self._writing.begin():
                    await self._together(self._writing, group, done, failed)
        except _UnitFailed as failure:
            failed.append((group[0], failure.cause))
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            await self._let_go()
            self._refuse(group, error)
            return
        self.healthy = True
        for unit, tx, result in done:
            tx.committed()
            if not unit.future.done():
                unit.future.set_result(result)
            self._publish(tx.events)
        for unit, reason in failed:
            if not unit.future.done():
                unit.future.set_exception(reason)

    async def _let_go(self) -> None:
        """Closes the writing connection; the next group opens another."""
        conn, self._writing = self._writing, None
        if conn is not None:
            with contextlib.suppress(SQLAlchemyError, sqlite3.Error, OSError):  # it is given up because it failed
                await conn.invalidate()
            await conn.close()

    async def _alone(
        self, conn: AsyncConnection, unit: _Unit[Any], done: list[tuple[_Unit[Any], Tx, Any]]
    ) -> None:
        """Runs a unit that has the transaction for itself; it begins with the first statement, if there is one."""
        tx = Tx(conn, self.now_us(), self.dialect)
        try:
            result = await unit.work(tx)
            tx.finish()
        except (OperationalError, OSError):
            raise
        except Exception as error:
            await conn.rollback()
            raise _UnitFailed(error) from error
        if tx.appended or conn.in_transaction():
            await _append_and_commit(conn, tx.appended)
        done.append((unit, tx, result))

    async def _together(
        self,
        conn: AsyncConnection,
        group: list[_Unit[Any]],
        done: list[tuple[_Unit[Any], Tx, Any]],
        failed: list[tuple[_Unit[Any], BaseException]],
    ) -> None:
        for unit in group:
            tx = Tx(conn, self.now_us(), self.dialect)
            try:
                async with conn.begin_nested():
                    result = await unit.work(tx)
                    tx.finish()
                    await tx.run_appended()
            except OperationalError:
                raise
            except Exception as error:  # noqa: BLE001 - the unit's own; its caller gets it
                failed.append((unit, error))
            else:
                done.append((unit, tx, result))

    def _refuse(self, group: list[_Unit[Any]], error: Exception) -> None:
        if self.healthy:
            log.error("The database refuses to write; nothing of the group was kept", error=str(error)[:300])
        self.healthy = False
        for unit in group:
            if not unit.future.done():
                refusal = StoreUnavailable("the database cannot write now")
                refusal.__cause__ = error
                unit.future.set_exception(refusal)


async def _append_and_commit(conn: AsyncConnection, appended: list[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
    """Ends SQLite's transaction in one visit to the connection's thread. Where none was begun it is all there is.

    Each visit wakes a thread, which fights the loop for the interpreter: of eleven a group, this one is left.
    Raises sqlite3.Error, and then nothing is kept.
    """
    begun = conn.in_transaction()
    known = conn.sync_connection
    # Asking SQLAlchemy the usual way starts a greenlet, which costs a group ten microseconds.
    raw = await conn.get_raw_connection() if known is None or known.invalidated else known.connection
    driver: Any = raw.driver_connection

    def run() -> None:
        database = driver._conn  # noqa: SLF001 - aiosqlite's connection, in its own thread
        try:
            if not begun:
                database.execute("BEGIN IMMEDIATE")
            for statement, rows in appended:
                database.executemany(statement, rows)
            if not begun:
                database.execute("COMMIT")
        except sqlite3.Error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    if appended:
        await driver._execute(run)  # noqa: SLF001 - the one way to run several statements in one visit
    if begun:
        await conn.commit()


def _sqlstate(error: DBAPIError) -> str | None:
    """PostgreSQL's own code of an error, wherever the drivers' layers keep it."""
    orig = error.orig
    for each in (orig, getattr(orig, "__cause__", None), getattr(orig, "driver_exception", None)):
        state = getattr(each, "sqlstate", None) or getattr(each, "pgcode", None)
        if isinstance(state, str):
            return state
    return None


def _unreachable(error: DBAPIError, state: str | None) -> bool:
    if error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError)):
        return True
    # 08 connection, 53 resources, 57 operator intervention (shutdown, starting up), 25006 read-only standby
    return state is not None and (state[:2] in ("08", "53", "57") or state == "25006")


__all__ = ["Store", "Tx", "WaybridgeError", "new_id"]
