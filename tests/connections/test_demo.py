"""The demo as its user runs it: every provider comes in, every link works, and what one vendor does stays there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest
from processes import free_port

if TYPE_CHECKING:
    from pathlib import Path

PROVIDERS = {"native", "mycartracks", "imessage", "driver_events"}


@pytest.mark.timeout(180)
async def test_the_demo_prints_a_working_link_for_each_provider_and_their_devices_move(tmp_path: Path) -> None:
    port = free_port()
    environ = {key: value for key, value in os.environ.items() if not key.startswith("WAYBRIDGE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "waybridge", "demo", "--port", str(port), "--seconds", "150",
        cwd=tmp_path, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        said = await _first_lines(process)
        assert said["Tracker"][0].startswith(f"http://127.0.0.1:{port}/embed/tracker?instance_id=default")
        (token,) = said["Token"]
        kinds = {line.rpartition("(")[2].rstrip(")"): line.split()[0] for line in said["Share"]}
        assert set(kinds) == PROVIDERS
        async with aiohttp.ClientSession() as http:
            for kind, link in kinds.items():
                await asyncio.wait_for(_moves(http, link, kind), 60)
            async with http.get(
                f"http://127.0.0.1:{port}/api/v1/devices?instance_id=default",
                headers={"Authorization": f"Bearer {token}"},
            ) as answer:
                devices = (await answer.json())["devices"]
        assert {device["provider"] for device in devices} == PROVIDERS
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def _first_lines(process: asyncio.subprocess.Process) -> dict[str, list[str]]:
    said: dict[str, list[str]] = {"Tracker": [], "Token": [], "Share": []}
    assert process.stdout is not None
    deadline = time.monotonic() + 90
    while len(said["Share"]) < len(PROVIDERS):
        line = (await asyncio.wait_for(process.stdout.readline(), deadline - time.monotonic())).decode()
        label, _, rest = line.rstrip("\n").partition(" ")
        said[label].append(rest)
    return said


async def _moves(http: aiohttp.ClientSession, link: str, kind: str) -> None:
    """Two different places over the live socket, and the same driver by REST."""
    live = link.replace("http://", "ws://").replace("/share/", "/api/v1/share/") + "/live"
    places: set[tuple[float, float]] = set()
    async with http.ws_connect(live) as ws:
        async for message in ws:
            frame = json.loads(message.data)
            if frame["type"] == "position":
                places.add((frame["latitude"], frame["longitude"]))
            if len(places) == 2:
                break
    assert len(places) == 2, kind
    async with http.get(link.replace("/share/", "/api/v1/share/")) as answer:
        assert answer.status == 200
        assert (await answer.json())["driver"] is not None
