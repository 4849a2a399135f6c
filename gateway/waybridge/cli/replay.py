"""`waybridge replay`: a track file through the native ingest."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from waybridge import trackfiles
from waybridge.errors import ConfigurationError

BATCH = 500
TICK_SECONDS = 1.0
TRIES = 8


async def replay(
    file: Path,
    *,
    speed: float,
    live: bool,
    url: str,
    token: str,
    instance: str,
    columns: str | None,
    device: str | None,
) -> int:
    """Sends every fix of a file, at its pace; prints what became of them. Returns the exit code."""
    fixes = trackfiles.read(file, columns=columns, device=device)
    first = fixes[0]["timestamp"]
    began = time.time()
    if live:
        pace = speed or 1.0
        for fix in fixes:
            fix["timestamp"] = began + (fix["timestamp"] - first) / pace
    totals = {"accepted": 0, "duplicates": 0, "rejected": 0}
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=False
    )
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
        with bar:
            task = bar.add_task(file.name, total=len(fixes))
            sent = 0
            while sent < len(fixes):
                due = _due(fixes, sent, began, first, speed, live=live)
                if due == sent:
                    await asyncio.sleep(TICK_SECONDS / 5)
                    continue
                batch = fixes[sent : min(due, sent + BATCH)]
                await _send(http, f"{url.rstrip('/')}/ingest/native/positions", instance, batch, totals)
                sent += len(batch)
                bar.update(task, completed=sent)
    print(  # noqa: T201 - the command's result
        f"{len(fixes)} fixes of {len({fix['device_token'] for fix in fixes})} devices: "
        f"{totals['accepted']} accepted, {totals['duplicates']} known already, {totals['rejected']} rejected"
    )
    return 1 if totals["rejected"] else 0


def _due(fixes: list[dict[str, Any]], sent: int, began: float, first: float, speed: float, *, live: bool) -> int:
    """How many fixes should have been sent by now."""
    if speed == 0:
        return len(fixes)
    now = time.time()
    reached = now if live else first + (now - began) * speed
    while sent < len(fixes) and fixes[sent]["timestamp"] <= reached:
        sent += 1
    return sent


async def _send(
    http: aiohttp.ClientSession, url: str, instance: str, batch: list[dict[str, Any]], totals: dict[str, int]
) -> None:
    for attempt in range(TRIES):
        try:
            async with http.post(url, json={"instance_id": instance, "positions": batch}) as response:
                if response.status in (429, 503) and attempt < TRIES - 1:
                    await asyncio.sleep(min(float(response.headers.get("Retry-After", 1)), 10.0))
                    continue
                answer = await response.json(content_type=None)
        except aiohttp.ClientError as error:
            raise ConfigurationError(f"the gateway at {url} does not answer: {error}") from error
        if "accepted" not in answer:
            raise ConfigurationError(f"the gateway refused the fixes: {answer.get('detail', response.status)}")
        totals["accepted"] += answer["accepted"]
        totals["duplicates"] += answer["duplicates"]
        totals["rejected"] += len(answer["rejected"])
        return
    raise ConfigurationError("the gateway stays too busy")
