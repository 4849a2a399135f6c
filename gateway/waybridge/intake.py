"""The one way in. Reports go through these stages, from top to bottom:

    bounds -> clock -> filters      before the transaction (`_prepare`)
    state                           a provider's intents, all or nothing (`_begin`)
    plain                           fixes that change nothing but where a device is (`Work.take_plain`)
    meet -> look up                 sources that are new; what of the rest is known (`_long_way`)
    duplicate/late                  for each report that is left: what it changes, as drafts (`Work.report`)
        -> trips -> periods
    device -> record                who wins, online or not; all that is written (`Work.settle`)
    publish -> acknowledge          after the commit

Reports of many callers share one transaction (group commit): what arrives during a commit goes into the next
one. `accept` returns after the commit; a viewer sees nothing before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
from prometheus_client import Counter

from waybridge import metrics
from waybridge.bounds import AHEAD_US, Refused, check
from waybridge.errors import StoreUnavailable
from waybridge.facade import Filter
from waybridge.model import EPOCH, Position, Report, from_us
from waybridge.plain import Entry
from waybridge.provider import Intent, Outcome, Rejection
from waybridge.recording import Shares, Work
from waybridge.roster import Policy, Roster
from waybridge.store.engine import Store, Tx
from waybridge.store.fleet import DefaultPolicy
from waybridge.store.state import StateConflict, apply_intents
from waybridge.trips import TripRules
from waybridge.vault import Vault

log = structlog.get_logger("waybridge.intake")

GROUP_REPORTS = 1000
"""Reports in one transaction at the most (one caller's batch is never split)."""
WAITING_REPORTS = 100_000
"""Reports that may wait for a commit; beyond it a caller is told that the store is unavailable."""


@dataclass(slots=True)
class Item:
    """One caller's reports on their way in."""

    policy: Policy
    entries: list[Entry]
    intents: Sequence[Intent]
    refused: list[Rejection]
    future: asyncio.Future[Outcome]
    device_token: str | None = None
    outcome: Outcome = field(default_factory=Outcome)
    conflict: StateConflict | None = None


class Intake:
    """Takes reports in. `exclusive`: no other process writes to this database, so that the roster is the truth."""

    def __init__(
        self,
        store: Store,
        roster: Roster,
        vault: Vault,
        *,
        rules: TripRules,
        shares: Shares,
        default_policy: DefaultPolicy,
        history: bool = True,
        filters: Sequence[Filter] = (),
        exclusive: bool = True,
        most_ahead_us: int = AHEAD_US,
    ) -> None:
        self._store = store
        self._roster = roster
        self._vault = vault
        self._rules = rules
        self._shares = shares
        self._default_policy = default_policy
        self._history = history
        self._filters = tuple(filters)
        self._broken_filters: set[str] = set()
        self._exclusive = exclusive
        self._most_ahead_us = most_ahead_us
        self._pending: list[Item] = []
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None
        self._counters: dict[tuple[str, str], Counter] = {}
        self.newest_us: dict[tuple[str, str], int] = {}
        """When a connection last brought a position in, by (instance, connection)."""

    async def accept(
        self,
        policy: Policy,
        reports: Sequence[Report],
        *,
        intents: Sequence[Intent] = (),
        indexes: Sequence[int] | None = None,
        rejected: Sequence[Rejection] = (),
        device_token: str | None = None,
    ) -> Outcome:
        """Takes a connection's reports in and tells what became of them, after the commit.

        `device_token`: the device that their sender's token is bound to; a new source of theirs belongs to it.

        Raises StateConflict when an intent did not hold (nothing was taken), StoreUnavailable.
        """
        now_us = self._store.now_us()
        refused = list(rejected)
        entries = [
            entry
            for number, report in enumerate(reports)
            if (entry := self._prepare(policy, indexes[number] if indexes else number, report, now_us, refused))
        ]
        if not entries and not intents:
            return self._counted(policy, Outcome(rejected=refused))
        if self._waiting + len(entries) > WAITING_REPORTS:
            raise StoreUnavailable("too many positions wait to be stored")
        item = Item(policy, entries, intents, refused, asyncio.get_running_loop().create_future(), device_token)
        self._pending.append(item)
        self._waiting += len(entries)
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="intake")
        return self._counted(policy, await item.future)

    async def close(self) -> None:
        """Waits until everything that was handed in is stored."""
        while self._task is not None:
            await asyncio.wait([self._task])

    # -- before the transaction

    def _prepare(
        self, policy: Policy, index: int, report: Report, now_us: int, refused: list[Rejection]
    ) -> Entry | None:
        if not isinstance(report, Position):
            return index, report, None
        received_us = now_us if report.received_at is None else _received(report, now_us)
        try:
            fix = check(report, received_us, policy.future_skew_us, self._most_ahead_us)
            if self._filters:
                self._filter(policy, report)
        except Refused as refusal:
            refused.append(Rejection(index, refusal.field, refusal.error))
            return None
        return index, report, fix

    def _filter(self, policy: Policy, report: Position) -> None:
        """Asks every filter; one that fails lets the position pass. Raises Refused."""
        for each in self._filters:
            try:
                reason = each.refuse(report, self._newest(policy, report))
            except Exception:
                if each.name not in self._broken_filters:
                    self._broken_filters.add(each.name)
                    log.exception("A filter fails; positions pass it unseen", filter=each.name)
                continue
            if reason is not None:
                raise Refused("position", f"{each.name}: {reason}")

    def _newest(self, policy: Policy, report: Position) -> Position | None:
        source = self._roster.source(policy.instance_id, policy.connection_id, report.source.external_id)
        if source is None or source.last is None:
            return None
        fix = source.last
        return Position(
            source=report.source,
            latitude=fix.latitude,
            longitude=fix.longitude,
            recorded_at=from_us(fix.recorded_us),
            received_at=from_us(fix.received_us),
            altitude_m=fix.altitude,
            accuracy_m=fix.accuracy,
            speed_mps=fix.speed,
            heading_deg=fix.heading,
        )

    # -- the transaction

    async def _drain(self) -> None:
        while self._pending:
            group = self._take()
            began = time.perf_counter()
            try:
                await self._store.write(partial(self._store_group, group=group), alone=True)
            except Exception as error:
                if not isinstance(error, StoreUnavailable):
                    log.exception("A group of reports could not be stored", items=len(group))
                for item in group:
                    if not item.future.done():
                        item.future.set_exception(error)
            else:
                metrics.COMMIT_SECONDS.observe(time.perf_counter() - began)
                self._acknowledge(group)
        self._task = None

    def _take(self) -> list[Item]:
        count = 0
        size = 0
        for item in self._pending:
            if count and size + len(item.entries) > GROUP_REPORTS:
                break
            count += 1
            size += len(item.entries)
        group, self._pending = self._pending[:count], self._pending[count:]
        self._waiting -= size
        metrics.GROUP_SIZE.observe(size)
        return group

    async def _store_group(self, tx: Tx, group: list[Item]) -> None:
        work = Work(
            tx,
            self._roster,
            rules=self._rules,
            shares=self._shares,
            default_policy=self._default_policy,
            history=self._history,
        )
        if not self._exclusive:
            await work.reload(
                (item.policy.instance_id, item.policy.connection_id, report.source.external_id)
                for item in group
                for _, report, _ in item.entries
            )
        for item in group:
            await self._begin(tx, item)
        left = [
            (item, rest)
            for item in group
            if item.conflict is None and (rest := work.take_plain(item.policy, item.entries, item.outcome))
        ]
        if left:
            await self._long_way(work, left)
        work.settle()

    @staticmethod
    async def _long_way(work: Work, left: Sequence[tuple[Item, Sequence[Entry]]]) -> None:
        await work.meet(
            (item.policy, report.source.external_id, item.device_token) for item, rest in left for _, report, _ in rest
        )
        await work.look_up([(item.policy, report, fix) for item, rest in left for _, report, fix in rest])
        for item, rest in left:
            for entry in rest:
                await work.report(item.policy, entry, item.outcome)

    async def _begin(self, tx: Tx, item: Item) -> None:
        """Does what an item intends with its connection's state; all of it, or the item is not taken."""
        item.outcome = Outcome(rejected=list(item.refused))
        item.conflict = None
        if not item.intents:
            return
        policy = item.policy
        try:
            async with tx.conn.begin_nested():
                await apply_intents(tx, self._vault, policy.instance_id, policy.connection_id, item.intents)
        except StateConflict as conflict:
            item.conflict = conflict

    def _acknowledge(self, group: list[Item]) -> None:
        now_us = self._store.now_us()
        for item in group:
            if item.outcome.accepted:
                self.newest_us[item.policy.instance_id, item.policy.connection_id] = now_us
            if item.future.done():
                continue
            if item.conflict is not None:
                item.future.set_exception(item.conflict)
            else:
                item.future.set_result(item.outcome)

    def _counted(self, policy: Policy, outcome: Outcome) -> Outcome:
        for name, amount in (
            ("accepted", outcome.accepted - outcome.late),
            ("late", outcome.late),
            ("duplicate", outcome.duplicates),
            ("rejected", len(outcome.rejected)),
        ):
            if amount:
                counter = self._counters.get((policy.provider, name))
                if counter is None:
                    counter = self._counters[policy.provider, name] = metrics.POSITIONS.labels(policy.provider, name)
                counter.inc(amount)
        outcome.rejected.sort(key=lambda each: each.index)
        return outcome


def _received(report: Position, now_us: int) -> int:
    """A vendor's own time of receipt is kept where it is in the past; the clock decides otherwise."""
    if report.received_at is None or report.received_at.tzinfo is None:
        return now_us
    delta = report.received_at - EPOCH
    said = (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    return min(said, now_us)
