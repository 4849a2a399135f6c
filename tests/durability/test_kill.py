"""kill -9 during ingest: what was acknowledged is there."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest
from processes import GatewayProcess, free_port

from waybridge.store.engine import Store

if TYPE_CHECKING:
    from pathlib import Path

WRITERS = 8


class Writer:
    """Posts positions with times of their own, and remembers which were acknowledged."""

    def __init__(self, number: int, start_us: int) -> None:
        self.device = f"bus-{number}"
        self.next_us = start_us
        self.acknowledged: list[int] = []
        self.in_flight: list[int] = []
        self.lost_in_flight = 0

    async def write(self, process: GatewayProcess, headers: dict[str, str], first_ack: asyncio.Event) -> None:
        self.in_flight = []
        async with aiohttp.ClientSession(headers=headers) as http:
            while True:
                count = random.choice((1, 1, 20))
                self.in_flight = [self.next_us + step * 1_000 for step in range(count)]
                self.next_us += count * 1_000
                body = {
                    "positions": [
                        {"device_token": self.device, "latitude": 60.0, "longitude": 24.0, "timestamp": us / 1e6}
                        for us in self.in_flight
                    ]
                }
                try:
                    async with http.post(f"{process.url}/ingest/native/positions", json=body) as response:
                        answer = await response.json()
                        assert response.status == 200, answer
                        assert answer["accepted"] == count, answer
                except (aiohttp.ClientError, ConnectionError):
                    self.lost_in_flight += len(self.in_flight)
                    return
                self.acknowledged += self.in_flight
                first_ack.set()


async def _stored(database_url: str) -> set[tuple[str, int]]:
    store = Store(database_url)
    await store.start()
    async with store.read() as conn:
        rows = await conn.exec_driver_sql(
            "SELECT s.external_id, p.recorded_us FROM positions p JOIN sources s ON s.id = p.source_id"
        )
        found = {(row[0], row[1]) for row in rows}
    await store.close()
    return found


async def _kill_again_and_again(database_url: str, folder: Path, times: int) -> None:
    # Times behind the clock by an hour and in steps of a millisecond: unique, and never in the future.
    start_us = (time.time_ns() // 1_000_000 - 3_600_000) * 1_000
    writers = [Writer(number, start_us) for number in range(WRITERS)]
    process = GatewayProcess(folder, free_port(), {"WAYBRIDGE_DATABASE_URL": database_url})
    headers = {"Authorization": f"Bearer {process.token('ingest')}"}
    kills = 0
    for _ in range(times):
        await process.start()
        first_ack = asyncio.Event()
        tasks = [asyncio.create_task(writer.write(process, headers, first_ack)) for writer in writers]
        await first_ack.wait()
        await asyncio.sleep(random.uniform(0.02, 0.3))
        await process.kill()
        kills += 1
        for task in tasks:
            await task
        if kills % 50 == 0:
            await _report(database_url, writers, kills)
    await _report(database_url, writers, kills)


async def _report(database_url: str, writers: list[Writer], kills: int) -> None:
    """Says what was counted so far, and fails when anything acknowledged is missing."""
    stored = await _stored(database_url)
    acknowledged = {(writer.device, us) for writer in writers for us in writer.acknowledged}
    in_flight = sum(writer.lost_in_flight for writer in writers)
    print(
        f"\n{database_url.partition(':')[0]}: {kills} kills, {in_flight} positions in flight at a kill, "
        f"{len(acknowledged)} acknowledged, {len(acknowledged & stored)} of them found, {len(stored)} stored",
        flush=True,
    )
    assert in_flight > 0
    assert acknowledged - stored == set()


@pytest.mark.timeout(600)
async def test_every_acknowledged_position_survives_kill_9(database_url: str, tmp_path: Path) -> None:
    await _kill_again_and_again(database_url, tmp_path, 20)


@pytest.mark.soak
@pytest.mark.timeout(7200)
async def test_every_acknowledged_position_survives_500_kills(database_url: str, tmp_path: Path) -> None:
    await _kill_again_and_again(database_url, tmp_path, 500)
