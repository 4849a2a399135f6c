"""Which source wins: the rules of ranking over random lives of three sources, and one link across three."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from waybridge import sources
from waybridge.bus import Fix
from waybridge.roster import Policy

if TYPE_CHECKING:
    from running import RunningGateway

HOLD_US = 30_000_000
LIMIT_US = 20_000_000
SECOND = 1_000_000
POLICY = Policy(instance_id="i", connection_id="c", provider="p")


@dataclass(frozen=True)
class Candidate:
    id: int
    rank: int
    last: Fix | None = None
    fresh_since_us: int | None = None
    vendor_online: bool | None = None
    visible: bool = True
    fallback_after_us: int | None = LIMIT_US
    policy: Policy = POLICY


def _heard(candidate: Candidate, now_us: int, age_us: int) -> Candidate:
    recorded = now_us - age_us
    if candidate.last is not None and recorded <= candidate.last.recorded_us:
        return candidate
    silent = candidate.last is None or recorded - candidate.last.recorded_us > LIMIT_US
    return replace(
        candidate,
        last=Fix(recorded, recorded, now_us, 1.0, 2.0),
        fresh_since_us=recorded if silent else candidate.fresh_since_us,
    )


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 5), st.booleans()), min_size=1, max_size=120
)


@given(STEPS)
def test_time_never_goes_back_and_nobody_flaps(steps: list[tuple[int, int, int, bool]]) -> None:
    """Each step: a source speaks (or the clock alone turns) after some seconds, with a fix some seconds old."""
    known = [Candidate(id=number + 1, rank=number) for number in range(3)]
    winner: int | None = None
    shown_us = 0
    now_us = 10_000 * SECOND
    for speaker, wait, age, speaks in steps:
        now_us += wait * SECOND
        if speaks:
            known[speaker] = _heard(known[speaker], now_us, age * SECOND)
        before = winner
        verdict = sources.decide(known, winner, HOLD_US, now_us)
        winner = verdict.winner_id
        current = next(each for each in known if each.id == winner)
        if current.last is not None:
            assert current.last.recorded_us >= shown_us
            shown_us = current.last.recorded_us
        if before is None or before == winner or current.last is None:
            continue
        left = next(each for each in known if each.id == before)
        assert sources.is_fresh(current, now_us)
        if sources.is_fresh(left, now_us):
            # A fresh source is left for a better one alone, and only after its hold.
            assert current.rank < left.rank
            assert current.fresh_since_us is not None
            assert now_us - current.fresh_since_us >= HOLD_US


@given(STEPS)
def test_a_fresh_source_is_shown_whenever_one_may_be(steps: list[tuple[int, int, int, bool]]) -> None:
    known = [Candidate(id=number + 1, rank=number) for number in range(3)]
    winner: int | None = None
    now_us = 10_000 * SECOND
    for speaker, wait, age, speaks in steps:
        now_us += wait * SECOND
        if speaks:
            known[speaker] = _heard(known[speaker], now_us, age * SECOND)
        winner = sources.decide(known, winner, HOLD_US, now_us).winner_id
        current = next(each for each in known if each.id == winner)
        if current.last is None or sources.is_fresh(current, now_us):
            continue
        newer = [each for each in known if sources.is_fresh(each, now_us) and each.last is not None]
        assert all(each.last.recorded_us <= current.last.recorded_us for each in newer)


async def _call(gateway: RunningGateway, method: str, path: str, body: Any = None) -> Any:
    async with gateway.http.request(method, f"{gateway.url}{path}", json=body, headers=gateway.headers()) as answer:
        text = await answer.text()
        assert answer.status < 300, (answer.status, text)
        return json.loads(text) if text else None


async def _speak(gateway: RunningGateway, token: str, latitude: float) -> None:
    body = {"device_token": token, "latitude": latitude, "longitude": 24.0, "timestamp": time.time()}
    await _call(gateway, "POST", "/ingest/native/positions", body)


async def test_one_link_follows_a_person_over_three_sources_on_one_socket(gateway: RunningGateway) -> None:
    """The van speaks, dies, the phone takes over, then the tablet; the van comes back and wins after its hold."""
    latitudes = {"van": 60.1, "phone": 60.2, "tablet": 60.3}
    for name, latitude in latitudes.items():
        await _speak(gateway, name, latitude)
    ranking = {
        "hold": 2,
        "sources": [
            {"connection_id": "native", "external_id": name, "fallback_after": 5} for name in latitudes
        ],
    }
    await _call(gateway, "PUT", "/api/v1/devices/van/sources?instance_id=default", ranking)
    session = await _call(
        gateway, "POST", "/api/v1/sharing/sessions",
        {"device_token": "van", "instance_id": "default", "share_config": {"update_interval_seconds": 1}},
    )  # fmt: skip
    speaking = {"van", "phone", "tablet"}
    stop = asyncio.Event()

    async def speak() -> None:
        while not stop.is_set():
            for name in sorted(speaking):
                await _speak(gateway, name, latitudes[name])
            await asyncio.sleep(0.25)

    talking = asyncio.create_task(speak())
    seen: list[tuple[float, int]] = []
    try:
        async with gateway.http.ws_connect(f"{gateway.url}/api/v1/share/{session['share_token']}/live") as ws:

            async def until(latitude: float) -> None:
                async with asyncio.timeout(60):
                    while not seen or seen[-1][0] != latitude:
                        frame = json.loads((await ws.receive()).data)
                        if frame["type"] == "position":
                            seen.append((frame["latitude"], frame["timestamp"]))

            await until(60.1)
            speaking.remove("van")
            await until(60.2)
            speaking.remove("phone")
            await until(60.3)
            speaking.add("van")
            back_at = time.monotonic()
            await until(60.1)
            assert time.monotonic() - back_at >= 2
            assert not ws.closed
    finally:
        stop.set()
        await talking
    times = [timestamp for _, timestamp in seen]
    assert times == sorted(times)
    told = await _call(gateway, "GET", "/api/v1/devices/van/sources?instance_id=default")
    assert told["winner"] == {"connection_id": "native", "external_id": "van"}
    assert [each["external_id"] for each in told["sources"]] == ["van", "phone", "tablet"]
    async with gateway.house.store.read() as conn:
        rows = await conn.exec_driver_sql("SELECT data FROM outbox WHERE event_type = 'source.changed' ORDER BY id")
        changes = [json.loads(row[0]) for row in rows]
    assert [(each["from"]["external_id"], each["to"]["external_id"]) for each in changes] == [
        ("van", "phone"),
        ("phone", "tablet"),
        ("tablet", "van"),
    ]
