"""Real gateway processes for tests: started by the command line, found by the port they say, killed at will."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

SECRET = "k" * 40


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class GatewayProcess:
    """`waybridge serve` in a process of its own."""

    def __init__(self, folder: Path, port: int, environ: Mapping[str, str], *arguments: str) -> None:
        self.folder = folder
        self._arguments = arguments
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith("WAYBRIDGE_")},
            "WAYBRIDGE_SECRET_KEYS": f'["{SECRET}"]',
            "WAYBRIDGE_METRICS_LISTEN": "",
            **environ,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts and waits until it is ready."""
        with (self.folder / f"serve-{self.port}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "waybridge", "serve", "--port", str(self.port), *self._arguments,
                cwd=self.folder, env=self._environ, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 120
        async with aiohttp.ClientSession() as http:
            while time.monotonic() < deadline:
                if self._process.returncode is not None:
                    break
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{self.url}/health") as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(0.02)
        raise AssertionError((self.folder / f"serve-{self.port}.log").read_text()[-3000:])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(12):
            return await self._process.wait()

    async def ended(self) -> int:
        """Waits for its end; the exit code."""
        assert self._process is not None
        async with asyncio.timeout(120):
            return await self._process.wait()

    def token(self, scope: str = "read write ingest admin", instances: tuple[str, ...] = ("default",)) -> str:
        from waybridge.auth import Auth
        from waybridge.runtime import SystemClock
        from waybridge.settings import AuthSettings

        auth = Auth(AuthSettings(), [SECRET.encode()], clock=SystemClock())
        return auth.issue(subject="test", instances=list(instances), scope=scope, ttl=3600)


@contextlib.asynccontextmanager
async def gateway_process(folder: Path, **environ: str) -> AsyncIterator[GatewayProcess]:
    """A gateway process, killed at the end if it still runs."""
    process = GatewayProcess(folder, free_port(), environ)
    await process.start()
    try:
        yield process
    finally:
        if process.running:
            await process.kill()
