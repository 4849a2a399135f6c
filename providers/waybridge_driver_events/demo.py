"""The demo's taxis: a supplier that plays two bookings through the vendor's own API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from waybridge import DemoSite
from waybridge_driver_events.simulator import Ride, Supplier, drivers

_TAXIS: Final = 2
_LAPS: Final = 8
_SPEED_KMH: Final = 28.0


class DriverEventsDemo:
    """Two taxis that fetch their passengers and then take the long way, so that a link lives as long as a demo."""

    def __init__(self) -> None:
        self.sources: Sequence[tuple[str, Mapping[str, Any] | None]] = ()

    async def start(self, site: DemoSite) -> Mapping[str, Any]:
        self._site = site
        self._rides = []
        for number in range(_TAXIS):
            street = list(site.routes[(number + 2) % len(site.routes)])
            there_and_back = [*street, *street[-2::-1]]
            tour = [*street, *(there_and_back[1:] * _LAPS)]
            self._rides.append(
                Ride(
                    customer=f"DEMO-{number + 1}",
                    reference=f"TAXI-{number + 1}",
                    route=tour,
                    driver=drivers()[number],
                    pickup_at=0.4 / (2 * _LAPS + 1),
                )
            )
        self.sources = [(f"{ride.customer}/{ride.reference}", None) for ride in self._rides]
        return {}

    async def drive(self) -> None:
        url = f"{self._site.gateway_url}/ingest/{self._site.connection_id}"
        async with Supplier(url, self._site.token) as supplier, asyncio.TaskGroup() as group:
            for ride in self._rides:
                await supplier.announce(ride)
                group.create_task(supplier.play(ride, every=5.0, speed_kmh=_SPEED_KMH))

    async def stop(self) -> None:
        """Nothing is left running."""
