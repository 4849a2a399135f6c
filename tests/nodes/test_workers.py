"""`waybridge serve --workers N`, the real command, on each database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from processes import GatewayProcess, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.nats, pytest.mark.timeout(400)]
WORKERS = 2


def below(pid: int) -> dict[int, str]:
    """The command lines of a process's children, and theirs, by number."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                with contextlib.suppress(OSError):
                    found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                found |= below(child)
    return found


def lives(pid: int) -> bool:
    """Whether a process runs (one that nobody has asked about yet is dead, too)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers_of(command: GatewayProcess) -> list[int]:
    return [pid for pid, line in below(command.pid).items() if "spawn_main" in line]


def nats_of(command: GatewayProcess) -> list[int]:
    return [pid for pid, line in below(command.pid).items() if "nats-server" in line]


@contextlib.asynccontextmanager
async def serving(folder: Path, database_url: str) -> AsyncIterator[GatewayProcess]:
    environ = {"WAYBRIDGE_DATABASE_URL": database_url}
    command = GatewayProcess(folder, free_port(), environ, "--workers", str(WORKERS))
    await command.start()
    started = {command.pid, *below(command.pid)}
    try:
        yield command
    finally:
        started |= set(below(command.pid))
        for pid in (command.pid, *started):
            if lives(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


async def ask(command: GatewayProcess, method: str, path: str, **more: Any) -> Any:
    """Asks whichever worker takes a new connection."""
    headers = {"Authorization": f"Bearer {command.token()}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, command.url + path, **more) as answer,
    ):
        assert answer.status < 300, await answer.text()
        return await answer.json()


async def until(what, seconds: float = 120) -> Any:
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(aiohttp.ClientError, AssertionError):
                if said := await what():
                    return said
            await asyncio.sleep(0.05)


async def alive(command: GatewayProcess) -> set[str]:
    listed = await ask(command, "GET", "/api/v1/nodes")
    return {node["node_id"] for node in listed["nodes"] if node["alive"]}


@pytest.mark.parametrize(
    "database_url",
    ["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.soak])],
    indirect=True,
)
async def test_workers_share_a_port_replace_each_other_and_leave_nothing(database_url: str, tmp_path: Path) -> None:
    async with serving(tmp_path, database_url) as command:

        async def all_are_there() -> bool:
            return len(await alive(command)) == WORKERS and len(workers_of(command)) == WORKERS

        await until(all_are_there)
        first = await alive(command)
        assert len(nats_of(command)) == 1

        # Each takes requests, and knows what another took in.
        async def answering() -> str:
            listed = await ask(command, "GET", "/api/v1/nodes")
            return next(str(node["node_id"]) for node in listed["nodes"] if node["self"])

        answered: set[str] = set()
        async with asyncio.timeout(90):
            while answered != first:
                answered.add(await answering())
        now = time.time()
        for number in range(30):
            body = {"device_token": f"van-{number}", "latitude": 60.0, "longitude": 24.0, "timestamp": now}
            assert (await ask(command, "POST", "/ingest/native/positions", json=body))["accepted"] == 1

        async def known_everywhere() -> bool:
            seen = [await ask(command, "GET", "/api/v1/devices?instance_id=default") for _ in range(3 * WORKERS)]
            return all(each["total"] == 30 for each in seen)

        await until(known_everywhere)

        # One that is killed is replaced; so is their NATS.
        killed = workers_of(command)[0]
        os.kill(killed, signal.SIGKILL)

        async def replaced() -> bool:
            return killed not in workers_of(command) and len(await alive(command) - first) == 1

        await until(replaced)
        (broker,) = nats_of(command)
        os.kill(broker, signal.SIGKILL)

        async def joined_again() -> bool:
            if [broker] == nats_of(command) or not nats_of(command):
                return False
            return all([await ask(command, "GET", "/health/ready") for _ in range(3 * WORKERS)])

        await until(joined_again)
        everything = [command.pid, *below(command.pid)]
        os.kill(command.pid, signal.SIGTERM)
        assert await command.ended() == 0
        async with asyncio.timeout(90):  # Python's own helper of these processes ends right behind them
            while [pid for pid in everything if lives(pid)]:
                await asyncio.sleep(0.05)


async def test_workers_of_a_parent_that_is_killed_stop_by_themselves(tmp_path: Path) -> None:
    async with serving(tmp_path, f"sqlite+aiosqlite:///{tmp_path / 'waybridge.db'}") as command:
        started = below(command.pid)
        assert [line for line in started.values() if "nats-server" in line]
        await command.kill()
        async with asyncio.timeout(90):
            while [pid for pid in started if lives(pid)]:
                await asyncio.sleep(0.05)


def test_a_configuration_that_no_worker_can_start_with_ends_the_command(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WAYBRIDGE_")}
    environ |= {"WAYBRIDGE_METRICS_LISTEN": "", "WAYBRIDGE_MIGRATE_ON_START": "false"}
    done = subprocess.run(
        [sys.executable, "-m", "waybridge", "serve", "--port", str(free_port()), "--workers", "2"],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "run waybridge migrate" in done.stderr
    assert "Traceback" not in done.stderr
