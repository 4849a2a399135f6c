"""Webhooks and reads in any order: what the gateway is told never breaks a person's word."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from imessage_harness import Conflict, Gateway, OwnClock, soak
from test_imessage_webhook import SECRET, encoded, event, push, signed

from waybridge import Position, SharingStarted, SharingStopped
from waybridge_imessage.wire import parse_reading

ANNA, CHAT = "+14155550101", "550e8400-e29b-41d4-a716-446655440000"

steps = st.lists(
    st.one_of(
        st.tuples(st.just("started"), st.integers(0, 5)),
        st.tuples(st.just("stopped"), st.integers(0, 5)),
        st.tuples(st.just("read"), st.integers(0, 3)),
        st.tuples(st.just("answer"), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([1, 30, 90, 700])),
    ),
    max_size=30,
)


class World:
    """One person, a gateway, and reads that are answered whenever the test likes."""

    def __init__(self) -> None:
        self.clock = OwnClock()
        self.door = Gateway(None, self.clock)  # type: ignore[arg-type]
        self.door.connect(api_key="k", webhook_signing_secret=SECRET, lapse_after=1000)
        self.began: dict[int, str] = {}
        self.reading: list[Any] = []
        self.count = 0

    async def play(self, what: str, value: Any) -> None:
        match what:
            case "started" | "stopped":
                await self._hear(what, value)
            case "read":
                self.reading.append(self.clock.now())
            case "answer":
                await self._answer(present=value)
            case _:
                self.clock.advance(value)
        self.clock.advance(0.5)

    async def _hear(self, kind: str, key: int) -> None:
        self.count += 1
        began = self.began.setdefault(key, self.clock.now().isoformat())
        told = event(
            kind,
            event_id=f"evt_{self.count}",
            began_at=began,
            **({} if kind == "started" else {"ended_at": self.clock.now().isoformat()}),
        )
        told["created_at"] = self.clock.now().isoformat()
        body = encoded(told)
        headers = signed(body, message=f"m{self.count}", seconds=int(self.clock.elapsed))
        request = replace(push(body, headers), received_at=self.clock.now())
        assert (await self.door.push(request))[0] == 200

    async def _answer(self, *, present: bool) -> None:
        """The oldest read under way ends: its answer was made when it was asked."""
        if not self.reading:
            return
        read_at = self.reading.pop(0)
        feature = {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [24.9, 60.1]},
            "properties": {"handle": ANNA, "updated_at": read_at.isoformat()},
        }
        body = json.dumps({"type": "FeatureCollection", "features": [feature] if present else []}).encode()
        task: asyncio.Task[Any] = asyncio.create_task(asyncio.sleep(0, parse_reading(body, self.clock.now())))
        await task
        poller = self.door.shown._poller
        await poller._load()
        async for batch in poller._digest(CHAT, read_at, task):
            try:
                await self.door.state.commit(batch.intents)
            except Conflict:
                continue
            for report in batch.reports:
                if isinstance(report, Position):
                    self._may_be_published(read_at)
                self.door.reports.append(report)

    def _may_be_published(self, read_at: Any) -> None:
        told = [r for r in self.door.reports if isinstance(r, (SharingStarted, SharingStopped))]
        assert told, "a position of somebody who never shared"
        assert isinstance(told[-1], SharingStarted), "a position after the end"
        ends = [r.ended_at for r in told if isinstance(r, SharingStopped)]
        assert not ends or read_at > ends[-1], "a position that was asked for before the end"

    def check(self) -> None:
        told = [r for r in self.door.reports if isinstance(r, (SharingStarted, SharingStopped))]
        kinds = [type(report) for report in told]
        assert kinds == [SharingStarted if n % 2 == 0 else SharingStopped for n in range(len(kinds))]
        times = [r.began_at if isinstance(r, SharingStarted) else r.ended_at for r in told]
        for earlier, later in zip(times[1::2], times[2::2], strict=False):
            assert later > earlier, "what begins next begins after the end"


@settings(max_examples=soak(150, 20_000), deadline=None)
@given(steps)
def test_nothing_is_published_after_a_stop_and_starts_and_stops_alternate(script: list[tuple[str, Any]]) -> None:
    async def run() -> None:
        world = World()
        for what, value in script:
            await world.play(what, value)
        world.check()

    asyncio.run(run())


def test_the_world_of_this_test_can_publish_at_all() -> None:
    async def run() -> int:
        world = World()
        for what, value in [("started", 0), ("read", 0), ("answer", True)]:
            await world.play(what, value)
        return len(world.door.positions)

    assert asyncio.run(run()) == 1
