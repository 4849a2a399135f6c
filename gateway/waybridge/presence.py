"""What only the clock decides: stale devices go offline, silent trips end, sources give way, shares expire.

Each device that the clock may change is watched by the time at which something is due; nothing is scanned.
Changes are conditional updates with their outbox rows, so they happen once, on however many nodes.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

import structlog

from waybridge import sources
from waybridge.bus import Bus, DeviceEvent, Event, PositionEvent
from waybridge.errors import StoreUnavailable
from waybridge.recording import Shares, Work
from waybridge.roster import Device, Roster
from waybridge.store import fleet
from waybridge.store.engine import Store, Tx
from waybridge.trips import TripRules

log = structlog.get_logger("waybridge.presence")
AT_ONCE = 200
"""Devices that one transaction changes at the most."""


class ExpiringShares(Shares, Protocol):
    """Shares, seen by the clock."""

    async def expire_due(self, tx: Tx) -> None: ...


class Presence:
    """Watches the clock for every device. `every` are further jobs: (name, seconds between, job)."""

    def __init__(
        self,
        store: Store,
        roster: Roster,
        bus: Bus,
        *,
        rules: TripRules,
        shares: ExpiringShares,
        default_policy: fleet.DefaultPolicy,
        exclusive: bool,
        every: Sequence[tuple[str, float, Callable[[], Awaitable[object]]]] = (),
    ) -> None:
        self._store = store
        self._roster = roster
        self._bus = bus
        self._rules = rules
        self._shares = shares
        self._default_policy = default_policy
        self._exclusive = exclusive
        self._every = every
        self._seconds: list[int] = []  # a heap of those in which something is due
        self._due: dict[int, list[int]] = {}  # second -> devices to look at then
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Watches all devices that a restart left online, on a trip or sharing."""
        for device in self._roster.everything():
            self._watch(device)
            device.rest()
        self._detach = self._bus.attach(self._on_events)
        self._tasks = [asyncio.create_task(self._run(), name="presence")]
        self._tasks += [
            asyncio.create_task(self._repeat(name, seconds, job), name=name) for name, seconds, job in self._every
        ]

    async def close(self) -> None:
        self._detach()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def turn(self) -> None:
        """Does everything that is due now; the loop calls it each second, tests when they like."""
        now_us = self._store.now_us()
        waiting: list[int] = []
        while self._seconds and self._seconds[0] * 1_000_000 <= now_us:
            second = heapq.heappop(self._seconds)
            waiting += (number for number in self._due.pop(second) if self._is_watched(number, second))
        due: list[int] = []
        for device_id in dict.fromkeys(waiting):  # one may have come to a second by two ways
            device = self._roster.by_id(device_id)
            if device is None:
                continue
            device.watched = None
            when = self._due_us(device)
            if when is None:
                continue
            if when > now_us:
                self._push(when, device)
            else:
                due.append(device_id)
        for start in range(0, len(due), AT_ONCE):
            part = due[start : start + AT_ONCE]
            try:
                await self._store.write(partial(self._change, device_ids=part), alone=True)
            finally:
                for device_id in part:
                    device = self._roster.by_id(device_id)
                    if device is not None:
                        self._watch(device, at_least=now_us + 1_000_000)
                        if not device.online:
                            device.rest()
        await self._store.write(self._shares.expire_due)

    async def _change(self, tx: Tx, device_ids: list[int]) -> None:
        work = Work(
            tx,
            self._roster,
            rules=self._rules,
            shares=self._shares,
            default_policy=self._default_policy,
            history=True,
            by_clock=True,
        )
        if not self._exclusive:
            await fleet.lock_devices(tx, device_ids)
            await fleet.load(tx.conn, self._roster, self._default_policy, device_ids)
        for device_id in device_ids:
            device = self._roster.by_id(device_id)
            if device is not None:
                await work.tick(device)
        work.settle()

    async def _run(self) -> None:
        failing = False
        while True:
            try:
                await self.turn()
                if failing:
                    log.info("The clock's changes are stored again")
                failing = False
            except StoreUnavailable:
                if not failing:
                    log.warning("The clock's changes wait for the database")
                failing = True
            await asyncio.sleep(1)

    async def _repeat(self, name: str, seconds: float, job: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await job()
            except StoreUnavailable:
                log.warning("A job waits for the database", job=name)
            await asyncio.sleep(seconds)

    def _on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, PositionEvent):
                device = self._roster.by_id(event.device_id)
                if device is None or (event.shown and device.watched is not None):
                    continue  # the winner's next fix only puts off what silence does
            elif isinstance(event, DeviceEvent):
                device = self._roster.by_id(event.device_id)
                if device is None:
                    continue
            else:
                continue
            self._watch(device)

    def _watch(self, device: Device, *, at_least: int = 0) -> None:
        when = self._due_us(device)
        if when is None:
            return
        when = max(when, at_least)
        if device.watched is None or when // 1_000_000 < device.watched:
            self._push(when, device)

    def _push(self, when_us: int, device: Device) -> None:
        second = max(when_us, 0) // 1_000_000
        device.watched = second
        waiting = self._due.get(second)
        if waiting is None:
            self._due[second] = [device.id]
            heapq.heappush(self._seconds, second)
        else:
            waiting.append(device.id)

    def _is_watched(self, device_id: int, second: int) -> bool:
        """Whether a device still waits for this second: it may be watched from an earlier one on, or be gone."""
        device = self._roster.by_id(device_id)
        return device is not None and device.watched == second

    def _due_us(self, device: Device) -> int | None:
        """When the clock would change the device next, or None while only a report can."""
        moments: list[int] = []
        winner = device.winner
        if device.online:
            last = winner.last if winner is not None else None
            moments.append(last.recorded_us + winner.policy.stale_after_us + 1 if last is not None and winner else 0)
        for source in device.sources:
            last = source.last
            open_trip = source.trip is not None and source.trip.ended_us is None
            if open_trip or (source.period is not None and source.policy.begins == "fix"):
                moments.append(last.recorded_us + self._rules.gap_us + 1 if last is not None else 0)
        if winner is not None and len(device.sources) > 1 and winner.last is not None:
            shown_us, now_us = winner.last.recorded_us, self._store.now_us()
            if any(
                each is not winner
                and each.last is not None
                and (each.last.recorded_us > shown_us or not winner.visible)
                and sources.is_fresh(each, now_us)
                for each in device.sources
            ):
                moments.append(shown_us + sources.limit_us(winner) + 1)
        return min(moments) if moments else None
