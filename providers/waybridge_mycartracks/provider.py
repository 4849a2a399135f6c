"""The MyCarTracks provider: credentials, the stream of reports, and the names of vehicles."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar, Final

from waybridge import (
    Batch,
    Capabilities,
    Profile,
    Provider,
    ProviderContext,
    ProviderSettings,
    Report,
    SourceKey,
)
from waybridge_mycartracks.choice import Choice
from waybridge_mycartracks.demo import MyCarTracksDemo
from waybridge_mycartracks.ledger import Ledger, profile
from waybridge_mycartracks.live import Arrival, Live
from waybridge_mycartracks.rest import Rest
from waybridge_mycartracks.settings import LEAST_INTERVAL, MyCarTracksSettings
from waybridge_mycartracks.simulator import MyCarTracksSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_NAMES_KEPT: Final = 30.0


class MyCarTracks(Provider[MyCarTracksSettings]):
    """Vehicles as sources: the external id is the vehicle's id, the driver is its profile."""

    kind: ClassVar[str] = "mycartracks"
    Settings: ClassVar[type[ProviderSettings]] = MyCarTracksSettings
    capabilities: ClassVar[Capabilities] = Capabilities(
        streams=True, stale_after=60.0, expected_interval=5.0, consent="none", begins="fix"
    )
    simulator: ClassVar[Any] = MyCarTracksSimulator
    demo = MyCarTracksDemo

    def __init__(self, settings: MyCarTracksSettings, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._rest = Rest(settings, context)
        self._choice = Choice(settings)
        self._loaded = False
        self._runs: set[Live] = set()
        self._names: dict[str, Profile] = {}
        self._names_until = float("-inf")
        self._names_lock = asyncio.Lock()

    async def check(self) -> None:
        """A token, and one position read with it."""
        await self._rest.prove()

    async def stream(self) -> AsyncIterator[Report | Batch]:
        """Last positions first, then live events for ever. Raises SourceUnavailable when the stream is lost.

        Called again it opens a new session before it reads the last positions, so that nothing falls between.
        """
        if self.settings.min_interval_seconds < LEAST_INTERVAL:
            self.context.log.warning(
                "min_interval_seconds is raised to the vendor's minimum",
                asked=self.settings.min_interval_seconds,
                used=LEAST_INTERVAL,
            )
        ledger = Ledger(self.context.source, self.context.count)
        if not self._loaded:
            async with aclosing(self._rest.last_positions()) as pages:
                async for page in pages:
                    if reports := self._reports(ledger, [page]):
                        yield Batch(reports=reports)
            self._loaded = True
        live = Live(self._rest, self.settings, self.context)
        self._runs.add(live)
        try:
            await live.start()
            while True:
                if reports := self._reports(ledger, await live.next()):
                    yield reports[0] if len(reports) == 1 else Batch(reports=reports)
        finally:
            self._runs.discard(live)
            await live.close()

    async def profile(self, source: SourceKey) -> Profile | None:
        """The names that the vendor's last positions carry now; all of them are kept for 30 s."""
        async with self._names_lock:
            if self.context.clock.monotonic() >= self._names_until:
                self._names = {}
                async with aclosing(self._rest.last_positions()) as pages:
                    async for page in pages:
                        for fix in page:
                            if fix.vehicle_name or fix.user_name:
                                key = self.context.source(fix.vehicle_id)
                                self._names[fix.vehicle_id] = profile(key, fix.vehicle_name, fix.user_name)
                self._names_until = self.context.clock.monotonic() + _NAMES_KEPT
            return self._names.get(source.external_id)

    async def close(self) -> None:
        """Ends what a stream left open; harmless when called twice."""
        await asyncio.gather(*(live.close() for live in self._runs))

    def _reports(self, ledger: Ledger, arrivals: list[Arrival]) -> list[Report]:
        now = self.context.clock.now()
        reports: list[Report] = []
        for arrival in arrivals:
            if isinstance(arrival, list):
                for fix in arrival:
                    if self._choice.row(fix):
                        reports += ledger.row(fix)
            elif self._choice.event(arrival):
                reports += ledger.live(arrival, now)
        return reports
