"""The demo's native fleet: phones that post their positions each second."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp

from waybridge import DemoSite

_NAMES: Final = ("Aino Virtanen", "Mikko Laine", "Sofia Korhonen")
_METRES_PER_DEGREE: Final = 111_195.0


class NativeDemo:
    """Three phones on the demo's streets."""

    def __init__(self) -> None:
        self._tokens = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"waybridge demo {name}")) for name in _NAMES]
        self.sources: Sequence[tuple[str, Mapping[str, Any] | None]] = ()

    async def start(self, site: DemoSite) -> Mapping[str, Any]:
        self._site = site
        self._routes = [site.routes[number % len(site.routes)] for number in range(len(_NAMES))]
        ends = [{"longitude": route[-1][0], "latitude": route[-1][1], "label": "Delivery"} for route in self._routes]
        self.sources = list(zip(self._tokens, ends, strict=True))
        return {}

    async def drive(self) -> None:
        headers = {"Authorization": f"Bearer {self._site.token}"}
        began = time.monotonic()
        async with aiohttp.ClientSession(headers=headers) as http:
            for token, name in zip(self._tokens, _NAMES, strict=True):
                profile = f"{self._site.gateway_url}/api/v1/devices/{token}/metadata/profile?instance_id=default"
                async with http.put(profile, json={"full_name": name}):
                    pass
            while True:
                elapsed = time.monotonic() - began
                positions = [
                    {
                        "device_token": token,
                        "timestamp": round(time.time(), 3),
                        "accuracy": 5.0,
                        "battery": 0.8,
                        **along(route, elapsed * (7.0 + 2.0 * number), 7.0 + 2.0 * number),
                    }
                    for number, (token, route) in enumerate(zip(self._tokens, self._routes, strict=True))
                ]
                url = f"{self._site.gateway_url}/ingest/native/positions"
                async with http.post(url, json={"instance_id": "default", "positions": positions}):
                    pass
                await asyncio.sleep(1.0)

    async def stop(self) -> None:
        """Nothing is left running."""


def along(route: Sequence[Sequence[float]], metres: float, speed_mps: float) -> dict[str, float]:
    """Position, speed and heading so many metres along a route that is driven there and back."""
    legs = [_vector(a, b) for a, b in itertools.pairwise(route)]
    lengths = [math.hypot(*leg) for leg in legs]
    whole = sum(lengths)
    left = metres % (2 * whole)
    back = left > whole
    left = 2 * whole - left if back else left
    for (a, b), (east, north), length in zip(itertools.pairwise(route), legs, lengths, strict=True):
        if left <= length and length > 0:
            share = left / length
            heading = math.degrees(math.atan2(east, north)) % 360
            return {
                "longitude": round(a[0] + (b[0] - a[0]) * share, 7),
                "latitude": round(a[1] + (b[1] - a[1]) * share, 7),
                "speed": speed_mps,
                "heading": round((heading + 180) % 360 if back else heading, 1) % 360,
            }
        left -= length
    return {"longitude": route[-1][0], "latitude": route[-1][1], "speed": 0.0}


def _vector(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    east = (b[0] - a[0]) * _METRES_PER_DEGREE * math.cos(math.radians(a[1]))
    return east, (b[1] - a[1]) * _METRES_PER_DEGREE
