"""Intake on a real database, with a clock that the test owns."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from waybridge.attaching import Attaching
from waybridge.bus import Event, MemoryBus
from waybridge.intake import Intake
from waybridge.model import Position, SourceKey, to_us
from waybridge.presence import Presence
from waybridge.roster import Policy, Roster
from waybridge.store.engine import Store
from waybridge.store.migrate import migrate
from waybridge.trips import TripRules
from waybridge.vault import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START = datetime(2026, 4, 12, 12, 0, tzinfo=UTC)


class NoShares:
    """Share sessions that are none; remembers what intake asked of them."""

    def __init__(self) -> None:
        self.completed: list[str] = []

    async def complete_for_device(self, tx: Any, device_id: int, device_token: str, instance_id: str) -> None:
        del tx, device_id, instance_id
        self.completed.append(device_token)

    async def expire_due(self, tx: Any) -> None:
        del tx


@dataclass
class House:
    store: Store
    roster: Roster
    bus: MemoryBus
    intake: Intake
    presence: Presence
    attaching: Attaching
    shares: NoShares
    clock: dict[str, int]
    events: list[Event] = field(default_factory=list)

    def policy(self, connection_id: str = "native", **changes: Any) -> Policy:
        known = self.roster.policy("default", connection_id)
        if known is None:
            provider = "native" if connection_id == "native" else "test"
            known = Policy(instance_id="default", connection_id=connection_id, provider=provider, **changes)
            self.roster.set_policy(known)
        return known

    def at(self, seconds: float) -> datetime:
        return START + timedelta(seconds=seconds)

    def now(self, seconds: float) -> None:
        self.clock["us"] = to_us(START) + int(seconds * 1e6)

    def fix(self, external_id: str, seconds: float, connection_id: str = "native", **fields: Any) -> Position:
        base = {"latitude": 60.17, "longitude": 24.94 + seconds * 1e-4}
        return Position(
            source=SourceKey(connection_id, external_id), recorded_at=self.at(seconds), **{**base, **fields}
        )

    async def outbox(self) -> list[tuple[str, dict[str, Any]]]:
        async with self.store.read() as conn:
            rows = await conn.exec_driver_sql("SELECT event_type, data FROM outbox ORDER BY id")
            return [(row[0], json.loads(row[1])) for row in rows]

    async def count(self, table: str) -> int:
        async with self.store.read() as conn:
            return int((await conn.exec_driver_sql(f"SELECT count(*) FROM {table}")).scalar_one())


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    async with house_on(database_url) as made:
        yield made


@contextlib.asynccontextmanager
async def house_on(database_url: str) -> AsyncIterator[House]:
    """A house on a new database."""
    clock = {"us": to_us(START)}
    bus = MemoryBus()
    store = Store(database_url, publish=bus.publish, now_us=lambda: clock["us"])
    await store.start()
    await migrate(store)
    roster, shares, rules = Roster(), NoShares(), TripRules()

    def default_policy(instance_id: str, connection_id: str, provider: str) -> Policy:
        return Policy(instance_id=instance_id, connection_id=connection_id, provider=provider)

    intake = Intake(
        store, roster, Vault([b"k" * 32]), rules=rules, shares=shares, default_policy=default_policy
    )
    presence = Presence(
        store, roster, bus, rules=rules, shares=shares, default_policy=default_policy, exclusive=True
    )
    attaching = Attaching(store, roster, default_policy)
    made = House(store, roster, bus, intake, presence, attaching, shares, clock)
    bus.attach(made.events.extend)
    bus.attach(presence._on_events)
    try:
        yield made
    finally:
        await intake.close()
        await store.close()
