"""What sources and devices will be after the commit: intake changes drafts, the roster follows the commit."""

from __future__ import annotations

import json
from typing import Any

from waybridge import names
from waybridge.bus import Fix
from waybridge.model import Place, Profile, Stage
from waybridge.roster import Device, Period, Policy, Source, Trip


class SourceDraft:
    """A source inside one transaction; the same names as the roster's, so that the same rules read it."""

    __slots__ = (
        "columns", "fallback_after_us", "fresh_since_us", "highest_sent_us", "id", "last", "last_ended_us", "milestone",
        "new_last", "new_milestone", "period", "policy", "rank", "source", "trip", "vendor_online",
    )  # fmt: skip

    def __init__(self, source: Source) -> None:
        self.source = source
        self.id = source.id
        self.rank = source.rank
        self.policy: Policy = source.policy
        self.fallback_after_us = source.fallback_after_us
        self.last: Fix | None = source.last
        self.milestone: Fix | None = source.milestone
        self.vendor_online: bool | None = source.vendor_online
        self.period: Period | None = source.period
        self.last_ended_us = source.last_ended_us
        self.trip: Trip | None = source.trip
        self.fresh_since_us: int | None = source.fresh_since_us
        self.new_last = False
        self.new_milestone = False
        self.highest_sent_us = source.highest_sent_us
        self.columns: dict[str, Any] = {}

    @property
    def visible(self) -> bool:
        return self.policy.consent == "none" or self.period is not None

    def commit(self) -> None:
        """Makes the roster's source what the draft is."""
        source = self.source
        source.last = self.last
        source.highest_sent_us = self.highest_sent_us
        source.milestone = self.milestone
        source.vendor_online = self.vendor_online
        source.period = self.period
        source.last_ended_us = self.last_ended_us
        source.trip = self.trip
        source.fresh_since_us = self.fresh_since_us


class DeviceDraft:
    """A device inside one transaction. `columns` are the values that its row gets."""

    __slots__ = ("columns", "device", "is_new", "online", "profile", "reason", "sources", "switched_from", "winner")

    def __init__(self, device: Device, *, is_new: bool = False) -> None:
        self.device = device
        self.is_new = is_new
        self.columns: dict[str, Any] = {}
        self.sources: dict[int, SourceDraft] = {}
        self.profile = device.profile
        self.online = device.online
        self.winner: SourceDraft | Source | None = device.winner
        self.switched_from: Source | None = None
        self.reason = ""

    @property
    def display_name(self) -> str:
        return names.resolve(self.profile, self.device.display_field, self.device.token)[0]

    def merge(self, profile: Profile, now_us: int) -> bool:
        """Takes over what a profile says; tells whether anything is new."""
        said = {field: getattr(profile, field) for field in names.DISPLAY_FIELDS}
        known = dict(self.profile or {})
        merged = {**known, **{field: value for field, value in said.items() if value is not None}}
        changed = merged != known
        if changed:
            self.profile = merged
            self.columns["profile"] = json.dumps(merged, ensure_ascii=False)
            self.columns["profile_updated_us"] = now_us
        if profile.handle is not None and profile.handle != (self.columns.get("handle") or self.device.handle):
            self.columns["handle"] = profile.handle
            changed = True
        return changed

    def commit(self) -> None:
        """Makes the roster's device what the draft is."""
        device, columns = self.device, self.columns
        device.profile = self.profile
        device.profile_updated_us = columns.get("profile_updated_us", device.profile_updated_us)
        device.handle = columns.get("handle", device.handle)
        device.online = self.online
        device.online_since_us = columns.get("online_since_us", device.online_since_us)
        if "stage" in columns:
            device.stage = Stage(columns["stage"])
            device.stage_at_us = columns["stage_at_us"]
        if "target" in columns:
            device.target = Place(**json.loads(columns["target"]))
        for draft in self.sources.values():
            draft.commit()
        if self.winner is not None:
            device.winner = self.winner.source if isinstance(self.winner, SourceDraft) else self.winner
            device.winner_since_us = columns.get("winner_since_us", device.winner_since_us)
