"""Hands every sink what live streams tell, at its own pace.

Promise: no sink delays or disturbs anything, another sink least of all. Each has a bounded queue and a task of its
own; when it is slow or fails, positions wait as the newest of each device (SIZE at most, then the oldest go). A
failing sink is said once, and once when it works again; its batch is tried again with full jitter. Of many nodes the
one that stored a change tells its sinks, so that an outside system hears of it once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from waybridge.bus import DeviceEvent, Event, PositionEvent
from waybridge.facade import SinkEvent
from waybridge.streams import events as told

if TYPE_CHECKING:
    from waybridge.bus import Bus
    from waybridge.facade import Sink
    from waybridge.roster import Roster

log = structlog.get_logger("waybridge.sinks")

SIZE = 10_000
"""Events that wait for one sink."""
TAKE_SECONDS = 30.0
CLOSE_SECONDS = 2.0
"""How long a sink may take for the rest, and again to close, when the gateway stops."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0


class Sinks:
    """All sinks of a gateway. `sleep` waits between tries; tests hand in their own."""

    def __init__(
        self,
        bus: Bus,
        roster: Roster,
        sinks: Sequence[Sink],
        *,
        take_seconds: float = TAKE_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._feeds = [_Feed(sink, bus, roster, take_seconds, sleep) for sink in sinks]

    async def start(self) -> None:
        for feed in self._feeds:
            feed.start()

    async def close(self) -> None:
        """Gives every sink a moment for the rest, all at once; what it does not take is lost."""
        await asyncio.gather(*(feed.close() for feed in self._feeds))


class _Feed:
    """One sink, its queue and its task."""

    def __init__(
        self, sink: Sink, bus: Bus, roster: Roster, take_seconds: float, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._sink = sink
        self._bus = bus
        self._roster = roster
        self._take_seconds = take_seconds
        self._sleep = sleep
        self._failures = 0

    def start(self) -> None:
        name = f"sink {self._sink.name}"
        self._listener = self._bus.listen(name, size=SIZE, wanted=_wanted, own=True)
        self._task = asyncio.create_task(self._run(), name=name)

    async def close(self) -> None:
        self._listener.close()
        if not self._failures:
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
        self._task.cancel()
        await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._sink.close()
        except Exception as error:  # noqa: BLE001 - a stranger's object
            log.warning("A sink did not close", sink=self._sink.name, problem=repr(error))

    async def _run(self) -> None:
        async for events in self._listener:
            await self._hand_over(events)
        await self._hand_over(self._listener.take())

    async def _hand_over(self, events: Sequence[Event]) -> None:
        while (batch := self._told(events)) and not await self._taken(batch):
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._failures - 1, 10))
            await self._sleep(random.uniform(0, wait))  # noqa: S311 - spreads tries, hides nothing
            events = _newest([*events, *self._listener.take()])

    async def _taken(self, batch: Sequence[SinkEvent]) -> bool:
        try:
            async with asyncio.timeout(self._take_seconds):
                await self._sink.take(batch)
        except Exception as error:  # noqa: BLE001 - a stranger's object
            self._failures += 1
            if self._failures == 1:
                log.warning("A sink fails; it is tried again", sink=self._sink.name, problem=repr(error))
            return False
        if self._failures:
            log.info("A sink works again", sink=self._sink.name, failures=self._failures)
            self._failures = 0
        return True

    def _told(self, events: Sequence[Event]) -> list[SinkEvent]:
        """In the words of live streams, as far as it may be seen now: consent can have ended while an event waited."""
        found: list[SinkEvent] = []
        for event in events:
            if isinstance(event, PositionEvent):
                device = self._roster.by_id(event.device_id)
                if device is not None and device.public_fix is not None:
                    body = told.position(device, event.fix, None)
                    found.append(
                        SinkEvent(
                            kind="position",
                            type="device.position.updated",
                            instance_id=event.instance_id,
                            device_token=event.device_token,
                            body=body,
                        )
                    )
            elif isinstance(event, DeviceEvent):
                said = told.of_device(event, self._roster.by_id(event.device_id))
                if said is not None:
                    found.append(
                        SinkEvent(
                            kind="event",
                            type=TYPES[event.kind],
                            instance_id=event.instance_id,
                            device_token=event.device_token,
                            body=said[1],
                        )
                    )
        return found


TYPES = {
    "online": "device.online",
    "offline": "device.offline",
    "sharing_stopped": "device.offline",
    "erased": "device.offline",
    "source_changed": "source.changed",
}


def _newest(events: Sequence[Event]) -> list[Event]:
    """Without positions that a newer one of the same device has overtaken; SIZE at most."""
    last = {event.device_id: event for event in events if isinstance(event, PositionEvent)}
    return [e for e in events if not isinstance(e, PositionEvent) or last[e.device_id] is e][-SIZE:]


def _wanted(event: Event) -> bool:
    """What streams tell; fixes of sources that are not the winner would only push others out of the queue."""
    if isinstance(event, PositionEvent):
        return event.shown and event.visible
    return isinstance(event, DeviceEvent) and event.kind in TYPES
