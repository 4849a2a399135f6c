"""Following other nodes: what they committed is taken into this node's roster before anybody hears of it."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from waybridge.bus import DeviceEvent, Event, PositionEvent
from waybridge.roster import Roster
from waybridge.store import fleet
from waybridge.store.engine import Store

log = structlog.get_logger("waybridge.following")
AT_ONCE = 500


class Following:
    """Keeps the roster what the database is, where other nodes write too."""

    def __init__(self, store: Store, roster: Roster, default_policy: fleet.DefaultPolicy) -> None:
        self._store = store
        self._roster = roster
        self._default_policy = default_policy

    async def arrived(self, events: Sequence[Event]) -> Sequence[Event]:
        """Takes over another node's events, in order; returns what this node's listeners are told.

        A position is applied as it came; anything else about a device is read from the database.
        """
        roster = self._roster
        reread = {event.device_id for event in events if isinstance(event, DeviceEvent)}
        reread |= {
            event.device_id
            for event in events
            if isinstance(event, PositionEvent) and not self._applies(event)
        }
        if reread:
            await self._read(sorted(reread))
        for event in events:
            if isinstance(event, PositionEvent):
                source = roster.source_by_id(event.source_id)
                if source is not None and (source.last is None or source.last.recorded_us < event.fix.recorded_us):
                    source.last = event.fix
                    source.highest_sent_us = max(source.highest_sent_us, event.fix.sent_us)
        return events

    def _applies(self, event: PositionEvent) -> bool:
        """Whether the roster knows enough to take the position as it is."""
        source = self._roster.source_by_id(event.source_id)
        if source is None or source.device.id != event.device_id:
            return False
        return not event.shown or source.device.winner is source

    async def reread(self) -> None:
        """Reads everything again: the bus was away, and what it lost is not told twice."""
        async with self._store.read() as conn:
            await fleet.load(conn, self._roster, self._default_policy)
        log.info("The roster was read again", devices=len(self._roster))

    async def _read(self, device_ids: list[int]) -> None:
        async with self._store.read() as conn:
            for start in range(0, len(device_ids), AT_ONCE):
                part = device_ids[start : start + AT_ONCE]
                await fleet.load(conn, self._roster, self._default_policy, part)
                for gone in set(part) - set(await fleet.existing_devices(conn, part)):
                    device = self._roster.by_id(gone)
                    if device is not None:
                        self._roster.remove_device(device)
