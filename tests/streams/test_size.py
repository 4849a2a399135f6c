"""Live streams at size: a gateway process, viewers in processes of their own, a tenth of them not reading."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from processes import GatewayProcess, free_port, gateway_process
from running import soak

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VIEWERS, DEVICES, ROUNDS = soak(60, 1000), soak(20, 100), soak(25, 300)
DEAF = VIEWERS // 10
CROWDS = soak(1, 2)
EVERY = 0.2
SLOW_SECONDS = 2.0
PATIENCE = soak(120, 1800)
GROWTH = 32 * 1024 * 1024
CUT = "waybridge_live_cut_total"
CROWD = Path(__file__).with_name("crowd.py")


class Crowds:
    """The processes with the viewers."""

    def __init__(self, processes: list[asyncio.subprocess.Process]) -> None:
        self._processes = processes

    async def order(self, *orders: dict[str, Any]) -> list[dict[str, Any]]:
        """Gives each its order (or all the same one); their answers."""
        for process, order in zip(self._processes, orders * (len(self._processes) // len(orders)), strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            return [await self._answer(process) for process in self._processes]

    @staticmethod
    async def _answer(process: asyncio.subprocess.Process) -> dict[str, Any]:
        assert process.stdout is not None
        line = await process.stdout.readline()
        assert line, "a crowd's process has failed; its words are above"
        found: dict[str, Any] = json.loads(line)
        return found


@asynccontextmanager
async def crowds() -> AsyncIterator[Crowds]:
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, str(CROWD)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=10_000_000,
            preexec_fn=_many_files,
        )
        for _ in range(CROWDS)
    ]
    try:
        yield Crowds(processes)
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


def _many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Gauges:
    """The gateway's own figures."""

    def __init__(self, gateway: GatewayProcess, http: aiohttp.ClientSession, port: int) -> None:
        self._gateway = gateway
        self._http = http
        self._port = port

    async def cut(self, kind: str) -> int:
        """How many viewers were cut because they did not read."""
        async with self._http.get(f"http://127.0.0.1:{self._port}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(f'{CUT}{{kind="{kind}"}}'))

    def memory(self) -> int:
        """Resident bytes."""
        assert self._gateway._process is not None
        statm = Path(f"/proc/{self._gateway._process.pid}/statm").read_text()
        return int(statm.split()[1]) * resource.getpagesize()


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[GatewayProcess, aiohttp.ClientSession, Gauges]]:
    metrics = free_port()
    environ = {
        "WAYBRIDGE_METRICS_LISTEN": f"127.0.0.1:{metrics}",
        "WAYBRIDGE_LIMITS__SLOW_READER_SECONDS": str(SLOW_SECONDS),
        "WAYBRIDGE_LIMITS__SOCKETS_PER_TOKEN": "100000",
        "WAYBRIDGE_LIMITS__SOCKETS_PER_ADDRESS": "100000",
    }
    async with gateway_process(folder, **environ) as gateway:
        headers = {"Authorization": f"Bearer {gateway.token()}"}
        async with aiohttp.ClientSession(gateway.url, headers=headers) as http:
            yield gateway, http, Gauges(gateway, http, metrics)


async def send(http: aiohttp.ClientSession, number: int) -> None:
    """A round: every device once, its latitude a tenth of the round's number."""
    now = time.time()
    body = {
        "positions": [
            {"device_token": f"d{device:03d}", "latitude": number / 10, "longitude": 10.0, "timestamp": now}
            for device in range(DEVICES)
        ]
    }
    async with http.post("/ingest/native/positions", json=body) as answer:
        told = await answer.json()
        assert told["accepted"] == DEVICES, told


async def paths(http: aiohttp.ClientSession, kind: str) -> list[str]:
    if kind == "realtime":
        return ["/api/v1/ws/realtime"] * VIEWERS
    found = []
    wanted = {"instance_id": "default", "min_interval_seconds": 1}
    for _ in range(VIEWERS):
        async with http.post("/api/v1/streams", json=wanted) as answer:
            found.append("/" + (await answer.json())["websocket_url"].split("/", 3)[3])
    return found


def shared_out(found: list[str], **order: Any) -> list[dict[str, Any]]:
    return [order | {"paths": found[number::CROWDS], "deaf": DEAF // CROWDS} for number in range(CROWDS)]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["realtime", "stream"])
async def test_the_others_get_everything_in_order_and_those_who_do_not_read_are_told(kind: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as (gateway, http, gauges), crowds() as crowd:
        await send(http, 0)
        orders = shared_out(await paths(http, kind), port=gateway.port, kind=kind, devices=DEVICES, jwt=gateway.token())
        assert sum(answer["open"] for answer in await crowd.order(*orders)) == VIEWERS
        began, settled, number = time.monotonic(), 0, 0
        while number < ROUNDS - 1 or await gauges.cut(kind) < DEAF:
            number += 1
            await asyncio.sleep(max(0.0, began + (number - 1) * EVERY - time.monotonic()))
            await send(http, number)
            if kind == "realtime":  # the next round waits for the slowest reader: then nothing may be missing at all
                await crowd.order({"until": number})
            if number == ROUNDS // 3:
                settled = gauges.memory()
        took = time.monotonic() - began
        await crowd.order({"until": number})
        grown = gauges.memory() - settled
        answers = await crowd.order({"end": True})
        readers = [each for answer in answers for each in answer["readers"]]
        deaf = [each for answer in answers for each in answer["deaf"]]
        report(kind, readers, deaf, number, took, grown)
        assert (len(readers), len(deaf)) == (VIEWERS - DEAF, DEAF)
        assert {(each["disorder"], each["gaps"], each["oldest"]) for each in readers} == {(0, 0, number)}
        if kind == "realtime":
            assert {(each["missing"], each["frames"]) for each in readers} == {(0, (number + 1) * DEVICES)}
        assert {each["code"] for each in readers} == {None}
        assert {(each["disorder"], each["gaps"]) for each in deaf} == {(0, 0)}
        assert {each["code"] for each in deaf} == {4008}
        assert grown < GROWTH, "memory stays flat"


def report(
    kind: str, readers: list[dict[str, Any]], deaf: list[dict[str, Any]], rounds: int, took: float, grown: int
) -> None:
    frames = sum(each["frames"] for each in readers)
    sys.stderr.write(
        f"\n{kind}: {len(readers)} of {VIEWERS} viewers read, {DEVICES} devices, {rounds} rounds in {took:.1f} s"
        f" ({rounds / took:.2f} positions a second and device, {frames / took:,.0f} frames/s, {frames:,} in all):"
        f" out of order {sum(each['disorder'] for each in readers)}, gaps {sum(each['gaps'] for each in readers)},"
        f" rounds left out {sum(each['missing'] for each in readers):,},"
        f" told as dropped {sum(each['dropped'] for each in readers):,}; {len(deaf)} did not read:"
        f" {sum(each['code'] == 4008 for each in deaf)} closed with 4008,"
        f" at most {max(each['frames'] for each in deaf)} frames each; memory {grown / 1e6:+.1f} MB;"
        f" load {os.getloadavg()[0]:.0f}\n"
    )
