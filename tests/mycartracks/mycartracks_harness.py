"""A clock that tests turn by hand, a provider context in memory, and the smallest supervisor that can be."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from waybridge import Batch, Position, ProviderContext, SourceUnavailable
from waybridge_mycartracks import MyCarTracks, MyCarTracksSettings

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 6, 1, 14, 0, tzinfo=UTC)
QUIET_TURNS = 8


class HandClock:
    """Stands still until `advance`. Sleepers wake in order; between wakings all I/O on loopback is done."""

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._serial = 0

    def now(self) -> datetime:
        return START + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._serial += 1
        heapq.heappush(self._sleepers, (self._elapsed + max(seconds, 0.0), self._serial, future))
        await future

    @property
    def sleeping(self) -> int:
        return sum(not future.done() for _, _, future in self._sleepers)

    async def advance(self, seconds: float) -> None:
        until = self._elapsed + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._elapsed = max(self._elapsed, due)
            future.set_result(None)
            if not self._sleepers or self._sleepers[0][0] > due:
                await settle()
        self._elapsed = until
        await settle()


async def settle() -> None:
    """Returns when the loop has had nothing to do for some turns: what loopback carries has arrived."""
    loop: Any = asyncio.get_running_loop()
    quiet = 0
    while quiet < QUIET_TURNS:
        await asyncio.sleep(0)
        quiet = 0 if loop._ready else quiet + 1


class Memory:
    """State in a dict."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def get(self, key: str) -> Any:
        return self.kept.get(key)

    async def items(self, prefix: str = "") -> dict[str, Any]:
        return {key: value for key, value in self.kept.items() if key.startswith(prefix)}

    async def put(self, key: str, value: Any) -> None:
        self.kept[key] = value


class Log:
    """Keeps every line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, /, **fields: self.lines.append(f"{level} {event} {fields!r}")


class Bench:
    """A provider on its context. `run` supervises its stream; what it yields is in `reports`."""

    def __init__(self, session: aiohttp.ClientSession, clock: Any, settings: dict[str, Any]) -> None:
        self.clock = clock
        self.counts: Counter[str] = Counter()
        self.log = Log()
        self.reports: list[Any] = []
        self.ended: list[Exception] = []
        self.settings = MyCarTracksSettings.model_validate(settings)
        self.context = ProviderContext(
            instance_id="acme",
            connection_id="acme-vans",
            session=session,
            state=Memory(),
            clock=clock,
            count=self._count,
            log=self.log,
        )
        self.provider = MyCarTracks(self.settings, self.context)
        self._task: asyncio.Task[None] | None = None

    def _count(self, name: str, amount: int = 1) -> None:
        self.counts[name] += amount

    def of(self, kind: type) -> list[Any]:
        return [report for report in self.reports if isinstance(report, kind)]

    async def once(self) -> None:
        """One run of the stream; raises what ends it."""
        async for said in self.provider.stream():
            self.reports += said.reports if isinstance(said, Batch) else [said]

    async def run(self) -> None:
        """Runs again after every SourceUnavailable, as the gateway does (without jitter); ends at anything else."""
        attempt, healthy = 0, 0.0
        while True:
            healthy = self.clock.monotonic()
            try:
                await self.once()
            except SourceUnavailable as error:
                self.ended.append(error)
                attempt = 0 if self.clock.monotonic() - healthy >= 60 else attempt
                attempt += 1
                await self.clock.sleep(max(error.retry_after or 0.0, min(60.0, 2.0 ** (attempt - 1))))
            except Exception as error:  # noqa: BLE001 - kept for the test to look at
                self.ended.append(error)
                return

    def start(self) -> None:
        self._task = asyncio.create_task(self.run(), name="bench")

    @property
    def finished(self) -> bool:
        return self._task is not None and self._task.done()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.provider.close()


class Desk:
    """A server whose every answer a test writes; keeps the requests."""

    def __init__(self) -> None:
        self.token: Any = {"access_token": "a-token", "expires_in": 3592}
        self.positions: Callable[[web.Request], web.Response] = lambda _: web.json_response({"data": []})
        self.stream: Any = web.json_response({}, status=500)
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.path_qs, dict(request.headers), await request.text()))
        if request.path == "/oauth/token":
            return self.token() if callable(self.token) else web.json_response(self.token)
        return self.positions(request)

    def settings(self) -> dict[str, Any]:
        return {
            "client_id": "an-id.mycartracks.com",
            "client_secret": "a secret with ü:%",
            "base_url": f"{self.url}/v3",
            "token_url": f"{self.url}/oauth/token",
        }


async def positions(bench: Bench) -> list[str]:
    return [fix.vehicle_id async for page in bench.provider._rest.last_positions() for fix in page]


def times(bench: Bench) -> list[float]:
    """When the positions that came in were recorded, in seconds since the start."""
    return [(fix.recorded_at - START).total_seconds() for fix in bench.of(Position)]


async def started(bench: Bench) -> Bench:
    bench.start()
    await settle()
    return bench
