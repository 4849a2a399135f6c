"""A supplier's client: plays bookings against a gateway over real HTTP, in the vendor's words, with faults.

    async with Supplier("http://127.0.0.1:8080/ingest/taxi", token) as supplier:
        ride = Ride("C-1", "B-1", route=[(-2.24, 53.48), (-2.26, 53.47), (-2.23, 53.46)])
        await supplier.announce(ride)
        await supplier.play(ride, every=5.0)

Shares no code with the provider. `supplier.sent` counts requests by event type, `supplier.answers` by status and
result.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

if TYPE_CHECKING:
    from types import TracebackType

DEPARTED: Final = "DRIVER_DEPARTED_TO_PICKUP"
ARRIVED: Final = "DRIVER_ARRIVED_AT_PICKUP"
NO_SHOW: Final = "DRIVER_SUBMITTED_CUSTOMER_NO_SHOW"
ON_TRIP: Final = "DRIVER_DEPARTED_TO_DROPOFF"
DONE: Final = "DRIVER_ARRIVED_AT_DROPOFF"
LIVE: Final = "DRIVER_LIVE_LOCATION"
_EARTH_M: Final = 6_371_000.0
_DRIVERS: Final = (("Ann", "Lee"), ("Omar", "Haddad"), ("Grace", "Okoye"), ("Piotr", "Nowak"), ("Mei", "Chen"))
_TIMEOUT: Final = aiohttp.ClientTimeout(total=15)

Route = Sequence[Sequence[float]]


@dataclass(slots=True)
class Faults:
    """What goes wrong on the way, each a share of the events (0 to 1) unless it says otherwise.

    duplicates: sent twice. lost_answers: the answer never reaches the client, which sends again.
    disorder: a live location is held back and sent after the next one. drops: a live location is never sent.
    skew_seconds: the phone's clock is ahead by so much. naive: times without a zone.
    offline_every, offline_seconds: for so long, every so often, live locations are buffered and sent at once.
    """

    duplicates: float = 0.0
    lost_answers: float = 0.0
    disorder: float = 0.0
    drops: float = 0.0
    skew_seconds: float = 0.0
    naive: bool = False
    offline_every: float = 0.0
    offline_seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class Ride:
    """A booking to play. `route` are [lon, lat] points; the pickup lies at `pickup_at` of its length (0 to 1)."""

    customer: str
    reference: str
    route: Route
    driver: tuple[str, str] = _DRIVERS[0]
    pickup_at: float = 0.3
    no_show: bool = False
    lengths: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.route) < 2:
            raise ValueError("a route has two points or more")
        self.lengths = [0.0]
        for start, end in zip(self.route, self.route[1:], strict=False):
            self.lengths.append(self.lengths[-1] + _distance(start, end))

    @property
    def length(self) -> float:
        """Metres."""
        return self.lengths[-1]

    def at(self, metres: float) -> tuple[float, float]:
        """(latitude, longitude) after so many metres."""
        metres = min(max(metres, 0.0), self.length)
        leg = next((n for n in range(1, len(self.lengths)) if self.lengths[n] >= metres), len(self.lengths) - 1)
        span = self.lengths[leg] - self.lengths[leg - 1]
        share = (metres - self.lengths[leg - 1]) / span if span else 0.0
        (lon_a, lat_a), (lon_b, lat_b) = self.route[leg - 1][:2], self.route[leg][:2]
        return lat_a + (lat_b - lat_a) * share, lon_a + (lon_b - lon_a) * share


class Supplier:
    """A client of the dialect. `clock` and `sleep` may be the test's own; `dice` makes the faults repeatable."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        faults: Faults | None = None,
        bearer: bool = True,
        dice: random.Random | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Any] = asyncio.sleep,
        retry_seconds: float = 1.0,
    ) -> None:
        self.url = url.rstrip("/")
        self.faults = faults or Faults()
        self.sent: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self._headers = {"Authorization": f"Bearer {token}" if bearer else token, "Content-Type": "application/json"}
        self._dice = dice or random.Random()  # noqa: S311 - faults, not secrets
        self._clock = clock
        self._sleep = sleep
        self._retry_seconds = retry_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def announce(self, ride: Ride) -> dict[str, Any]:
        """Makes the booking and assigns its driver; answers what the gateway says of it (with `device_token`)."""
        pickup, dropoff = ride.at(ride.pickup_at * ride.length), ride.at(ride.length)
        booking = {
            "pickup": {"latitude": pickup[0], "longitude": pickup[1], "label": "Pickup"},
            "dropoff": {"latitude": dropoff[0], "longitude": dropoff[1], "label": "Drop-off"},
        }
        answer = await self._request("PUT", f"/v1/bookings/{ride.customer}/{ride.reference}", booking)
        first, last = ride.driver
        driver = {"firstName": first, "lastName": last, "telephoneNumber": "+44 20 7946 0000"}
        vehicle = {"make": "Skoda", "model": "Superb", "registration": "LB70 XYZ", "colour": "black"}
        assignment = {"driver": driver, "vehicle": vehicle, "stateHash": "simulated"}
        await self._request("POST", f"/v2/bookings/{ride.reference}/assignDriver", assignment)
        return json.loads(answer) if answer else {}

    async def play(
        self,
        ride: Ride,
        *,
        every: float = 5.0,
        speed_kmh: float = 36.0,
        wait_seconds: float = 15.0,
        stop: asyncio.Event | None = None,
    ) -> None:
        """Drives to the pickup, waits there, drives to the drop-off; `stop` ends it in the middle of the ride."""
        live = _Pinger(self, ride)
        metres, pickup = 0.0, ride.pickup_at * ride.length
        await self.event(ride, DEPARTED, ride.at(0.0))
        for goal, milestone in ((pickup, ARRIVED), (ride.length, DONE)):
            while metres < goal:
                if stop is not None and stop.is_set():
                    return
                await live.ping(ride.at(metres))
                await self._sleep(every)
                metres = min(goal, metres + speed_kmh / 3.6 * every)
            await live.flush()
            await self.event(ride, milestone, ride.at(goal))
            if milestone == ARRIVED:
                for _ in range(int(wait_seconds // every)):
                    await live.ping(ride.at(goal))
                    await self._sleep(every)
                await live.flush()
                if ride.no_show:
                    await self.event(ride, NO_SHOW, ride.at(goal))
                    return
                await self.event(ride, ON_TRIP, ride.at(goal))

    async def event(self, ride: Ride, kind: str, place: tuple[float, float], at: datetime | None = None) -> None:
        """Sends one event, with the faults that apply to a single one."""
        moment = (at or self._clock()) + timedelta(seconds=self.faults.skew_seconds)
        text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        body = {
            "event_type": kind,
            "latitude": round(place[0], 8),
            "longitude": round(place[1], 8),
            "occurred_at": text if self.faults.naive else f"{text}Z",
        }
        path = f"/v1/bookings/{ride.customer}/{ride.reference}/driver/events"
        times = 1 + (self.chance(self.faults.duplicates)) + (self.chance(self.faults.lost_answers))
        for _ in range(times):
            self.sent[kind] += 1
            await self._request("POST", path, body)

    def chance(self, share: float) -> bool:
        return self._dice.random() < share

    @property
    def now(self) -> datetime:
        return self._clock()

    async def _request(self, method: str, path: str, body: dict[str, Any]) -> bytes:
        """One request, sent again while the gateway is away, limits us (Retry-After) or fails; at most 8 times."""
        if self._session is None:
            raise RuntimeError("use `async with`")
        for attempt in range(8):
            wait = self._retry_seconds * 2**attempt
            try:
                async with self._session.request(
                    method, self.url + path, data=json.dumps(body), headers=self._headers, allow_redirects=False
                ) as response:
                    answer = await response.content.read(65_536)
                    result = response.headers.get("X-Event-Result", "")
                    self.answers[f"{response.status} {result}".strip()] += 1
                    if response.status != 429 and response.status < 500:
                        return answer
                    wait = float(response.headers.get("Retry-After", wait))
            except (TimeoutError, aiohttp.ClientError):
                self.answers["lost"] += 1
            await self._sleep(wait)
        return b""


class _Pinger:
    """The live locations of one ride, with the faults that need to remember the ones before."""

    def __init__(self, supplier: Supplier, ride: Ride) -> None:
        self._supplier = supplier
        self._ride = ride
        self._held: list[tuple[tuple[float, float], datetime]] = []
        self._began = supplier.now

    async def ping(self, place: tuple[float, float]) -> None:
        supplier, faults = self._supplier, self._supplier.faults
        if supplier.chance(faults.drops):
            return
        if self._offline() or supplier.chance(faults.disorder):
            self._held.append((place, supplier.now))
            return
        if self._held and faults.disorder and not faults.offline_every:
            await supplier.event(self._ride, LIVE, place)
            await self.flush()
            return
        await self.flush()
        await supplier.event(self._ride, LIVE, place)

    async def flush(self) -> None:
        """Sends what was held back, under the times at which it happened."""
        held, self._held = self._held, []
        for place, moment in held:
            await self._supplier.event(self._ride, LIVE, place, moment)

    def _offline(self) -> bool:
        faults = self._supplier.faults
        if not faults.offline_every:
            return False
        period = faults.offline_every + faults.offline_seconds
        return (self._supplier.now - self._began).total_seconds() % period >= faults.offline_every


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    lat = math.radians((a[1] + b[1]) / 2)
    east, north = math.radians(b[0] - a[0]) * math.cos(lat), math.radians(b[1] - a[1])
    return _EARTH_M * math.hypot(east, north)


def drivers() -> Sequence[tuple[str, str]]:
    """Names for simulated drivers."""
    return _DRIVERS
