"""Intake's part inside the transaction: what reports change, decided on drafts and written in a few statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import force_setattr, replace

from waybridge import periods, sources
from waybridge.bus import Fix, PositionEvent
from waybridge.consent import began_us
from waybridge.drafts import DeviceDraft, SourceDraft
from waybridge.ledger import NATIVE, Shares
from waybridge.model import (
    Milestone,
    Offline,
    Position,
    Profile,
    Report,
    SharingStarted,
    SharingStopped,
    iso_us,
    to_us,
)
from waybridge.plain import Entry, Plain
from waybridge.provider import Outcome, Rejection
from waybridge.roster import LATE, SUSPECT, Device, Policy, Source, Trip
from waybridge.store import fixes, fleet, sync
from waybridge.store.engine import new_id
from waybridge.trips import advance


class Work(Plain):
    """One group's reports inside its transaction.

    Call `take_plain`; `meet` and `look_up` for what it left, `report` for each of that in order; then `settle`.
    """

    # -- state

    async def look_up(self, entries: Sequence[tuple[Policy, Report, Fix | None]]) -> None:
        """Asks the database once for what the roster does not know: fixes that are not newer than all that their
        source ever sent, and trips that were left and are named again.
        """
        self._known = {(event.source_id, event.fix.sent_us) for event in self._plain_events}
        asked: set[tuple[int, int]] = set()
        named: set[tuple[int, str]] = set()
        for policy, report, fix in entries:
            if not isinstance(report, Position) or fix is None:
                continue
            source = self._roster.source(policy.instance_id, policy.connection_id, report.source.external_id)
            if source is None:
                continue
            if fix.flags & SUSPECT or fix.sent_us <= source.highest_sent_us:
                asked.add((source.id, fix.sent_us))
            token, trip = report.track_token, source.trip
            if token is not None and trip is not None and trip.track_token != token:
                named.add((source.id, token))
        if asked:
            self._known |= await fleet.known_fixes(self._tx.conn, sorted(asked), self._tx.dialect)
        if named:
            self._left_trips = await fleet.trips_by_token(self._tx.conn, sorted(named), self._tx.dialect)

    async def report(self, policy: Policy, entry: Entry, outcome: Outcome) -> None:
        """Takes one report in."""
        index, report, fix = entry
        try:
            draft = self._resolve(policy, report.source.external_id)
        except ValueError as error:
            field = "device_token" if policy.connection_id == NATIVE else "external_id"
            outcome.rejected.append(Rejection(index, field, str(error)))
            return
        match report:
            case Position():
                if fix is not None:
                    await self._position(draft, index, report, fix, outcome)
            case Offline():
                await self._offline(draft, report)
            case SharingStarted():
                await self._started(draft, report)
            case SharingStopped():
                await self._stopped(draft, max(to_us(report.ended_at), began_us(draft)), report.cause)
            case Milestone():
                await self._milestone(draft, report)
            case Profile():
                device = self._device(draft)
                if device.merge(report, self._tx.now_us):
                    self._tell("profile", device.device)

    # -- positions

    async def _position(self, draft: SourceDraft, index: int, report: Position, fix: Fix, outcome: Outcome) -> None:
        policy = draft.policy
        if policy.consent == "all" and draft.period is None:
            outcome.rejected.append(Rejection(index, "source", "does not share its location"))
            return
        key = (draft.id, fix.sent_us)
        newest = draft.last if report.live else draft.milestone
        if key in self._known or (newest is not None and fix.sent_us == newest.sent_us):
            outcome.duplicates += 1
            return
        self._known.add(key)
        draft.highest_sent_us = max(draft.highest_sent_us, fix.sent_us)
        outcome.accepted += 1
        if report.history_only or (newest is not None and fix.recorded_us <= newest.recorded_us):
            outcome.late += 1
            trip_id = self._trip_of_late(draft, fix.recorded_us, report.track_token)
            self._record(draft, replace(fix, trip_id=trip_id, flags=fix.flags | LATE))
            return
        trip_id = self._trip(draft, fix, report.track_token) if report.live else None
        if trip_id != fix.trip_id:
            force_setattr(fix, "trip_id", trip_id)  # nobody has seen it yet
        self._record(draft, fix)
        if not report.live:
            draft.milestone, draft.new_milestone = fix, True
            return
        self._vendor_says(draft, online=report.online)
        if draft.last is None or fix.recorded_us - draft.last.recorded_us > sources.limit_us(draft):
            draft.fresh_since_us = fix.recorded_us
        draft.last, draft.new_last = fix, True
        if draft.vendor_online is False:
            await self._vendor_offline(draft, fix.recorded_us)
        elif draft.period is None and periods.opens_by_fix(
            policy, fix, vendor_online=draft.vendor_online, now_us=self._tx.now_us
        ):
            self._open(draft, fix.recorded_us, None, "online")
        self._shown.append((draft, fix, draft.trip.track_token if trip_id is not None and draft.trip else None))

    def _record(self, draft: SourceDraft, fix: Fix) -> None:
        if self._history:
            self._rows.append(fixes.row(draft.id, draft.source.device.id, 0, fix))

    def _trip(self, draft: SourceDraft, fix: Fix, token: str | None) -> int | None:
        before = draft.trip
        if token is not None and before is not None and before.track_token != token:
            earlier = self._left_trips.get((draft.id, token))
            if earlier is not None:
                return self._resume(draft, earlier)
        step = advance(before, draft.last, fix, token, self._rules, new_id)
        device = draft.source.device
        if step.ended is not None:
            self._end_trip(draft, step.ended)
        if step.started and step.trip is not None:
            self._changes.begin_trip(device.id, draft.id, step.trip)
            self._tell("trip_started", device, {"track_token": step.trip.track_token})
        elif before is not None and before.ended_us is not None and step.trip and step.trip.ended_us is None:
            self._changes.change_trip(step.trip.id, ended_us=None)
        draft.trip = step.trip
        return step.trip.id if step.trip is not None and step.inside else None

    def _end_trip(self, draft: SourceDraft, ended: Trip) -> None:
        self._changes.change_trip(ended.id, ended_us=ended.ended_us)
        self._left_trips[draft.id, ended.track_token] = ended
        self._tell("trip_ended", draft.source.device, {"track_token": ended.track_token})

    def _resume(self, draft: SourceDraft, earlier: Trip) -> int:
        """The vendor went back to a trip that it had left: it runs again, the other one ends."""
        if draft.trip is not None and draft.trip.ended_us is None and draft.last is not None:
            self._end_trip(draft, replace(draft.trip, ended_us=draft.last.recorded_us, still_since_us=None))
        elif draft.trip is not None:
            self._left_trips[draft.id, draft.trip.track_token] = draft.trip
        self._changes.change_trip(earlier.id, ended_us=None)
        draft.trip = replace(earlier, ended_us=None, still_since_us=None)
        return earlier.id

    def _trip_of_late(self, draft: SourceDraft, recorded_us: int, token: str | None) -> int | None:
        """The trip of a fix that came late: the running one, which it may even begin earlier, or one that it names."""
        trip = draft.trip
        if trip is not None and (token is None or token == trip.track_token):
            ahead_us = trip.started_us - recorded_us
            if token is not None or ahead_us <= self._rules.gap_us:
                if ahead_us > 0:
                    self._changes.change_trip(trip.id, started_us=recorded_us)
                    draft.trip = replace(trip, started_us=recorded_us)
                return trip.id
        if token is None:
            return None
        earlier = self._left_trips.get((draft.id, token))
        if earlier is None:
            return None
        if earlier.started_us > recorded_us:
            self._changes.change_trip(earlier.id, started_us=recorded_us)
            self._left_trips[draft.id, token] = replace(earlier, started_us=recorded_us)
        return earlier.id

    # -- the clock

    async def tick(self, device: Device) -> None:
        """What silence does to a device: its trips end, the periods that a fix began end, others may win."""
        now_us = self._tx.now_us
        for source in tuple(device.sources):
            draft = self._resolve(source.policy, source.external_id)
            last = draft.last
            silent = last is None or now_us - last.recorded_us > self._rules.gap_us
            if not silent:
                continue
            if draft.trip is not None and draft.trip.ended_us is None:
                ended_us = last.recorded_us if last is not None else now_us
                draft.trip = replace(draft.trip, ended_us=ended_us, still_since_us=None)
                self._end_trip(draft, draft.trip)
            if draft.period is not None and draft.policy.begins == "fix":
                ended_us = max(draft.period.began_us, last.recorded_us if last is not None else now_us)
                await self._stopped(draft, ended_us, "offline")

    # -- the end of the group

    def settle(self) -> None:
        """Decides who wins and who is online, writes everything, and says what is published after the commit."""
        tx = self._tx
        for device in self._devices.values():
            self._decide(device)
            self._switch_online(device)
            if device.columns:
                self._changes.change_device(device.device.id, device.columns)
        newest = [row for _, row in self._plain.values()]
        elsewhere: set[int] = set()  # devices of which only rows of other tables change
        for draft in self._sources.values():
            if _story(draft) != _story(draft.source) and not self._devices[draft.source.device.id].columns:
                elsewhere.add(draft.source.device.id)
            device_id = draft.source.device.id
            if draft.new_last and draft.last is not None:
                newest.append(fixes.row(draft.id, device_id, 0, draft.last))
            if draft.new_milestone and draft.milestone is not None:
                newest.append(fixes.row(draft.id, device_id, 1, draft.milestone))
            if draft.columns:
                self._changes.change_source(draft.id, draft.columns)
        self._changes.write()
        sync.touch(tx, elsewhere)
        fixes.record(tx, self._rows, newest)
        tx.events += self._told
        tx.events += self._plain_events
        for draft, fix, track_token in self._shown:
            device = self._devices[draft.source.device.id]
            tx.publish(
                PositionEvent(
                    device.device.instance_id, device.device.id, device.device.token, draft.id, fix, track_token,
                    device.winner is not None and device.winner.id == draft.id, draft.visible,
                )
            )  # fmt: skip
        tx.after_commit(self._commit)

    def _decide(self, device: DeviceDraft) -> None:
        candidates = _candidates(device)
        current = device.device.winner
        if current is not None and len(candidates) == 1 and candidates[0].id == current.id:
            device.winner = candidates[0]  # nobody else is there to win
            return
        verdict = sources.decide(
            candidates, current.id if current is not None else None, device.device.hold_us, self._tx.now_us
        )
        winner = next((each for each in candidates if each.id == verdict.winner_id), None)
        device.winner = winner
        if winner is None or (current is not None and winner.id == current.id):
            return
        device.columns |= {"winner_source_id": winner.id, "winner_since_us": self._tx.now_us}
        if current is not None:
            source = winner.source if isinstance(winner, SourceDraft) else winner
            data = source_changed(device.device, current, source, verdict.reason)
            self._emit("source.changed", device.device, data, None)
            self._tell("source_changed", device.device, data)

    def _switch_online(self, device: DeviceDraft) -> None:
        winner = device.winner
        now_us = self._tx.now_us
        if winner is None or winner.last is None:
            if device.online and self._by_clock:
                self._forgotten(device, now_us)
            return
        fresh = winner.vendor_online is not False and now_us - winner.last.recorded_us <= winner.policy.stale_after_us
        if fresh == device.online:
            return
        if device.online and winner.vendor_online is not False and not self._by_clock:
            return  # gone stale between two fixes: the clock's business
        first_word = device.online is None and not fresh
        device.online = fresh
        device.columns |= {"online": fresh, "online_since_us": now_us}
        if first_word:
            return
        kind = "online" if fresh else "offline"
        data = online_data(device.device, winner.policy.provider, now_us, winner.last)
        self._emit(f"device.{kind}", device.device, data, None)
        self._tell(kind, device.device, {"since": now_us, "last_seen_us": winner.last.recorded_us})

    def _forgotten(self, device: DeviceDraft, now_us: int) -> None:
        """Nothing is known of it any more (its share ended and nothing stays): it is not online either."""
        device.online = False
        device.columns |= {"online": False, "online_since_us": now_us}


def _story(source: SourceDraft | Source) -> tuple[object, ...]:
    """What of a source stands in the rows of its trips and periods."""
    trip, period = source.trip, source.period
    return (
        (trip.id, trip.started_us, trip.ended_us) if trip is not None else None,
        (period.id, period.ends_us) if period is not None else None,
        source.last_ended_us,
    )


def source_changed(device: Device, before: Source, after: Source, reason: str) -> dict[str, Any]:
    """The payload of `source.changed`."""
    return {
        "device_token": device.token,
        "from": _named(before),
        "to": _named(after),
        "reason": reason,
    }


def online_data(device: Device, provider: str, since_us: int, last: Fix) -> dict[str, Any]:
    """The payload of `device.online` and `device.offline`."""
    return {
        "device_token": device.token,
        "provider": provider,
        "since": iso_us(since_us),
        "last_seen_at": iso_us(last.recorded_us),
    }


def _named(source: Source) -> dict[str, str]:
    return {
        "connection_id": source.connection_id,
        "external_id": source.external_id,
        "provider": source.policy.provider,
    }


def _candidates(device: DeviceDraft) -> list[SourceDraft | Source]:
    if len(device.sources) == 1 and len(device.device.sources) <= 1:
        return list(device.sources.values())
    known: list[SourceDraft | Source] = [device.sources.get(each.id, each) for each in device.device.sources]
    known.extend(each for each in device.sources.values() if each.source not in device.device.sources)
    known.sort(key=lambda each: (each.rank, each.id))
    return known


__all__ = ["Entry", "Shares", "Work", "online_data", "source_changed"]
