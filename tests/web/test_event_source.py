"""A browser's own EventSource on a stream session: it comes back by itself, with the number that it saw last."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest
from running import soak

from .kit import INSTANCE, Gateway, Watch, Wire, until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

DROPS = soak(2, 50)  # a browser waits three seconds each time
FOLLOW = """(url) => {
  window.seen = {newest: {}, received: 0, dropped: 0, last: 0, gaps: 0, resumed: []};
  const events = new EventSource(url);
  events.onmessage = ({data, lastEventId}) => {
    const event = JSON.parse(data), seen = window.seen;
    if (event.seq !== seen.last + 1 + (event.dropped || 0) || lastEventId !== String(event.seq)) seen.gaps += 1;
    seen.last = event.seq;
    seen.received += 1;
    seen.dropped += event.dropped || 0;
    if (event.type === "connected") seen.resumed.push(event.resumed);
    if (event.type === "device.position.updated") seen.newest[event.device_token] = event.latitude;
  };
}"""


@pytest.mark.timeout(3600)
async def test_a_browsers_event_source_comes_back_to_where_it_was(gateway: Gateway, watch: Watch) -> None:
    wire = Wire(int(urlsplit(gateway.url).port or 0))
    await wire.mend()
    body = {"instance_id": INSTANCE, "min_interval_seconds": 1}
    stream = await gateway.call("POST", "/api/v1/streams", body)
    through = f"http://127.0.0.1:{wire.port}"
    await watch.page.goto(f"{through}/health")
    await watch.page.evaluate(FOLLOW, through + urlsplit(stream["sse_url"]).path)

    async def seen() -> dict[str, Any]:
        found: dict[str, Any] = await watch.page.evaluate("window.seen")
        return found

    async def connected(times: int) -> bool:
        return len((await seen())["resumed"]) == times

    async def knows(newest: dict[str, float]) -> bool:
        return bool((await seen())["newest"] == newest)

    async with asyncio.timeout(1800):
        await gateway.push("bike", 0.5, 10.0)
        for drop in range(DROPS + 1):
            if drop:
                await wire.cut()
                await wire.mend()
            newest = {"van": float(drop), "bike": 0.5}
            await gateway.push("van", float(drop), 10.0)  # while the browser is away
            await until(lambda drop=drop: connected(drop + 1), seconds=120)
            await until(lambda newest=newest: knows(newest), seconds=120)
    found = await seen()
    assert found["gaps"] == 0
    assert found["received"] + found["dropped"] == found["last"]
    assert found["resumed"] == [False] + [True] * DROPS
    assert watch.errors == []
    await wire.cut()
