"""Tells vendors that nobody watches any more: the last active share session of a device was cancelled.

Most providers have nothing to tell. Of many nodes the one that stored the cancellation tells, once; a vendor that is
down is not told later, because the person may share on purpose by then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import structlog

from waybridge.bus import Event, SessionEvent
from waybridge.errors import ProviderError, StoreUnavailable
from waybridge.model import SourceKey
from waybridge.provider import Provider
from waybridge.store import sessions

if TYPE_CHECKING:
    from waybridge.bus import Bus
    from waybridge.roster import Roster
    from waybridge.runtime import Runtime
    from waybridge.store.engine import Store
    from waybridge.supervisor import Supervisor

log = structlog.get_logger("waybridge.withdrawal")
TELL_SECONDS = 30.0
CLOSE_SECONDS = 2.0


class Withdrawal:
    """Follows cancelled sessions and asks the providers behind their devices to end the sharing."""

    def __init__(self, store: Store, roster: Roster, bus: Bus, supervisor: Supervisor) -> None:
        self._store = store
        self._roster = roster
        self._bus = bus
        self._supervisor = supervisor

    async def start(self) -> None:
        self._listener = self._bus.listen("withdrawal", wanted=_cancelled, own=True)
        self._task = asyncio.create_task(self._run(), name="withdrawal")

    async def close(self) -> None:
        self._listener.close()
        self._task.cancel()
        await asyncio.wait([self._task], timeout=CLOSE_SECONDS)

    async def _run(self) -> None:
        async for events in self._listener:
            for event in events:
                if isinstance(event, SessionEvent):
                    await self._withdraw(event)

    async def _withdraw(self, event: SessionEvent) -> None:
        device = self._roster.device(event.instance_id, event.device_token)
        if device is None:
            return
        told = [
            (runtime, SourceKey(source.connection_id, source.external_id))
            for source in device.sources
            if source.period is not None
            and (runtime := self._supervisor.runtime(source.connection_id, event.instance_id)) is not None
            and type(runtime.provider).end_sharing is not Provider.end_sharing
        ]
        if not told:
            return
        try:
            async with self._store.read() as conn:
                left = await sessions.count_active(
                    conn, event.instance_id, event.device_token, self._store.now_us()
                )
        except StoreUnavailable:
            log.warning("The database was down; the vendor is not told that a session was cancelled")
            return
        for runtime, source in told if not left else ():
            await _tell(runtime, source)


async def _tell(runtime: Runtime, source: SourceKey) -> None:
    try:
        async with asyncio.timeout(TELL_SECONDS):
            await runtime.provider.end_sharing(source)
    except (ProviderError, aiohttp.ClientError, TimeoutError, OSError) as error:
        log.warning(
            "The vendor could not be asked to end the sharing",
            connection=source.connection_id,
            error=runtime.redacted(error),
        )
    except Exception as error:
        log.exception(
            "A provider failed to end the sharing", connection=source.connection_id, error=runtime.redacted(error)
        )


def _cancelled(event: Event) -> bool:
    return isinstance(event, SessionEvent) and event.kind == "cancelled"
