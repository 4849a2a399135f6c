"""The straight way of plain fixes, which are nearly all that come in.

A fix is plain when it is newer than all that its source ever sent, its device has no other source, is online and on
a trip that goes on, and nothing about sharing changes: then all that changes is where the device is. No draft is made
for it, and what is not plain takes the long way (recording.py), as does all that its source sends behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec.structs import force_setattr

from waybridge.bus import Fix, PositionEvent
from waybridge.consent import Consent
from waybridge.model import Position, Report
from waybridge.provider import Outcome
from waybridge.roster import Policy, Source
from waybridge.sources import limit_us
from waybridge.store import fixes
from waybridge.trips import stays

Entry: TypeAlias = tuple[int, Report, Fix | None]
"""A report with its index in what its sender handed in; a position with the fix that it is, if it is kept."""


class Plain(Consent):
    """The plain fixes of a group; call `take_plain` for everybody's entries before anything else."""

    def take_plain(self, policy: Policy, entries: Sequence[Entry], outcome: Outcome) -> Sequence[Entry]:
        """Takes the plain fixes in and returns the entries that are left, in order."""
        known = self._roster.sources_of(policy.instance_id, policy.connection_id)
        plain, held, rules, published = self._plain, self._held, self._rules, self._plain_events
        instance_id, left = policy.instance_id, []
        for entry in entries:
            report, fix = entry[1], entry[2]
            source = known.get(report.source.external_id)
            if source is None or source in held:
                left.append(entry)
                continue
            newest = plain.get(source)
            previous = newest[0] if newest is not None else source.last if _quiet(source) else None
            trip = source.trip
            if (
                previous is None
                or trip is None
                or fix is None
                or fix.flags
                or fix.sent_us <= (source.highest_sent_us if newest is None else previous.sent_us)
                or fix.recorded_us <= previous.recorded_us
                or fix.recorded_us - previous.recorded_us > limit_us(source)
                or not isinstance(report, Position)
                or report.online is not source.vendor_online
                or report.history_only
                or not stays(trip, previous, fix, report.track_token, rules)
            ):
                held.add(source)
                left.append(entry)
                continue
            device = source.device
            force_setattr(fix, "trip_id", trip.id)  # nobody has seen it yet
            row = fixes.row(source.id, device.id, 0, fix)
            if self._history:
                self._rows.append(row)
            plain[source] = fix, row
            published.append(
                PositionEvent(
                    instance_id, device.id, device.token, source.id, fix, trip.track_token, True, source.visible
                )
            )
        outcome.accepted += len(entries) - len(left)
        return left


def _quiet(source: Source) -> bool:
    """Whether a source is alone, online and shares as it does, so that its next fix may be plain."""
    device, policy = source.device, source.policy
    return (
        device.online is True
        and device.winner is source
        and len(device.sources) == 1
        and source.vendor_online is not False
        and (source.period is not None or (policy.begins == "report" and policy.consent != "all"))
    )
