"""What the clock alone decides, however often it has looked at a device before."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import House
    from running import RunningGateway

TOKEN = "bus-14"


async def test_a_device_goes_offline_in_time_each_time(house: House) -> None:
    policy = house.policy()
    for seconds in (0, 100, 200):
        house.now(seconds)
        await house.intake.accept(policy, [house.fix(TOKEN, seconds)])
        device = house.roster.device("default", TOKEN)
        assert device.online
        house.now(seconds + 59)
        await house.presence.turn()
        assert device.online
        house.now(seconds + 61)
        await house.presence.turn()
        assert not device.online
    told = [kind for kind, _ in await house.outbox() if kind.startswith("device.")]
    assert told == ["device.online", "device.offline"] * 3


async def test_a_fallback_that_stays_silent_wins_when_the_better_source_falls_silent(house: House) -> None:
    policy, slow = house.policy(), house.policy("slow", stale_after_us=600_000_000)
    await house.intake.accept(policy, [house.fix(TOKEN, 0)])
    device = house.roster.device("default", TOKEN)
    await house.attaching.attach(
        "default", TOKEN, hold=30, ranked=[("native", TOKEN, 10.0), ("slow", "handle", 600.0)]
    )
    await house.intake.accept(policy, [house.fix(TOKEN, 0)])
    house.now(5)
    await house.intake.accept(slow, [house.fix("handle", 5, "slow")])
    assert device.winner.connection_id == "native"
    house.now(11)
    await house.presence.turn()
    assert device.winner.connection_id == "slow"
    assert [data["to"]["connection_id"] for kind, data in await house.outbox() if kind == "source.changed"] == ["slow"]


async def test_a_fallback_with_an_older_fix_leaves_the_clock_nothing_to_do(house: House) -> None:
    policy, slow = house.policy(), house.policy("slow", stale_after_us=600_000_000)
    house.now(5)
    await house.intake.accept(slow, [house.fix("handle", 0, "slow")])
    await house.intake.accept(policy, [house.fix(TOKEN, 5)])
    await house.attaching.attach(
        "default", TOKEN, hold=30, ranked=[("native", TOKEN, 10.0), ("slow", "handle", 600.0)]
    )
    device = house.roster.device("default", TOKEN)
    for seconds in (100, 400):
        house.now(seconds)
        await house.presence.turn()
        await house.presence.turn()
    assert device.winner.connection_id == "native"
    assert house.presence._due_us(device) is None


async def test_ranking_sources_decides_at_once_who_wins(gateway: RunningGateway) -> None:
    now = time.time()

    async def call(method: str, path: str, body: Any = None) -> Any:
        headers = {**gateway.headers(), "Content-Type": "application/json"}
        async with gateway.http.request(method, gateway.url + path, data=json.dumps(body), headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    for token, age in (("old", 107), ("new", 3)):
        await call("POST", "/ingest/native/positions", {
            "device_token": token, "latitude": 1, "longitude": 2, "timestamp": now - age,
        })  # fmt: skip
    ranked = [{"connection_id": "native", "external_id": token, "fallback_after": 600} for token in ("old", "new")]
    ranked[0]["fallback_after"] = 60
    said = await call("PUT", "/api/v1/devices/old/sources?instance_id=default", {"sources": ranked})
    assert said["winner"] == {"connection_id": "native", "external_id": "new"}
    shown = await call("GET", "/api/v1/devices/old/position?instance_id=default")
    assert shown["timestamp"] == int(now - 3)
