"""The straight way of plain fixes does what the long way does, whatever comes before and behind it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from intake.conftest import house_on

from waybridge import plain
from waybridge.bus import DeviceEvent, PositionEvent
from waybridge.model import Offline, Position, Report, SourceKey

if TYPE_CHECKING:
    from pathlib import Path

    from intake.conftest import House

DEVICES = ("a", "b", "c")
QUESTIONS = (
    (
        "SELECT s.external_id, p.recorded_us, p.flags, p.speed, t.started_us FROM positions p"
        " JOIN sources s ON s.id = p.source_id LEFT JOIN trips t ON t.id = p.trip_id ORDER BY 1, 2"
    ),
    (
        "SELECT s.external_id, l.milestone, l.recorded_us, l.sent_us, l.flags, t.started_us FROM last l"
        " JOIN sources s ON s.id = l.source_id LEFT JOIN trips t ON t.id = l.trip_id ORDER BY 1, 2"
    ),
    (
        "SELECT s.external_id, t.started_us, t.ended_us FROM trips t"
        " JOIN sources s ON s.id = t.source_id ORDER BY 1, 2, 3"
    ),
    "SELECT device_token, began_us, ended_us, stop_cause FROM sharing_periods ORDER BY 1, 2",
    "SELECT device_token, event_type, cause FROM outbox ORDER BY device_token, id",
)


def reports_of(house: House, chance: random.Random, seconds: dict[str, float]) -> list[Report]:
    """What devices send by chance: mostly newer fixes, some late, known, far apart, standing, or not fixes at all."""
    made: list[Report] = []
    for _ in range(chance.randint(1, 12)):
        token = chance.choice(DEVICES)
        if chance.random() < 0.03:
            made.append(Offline(source=SourceKey("native", token)))
            continue
        seconds[token] += chance.choice([1, 1, 1, 1, 1, 1, 5, 40, 90, 400, 0, -3, -200])
        fields: dict[str, Any] = {"speed_mps": chance.choice([5.0, 5.0, 5.0, 0.0, None])}
        if chance.random() < 0.1:
            fields["track_token"] = chance.choice(["out", "back"])
        if chance.random() < 0.05:
            fields["live"] = False
        if chance.random() < 0.05:
            fields["online"] = chance.choice([True, False])
        if chance.random() < 0.03:
            fields["history_only"] = True
        made.append(house.fix(token, seconds[token], **fields))
    return made


async def played(house: House, seed: int) -> list[Any]:
    """A fleet's way through intake: what each caller was told, what viewers heard, what is known and stored."""
    chance, seconds, policy = random.Random(seed), dict.fromkeys(DEVICES, 0.0), house.policy()
    told: list[Any] = []
    for _ in range(40):
        reports = reports_of(house, chance, seconds)
        house.now(max(seconds.values()) + chance.choice([0, 0, 0, -50, 20]))
        outcome = await house.intake.accept(policy, reports)
        told.append((outcome.accepted, outcome.duplicates, outcome.late, len(outcome.rejected)))
        if chance.random() < 0.2:
            await house.presence.turn()
    for token in DEVICES:
        told.append([_heard(event) for event in house.events if getattr(event, "device_token", None) == token])
        source = house.roster.source("default", "native", token)
        assert source is not None
        trip, period = source.trip, source.period
        told.append([
            source.last and (source.last.recorded_us, source.last.flags), source.milestone, source.highest_sent_us,
            source.fresh_since_us, source.vendor_online, source.device.online, source.device.online_since_us,
            trip and (trip.started_us, trip.ended_us, trip.still_since_us), period and period.began_us,
        ])  # fmt: skip
    async with house.store.read() as conn:
        for question in QUESTIONS:
            told.append([tuple(row) for row in await conn.exec_driver_sql(question)])
    return told


def _heard(event: Any) -> tuple[Any, ...]:
    match event:
        case PositionEvent():
            return "position", event.fix.sent_us, event.fix.flags, event.shown, event.visible
        case DeviceEvent():
            return event.kind, event.at_us
        case _:
            return ()


@pytest.mark.parametrize("seed", range(4))
async def test_the_straight_way_and_the_long_way_end_the_same(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    straight = await played(house, seed)
    monkeypatch.setattr(plain, "_quiet", lambda _source: False)
    async with house_on(f"sqlite+aiosqlite:///{tmp_path / 'long.db'}") as other:
        assert await played(other, seed) == straight


async def test_most_fixes_of_a_moving_device_take_the_straight_way(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Position] = []
    policy = house.policy()
    house.now(10)
    await house.intake.accept(policy, [house.fix("a", 0, speed_mps=5.0)])
    monkeypatch.setattr("waybridge.recording.Work.report", lambda *given: asked.append(given))
    outcome = await house.intake.accept(policy, [house.fix("a", second, speed_mps=5.0) for second in range(1, 9)])
    assert (outcome.accepted, asked) == (8, [])
