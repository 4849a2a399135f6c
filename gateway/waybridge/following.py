"""Following other nodes: what they committed is taken into this node's roster before anybody hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog

from waybridge.bus import Bus, DeviceEvent, Event, PositionEvent
from waybridge.roster import Device, Roster
from waybridge.store import fleet
from waybridge.store.engine import Store

log = structlog.get_logger("waybridge.following")
AT_ONCE = 1_000
"""Devices that are read at once: with more, the loop would stand still while they are filled in."""
TRIES = 5


class Following:
    """Keeps the roster what the database is, where other nodes write too. `attach` first."""

    def __init__(self, store: Store, roster: Roster, default_policy: fleet.DefaultPolicy) -> None:
        self._store = store
        self._roster = roster
        self._default_policy = default_policy
        self._changing: list[set[int]] = []

    def attach(self, bus: Bus) -> Callable[[], None]:
        """Hears what this node commits itself; returns what ends that."""
        return bus.attach(self._heard, first=True)

    async def arrived(self, events: Sequence[Event], devices: Sequence[int] = ()) -> Sequence[Event]:
        """Takes over another node's events, in order; returns what this node's listeners are told.

        A position is applied as it came; anything else about a device, and `devices`, are read from the database.
        """
        roster = self._roster
        unread = set(devices)
        for event in events:
            match event:
                case PositionEvent():
                    source = roster.source_by_id(event.source_id)
                    if source is None or source.device.id != event.device_id or (
                        event.shown and source.device.winner is not source
                    ):
                        unread.add(event.device_id)
                case DeviceEvent():
                    unread.add(event.device_id)
                case _:
                    pass
        found = await self._read(sorted(unread)) if unread else []
        for event in events:
            if isinstance(event, PositionEvent):
                source = roster.source_by_id(event.source_id)
                if source is not None and (source.last is None or source.last.recorded_us < event.fix.recorded_us):
                    source.last = event.fix
                    source.highest_sent_us = max(source.highest_sent_us, event.fix.sent_us)
        if self._changing:
            self._heard(events)
        told = set(devices)
        return [*events, *(each for each in found if each.device_id in told)] if told else events

    async def reread(self) -> Sequence[Event]:
        """Reads everything again, for events were missed; returns what listeners would have been told by them.

        Of a device that moved several times they are told the newest position only.
        """
        told: list[Event] = []
        known = {device.id for device in self._roster.everything()}
        after = 0
        while True:
            async with self._store.read() as conn:
                numbers = await fleet.device_numbers(conn, after, AT_ONCE)
            if not numbers:
                break
            told += await self._read(numbers)
            known.difference_update(numbers)
            after = numbers[-1]
        if known:
            told += await self._read(sorted(known))
        log.info("The roster was read again", devices=len(self._roster), changes=len(told))
        return told

    # -- reading

    async def _read(self, device_ids: list[int]) -> list[PositionEvent | DeviceEvent]:
        """Reads devices, and again those that this node or another changed meanwhile; returns what has changed."""
        told: list[PositionEvent | DeviceEvent] = []
        for start in range(0, len(device_ids), AT_ONCE):
            part = device_ids[start : start + AT_ONCE]
            before = {number: _state(self._roster.by_id(number)) for number in part}
            tokens = {number: _name(self._roster.by_id(number)) for number in part}
            left = part
            for _ in range(TRIES):
                left = await self._read_part(left)
                if not left:
                    break
            for number in part:
                told += self._difference(number, before[number], tokens[number])
        return told

    async def _read_part(self, part: list[int]) -> list[int]:
        """The devices that changed while they were read: they are what their event made them."""
        changed: set[int] = set()
        self._changing.append(changed)
        try:
            async with self._store.read() as conn:
                await fleet.load(conn, self._roster, self._default_policy, part, changed)
                there = set(await fleet.existing_devices(conn, part))
        finally:
            self._changing.remove(changed)
        for number in part:
            device = self._roster.by_id(number)
            if number not in there and number not in changed and device is not None:
                self._roster.remove_device(device)
        return sorted(changed.intersection(part))

    def _heard(self, events: Iterable[Event]) -> None:
        for changed in self._changing:
            changed.update(e.device_id for e in events if isinstance(e, (PositionEvent, DeviceEvent)))

    # -- what changed

    def _difference(
        self, number: int, before: _State | None, name: tuple[str, str] | None
    ) -> list[PositionEvent | DeviceEvent]:
        device = self._roster.by_id(number)
        if device is None:
            now_us = self._store.now_us()
            return [] if name is None else [DeviceEvent("erased", name[0], number, name[1], now_us)]
        after = _state(device)
        if after == before or after is None:
            return []
        told: list[PositionEvent | DeviceEvent] = []

        def tell(kind: str, at_us: int | None = None, **details: object) -> None:
            at = self._store.now_us() if at_us is None else at_us
            told.append(DeviceEvent(kind, device.instance_id, device.id, device.token, at, details))

        if before is None:
            tell("created")
            before = (None, None, None, None)
        (last_us, online, sharing, stage), (was_last_us, was_online, was_sharing, was_stage) = after, before
        fix = device.public_fix
        if was_sharing and not sharing:
            tell("sharing_stopped")
        elif sharing and not was_sharing:
            tell("sharing_started")
        if stage != was_stage:
            tell("stage", stage=stage)
        if fix is not None and device.winner is not None and last_us != was_last_us:
            trip = device.winner.trip
            token = trip.track_token if trip is not None and trip.id == fix.trip_id else None
            told.append(
                PositionEvent(
                    device.instance_id, device.id, device.token, device.winner.id, fix, token, shown=True, visible=True
                )
            )
        if online is not None and online != was_online and not (online is False and was_online is None):
            tell("online" if online else "offline", device.online_since_us, last_seen_us=last_us)
        return told


_State = tuple[int | None, bool | None, bool | None, str | None]
"""(time of the newest fix that viewers see, online, sharing, stage)"""


def _state(device: Device | None) -> _State | None:
    if device is None:
        return None
    fix = device.public_fix
    stage = device.stage.value if device.stage is not None else None
    return (fix.recorded_us if fix is not None else None, device.online, device.sharing, stage)


def _name(device: Device | None) -> tuple[str, str] | None:
    return None if device is None else (device.instance_id, device.token)
