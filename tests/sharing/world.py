"""A gateway's sharing part alone: a store on each database, a roster with a device, a clock that tests own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from waybridge.bus import Event, Fix
from waybridge.eta import Arrivals
from waybridge.roster import Device, Period, Policy, Roster, Source, Trip
from waybridge.settings_tables import LimitSettings, SharingSettings
from waybridge.sharing import Recipients, Sharing
from waybridge.store.engine import Store
from waybridge.store.fleet import make_device
from waybridge.store.migrate import migrate
from waybridge.store.tables import outbox
from waybridge.vault import Vault

if TYPE_CHECKING:

    from waybridge.store.engine import Tx

START_US = 1_776_000_000_000_000
INSTANCE = "acme"
TOKEN = "1e653223-8efe-4904-baaa-23f0972924e0"


@dataclass
class Clock:
    now_us: int = START_US

    def __call__(self) -> int:
        return self.now_us

    def forward(self, seconds: float) -> None:
        self.now_us += round(seconds * 1e6)


@dataclass
class World:
    store: Store
    roster: Roster
    sharing: Sharing
    recipients: Recipients
    clock: Clock
    events: list[Event] = field(default_factory=list)

    async def know(self, token: str = TOKEN, instance_id: str = INSTANCE, consent: str = "none") -> Device:
        """A device with one source, in the database and in the roster."""

        async def unit(tx: Tx) -> int:
            return (await make_device(tx, instance_id, token))[0]

        device = Device(await self.store.write(unit), instance_id, token)
        policy = Policy(instance_id=instance_id, connection_id="native", provider="native", consent=consent)  # type: ignore[arg-type]
        self.roster.add_device(device)
        self.roster.set_policy(policy)
        self.roster.add_source(Source(device.id, "native", token, device, policy))
        return device

    def fix(self, device: Device, *, age: float = 0, trip: Trip | None = None, **changes: Any) -> Fix:
        """Gives the device a live position."""
        source = device.sources[0]
        recorded = self.clock.now_us - round(age * 1e6)
        values = {"latitude": 51.5074, "longitude": -0.1278, "speed": 12.5, "heading": 245.0} | changes
        source.last = Fix(recorded, recorded, recorded, trip_id=trip.id if trip else None, **values)
        source.trip = trip or source.trip
        device.winner = source
        return source.last

    def share(self, device: Device) -> None:
        """Opens the source's sharing period."""
        device.sources[0].period = Period(1, "s", self.clock.now_us, None, "consent", None, None, None)

    def withdraw(self, device: Device) -> None:
        source = device.sources[0]
        source.period, source.last_ended_us = None, self.clock.now_us

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        """What integrators are told, in order: (event type, data)."""
        async with self.store.read() as conn:
            rows = await conn.execute(select(outbox.c.event_type, outbox.c.data).order_by(outbox.c.id))
            return [(row.event_type, json.loads(row.data)) for row in rows]


def sharing_of(store: Store, roster: Roster, **settings: Any) -> Sharing:
    return Sharing(
        store=store,
        roster=roster,
        vault=Vault([b"k" * 32]),
        limits=LimitSettings(),
        settings=SharingSettings(**settings),
        base_url=lambda: "https://your-api.com",
        share_base_url=lambda: "https://your-frontend.com",
    )


def recipients_of(store: Store, roster: Roster) -> Recipients:
    return Recipients(
        store=store,
        roster=roster,
        arrivals=Arrivals(),
        brand=lambda _instance: {"name": "Waybridge", "color": "#1a5cff"},
    )


async def make_world(database_url: str) -> World:
    clock, events = Clock(), []
    store = Store(database_url, now_us=clock, publish=events.extend)
    await store.start()
    await migrate(store)
    roster = Roster()
    return World(store, roster, sharing_of(store, roster), recipients_of(store, roster), clock, events)
