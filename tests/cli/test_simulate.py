"""`waybridge simulate`: every vendor's stand-in is found by its hook, helps, runs, and ends by Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING

import aiohttp
import pytest
from processes import gateway_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@contextlib.asynccontextmanager
async def command(folder: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`waybridge ...` in a process of its own; Ctrl-C at the end, which it must take well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "waybridge", *arguments,
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            yield process
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
            assert (process.returncode, err) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


@pytest.mark.parametrize("vendor", ["mycartracks", "linq", "driver-events"])
async def test_each_helps(vendor: str, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "waybridge", "simulate", vendor, "--help", cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()

    assert (process.returncode, err) == (0, b"")
    assert f"waybridge simulate {vendor}" in out.decode()
    assert "--fault" in out.decode()


@pytest.mark.parametrize(
    ("vendor", "said", "path"),
    [
        ("mycartracks", "MyCarTracks stand-in at ", "/vehicles/lastPositions"),
        ("linq", "Linq stand-in at ", "/v3/chats"),
    ],
)
async def test_a_stand_in_serves_and_says_how_to_connect(vendor: str, said: str, path: str, tmp_path: Path) -> None:
    async with command(tmp_path, "simulate", vendor, "--port", "0") as process:
        first = await line(process)
        settings = await line(process)
        async with aiohttp.ClientSession() as http, http.get(first.removeprefix(said) + path) as response:
            status = response.status

    assert first.startswith(f"{said}http://127.0.0.1:")
    assert " = " in settings
    assert status in (401, 404)


async def test_the_suppliers_client_plays_a_booking_into_a_gateway(tmp_path: Path) -> None:
    (tmp_path / "waybridge.toml").write_text('[[connections]]\nid = "taxi"\nprovider = "driver_events"\n')
    async with gateway_process(tmp_path) as gateway:
        arguments = ("--url", f"{gateway.url}/ingest/taxi", "--token", gateway.token("ingest"), "--every", "0.2")
        async with command(tmp_path, "simulate", "driver-events", *arguments) as process:
            said = await line(process)
        headers = {"Authorization": f"Bearer {gateway.token()}"}
        address = f"{gateway.url}/api/v1/devices?instance_id=default"
        async with aiohttp.ClientSession(headers=headers) as http, http.get(address) as response:
            devices = (await response.json())["devices"]

    assert said.startswith("booking ")
    assert [each["provider"] for each in devices] == ["driver_events"]


async def test_an_unknown_fault_is_wrong_usage(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "waybridge", "simulate", "linq", "--fault", "nonsense", cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()

    assert process.returncode == 2
    assert b"Traceback" not in err
