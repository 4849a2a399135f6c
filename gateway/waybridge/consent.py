"""Intake's part on sharing: periods that begin and end, journeys, and what a vendor says of its sources."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict

from waybridge import periods
from waybridge.drafts import SourceDraft
from waybridge.ledger import Ledger
from waybridge.model import Milestone, Offline, SharingStarted, iso, to_us
from waybridge.roster import Period, Source
from waybridge.store import fleet
from waybridge.store.engine import new_id


class Consent(Ledger):
    """Periods and journeys of the sources in a ledger."""

    # -- what the vendor says of itself

    def _vendor_says(self, draft: SourceDraft, *, online: bool | None) -> None:
        if online is not draft.vendor_online:
            draft.vendor_online = online
            draft.columns["vendor_online"] = online

    async def _offline(self, draft: SourceDraft, report: Offline) -> None:
        self._vendor_says(draft, online=False)
        last_us = draft.last.recorded_us if draft.last is not None else self._tx.now_us
        seen_us = to_us(report.last_seen_at) if report.last_seen_at is not None else last_us
        await self._vendor_offline(draft, min(max(seen_us, last_us), self._tx.now_us))

    async def _vendor_offline(self, draft: SourceDraft, ended_us: int) -> None:
        draft.fresh_since_us = None
        if draft.period is not None and draft.policy.begins == "fix":
            await self._stopped(draft, max(ended_us, draft.period.began_us), "offline")

    # -- sharing

    async def _started(self, draft: SourceDraft, report: SharingStarted) -> None:
        began_us = to_us(report.began_at)
        ends_us = to_us(report.ends_at) if report.ends_at is not None else None
        if draft.period is not None:
            if ends_us != draft.period.ends_us:
                self._changes.change_period(draft.period.id, ends_us=ends_us)
                draft.period = _with_end(draft.period, ends_us)
            return
        await self._changes.write_now()  # a period that ended in this group counts
        closed = await fleet.newest_end(self._tx.conn, draft.id)
        if closed is not None and began_us <= closed[0]:
            return  # a late word about a period that is over: its end wins
        self._open(draft, began_us, ends_us, report.cause, report.shared_by, report.shared_with, report.chat_id)

    def _open(
        self,
        draft: SourceDraft,
        began_us: int,
        ends_us: int | None,
        cause: str,
        shared_by: str | None = None,
        shared_with: str | None = None,
        chat_id: str | None = None,
    ) -> None:
        device = self._device(draft)
        period = Period(
            new_id(), "shr_" + secrets.token_hex(12), began_us, ends_us, cause, shared_by, shared_with, chat_id
        )
        self._changes.begin_period(
            {
                "id": period.id,
                "sharing_id": period.sharing_id,
                "kind": "source",
                "instance_id": device.device.instance_id,
                "device_id": device.device.id,
                "device_token": device.device.token,
                "source_id": draft.id,
                "connection_id": draft.policy.connection_id,
                "provider": draft.policy.provider,
                "shared_by": shared_by,
                "shared_with": shared_with,
                "chat_id": chat_id,
                "began_us": began_us,
                "ends_us": ends_us,
                "start_cause": cause,
            }
        )
        draft.period = period
        data = periods.started_data(device.device, draft.policy, period, shared_by=device.display_name)
        self._emit("location.sharing.started", device.device, data, cause)
        self._tell("sharing_started", device.device, {"cause": cause})

    async def _stopped(self, draft: SourceDraft, ended_us: int, cause: str) -> None:
        period = draft.period
        if period is not None:
            self._changes.change_period(period.id, ended_us=ended_us, stop_cause=cause)
            await self._ended(draft, period, ended_us, cause)

    async def _ended(self, draft: SourceDraft, period: Period, ended_us: int, cause: str) -> None:
        draft.period = None
        draft.last_ended_us = ended_us
        device = self._device(draft)
        data = periods.stopped_data(
            device.device, draft.policy, period, shared_by=device.display_name, ended_us=ended_us, cause=cause
        )
        self._emit("location.sharing.stopped", device.device, data, cause)
        self._tell("sharing_stopped", device.device, {"cause": cause})
        if draft.policy.consent == "all":
            draft.last = draft.milestone = None
            draft.new_last = draft.new_milestone = False
            draft.fresh_since_us = None
            await fleet.forget_last(self._tx, draft.id)

    async def _milestone(self, draft: SourceDraft, report: Milestone) -> None:
        device = self._device(draft)
        if report.stage is not None:
            device.columns |= {"stage": report.stage.value, "stage_at_us": to_us(report.occurred_at)}
        if report.target is not None:
            device.columns["target"] = json.dumps(asdict(report.target))
        if report.stage is not None or report.target is not None:
            self._tell("stage", device.device, {"stage": report.stage.value if report.stage is not None else None})
        if report.event_type is not None:
            data = {
                "device_token": device.device.token,
                "customer_reference": report.references.get("customer_reference"),
                "booking_reference": report.references.get("booking_reference"),
                "event_type": report.event_type,
                "occurred_at": iso(report.occurred_at),
            }
            self._emit("driver.event", device.device, data, None)
        if report.completes_shares:
            await self._shares.complete_for_device(
                self._tx, device.device.id, device.device.token, device.device.instance_id
            )

    async def end_sharing(self, source: Source, cause: str) -> None:
        """Ends a source's sharing period, whatever the source says (its connection is removed, it is erased)."""
        draft = self._resolve(source.policy, source.external_id)
        period, ended_us = draft.period, max(self._tx.now_us, began_us(draft))
        # Another node may end it at the same time; this one did not lock it.
        if period is not None and await fleet.end_period(self._tx, period.id, ended_us, cause):
            await self._ended(draft, period, ended_us, cause)


def began_us(draft: SourceDraft) -> int:
    return draft.period.began_us if draft.period is not None else 0


def _with_end(period: Period, ends_us: int | None) -> Period:
    return Period(
        period.id, period.sharing_id, period.began_us, ends_us, period.cause, period.shared_by, period.shared_with,
        period.chat_id,
    )  # fmt: skip
