"""The demo's vans: a stand-in of the vendor with a fleet that drives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from waybridge import DemoSite
from waybridge_mycartracks.simulator import MyCarTracksSimulator

VANS = 2


class MyCarTracksDemo:
    """Two vans on the demo's streets."""

    def __init__(self) -> None:
        self._simulator = MyCarTracksSimulator()
        self.sources: Sequence[tuple[str, Mapping[str, Any] | None]] = ()

    async def start(self, site: DemoSite) -> Mapping[str, Any]:
        await self._simulator.start()
        ids = self._simulator.staff(VANS)
        self._paths = {number: site.routes[(index + 1) % len(site.routes)] for index, number in enumerate(ids)}
        self.sources = [
            (str(number), {"longitude": path[-1][0], "latitude": path[-1][1], "label": "Warehouse"})
            for number, path in self._paths.items()
        ]
        return {**self._simulator.settings(), "min_interval_seconds": 5}

    async def drive(self) -> None:
        await self._simulator.drive(self._paths, speed_kmh=36.0, every=5.0)

    async def stop(self) -> None:
        await self._simulator.stop()
