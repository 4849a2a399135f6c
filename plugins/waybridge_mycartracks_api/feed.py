"""What one stream has told of which vehicle, and what it owes: pure, on a clock that is handed in.

It owes each vehicle's newest position only, so that it never holds more than one a vehicle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from waybridge_mycartracks_api.words import offline, updated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from waybridge import DeviceView


@dataclass(slots=True, kw_only=True)
class Choice:
    """The vehicles that a stream was asked for. `group_tokens` are the members of its groups, kept fresh."""

    numbers: frozenset[int] | None = None
    groups: frozenset[int] | None = None
    group_tokens: frozenset[tuple[str, str]] = field(default_factory=frozenset)

    def covers(self, view: DeviceView) -> bool:
        if self.numbers is not None:
            return view.number in self.numbers
        return self.groups is None or (view.instance_id, view.device_token) in self.group_tokens


@dataclass(slots=True)
class _Known:
    """What has been told, or was known before the stream began."""

    recorded_at: datetime | None
    there: bool


class Feed:
    """Turns changed devices into events: a vehicle's at most once per `interval`, its going offline at once."""

    def __init__(self, choice: Choice, fields: frozenset[str] | None, interval: float) -> None:
        self._choice = choice
        self._fields = fields
        self._interval = interval
        self._known: dict[int, _Known] = {}
        self._owed: dict[int, DeviceView] = {}
        self._told_at: dict[int, float] = {}
        self._notices: list[dict[str, Any]] = []

    def begin(self, views: Sequence[DeviceView], since: datetime) -> None:
        """The state at the start. Positions that came in after `since` (when the stream was made) are news."""
        for view in views:
            if not self._choice.covers(view):
                continue
            fix = view.position if view.visible else None
            news = fix is not None and fix.received_at is not None and fix.received_at >= since
            self._known[view.number] = _Known(None if fix is None else fix.recorded_at, _is_there(view))
            if news:
                self._owed[view.number] = view

    def take(self, views: Sequence[DeviceView]) -> None:
        """Devices that changed."""
        for view in views:
            if self._choice.covers(view):
                self._take(view)

    def due(self, now: float) -> list[dict[str, Any]]:
        """The events that may be sent now; they count as told."""
        events, self._notices = self._notices, []
        for number in [number for number in self._owed if self._due_at(number) <= now]:
            self._told_at[number] = now
            events += self._event(self._owed.pop(number))
        return events

    def wait(self, now: float) -> float:
        """Seconds until `due` has something; infinite when nothing is owed."""
        if self._notices:
            return 0.0
        return max(min((self._due_at(number) for number in self._owed), default=float("inf")) - now, 0.0)

    def _take(self, view: DeviceView) -> None:
        known = self._known.setdefault(view.number, _Known(None, there=False))
        fix = view.position if view.visible else None
        if fix is not None and (known.recorded_at is None or fix.recorded_at > known.recorded_at):
            known.recorded_at = fix.recorded_at
            self._owed[view.number] = view
        elif view.number in self._owed and fix is not None and fix.recorded_at == known.recorded_at:
            self._owed[view.number] = view  # the same fix under another name
        there = _is_there(view)
        if known.there and not there:
            self._leave(view, known)
        known.there = there

    def _leave(self, view: DeviceView, known: _Known) -> None:
        """Tells that it is offline, after its last position if that may be seen; one that hides leaves nothing."""
        owed = self._owed.pop(view.number, None)
        if owed is not None and view.visible:
            self._notices += self._event(owed)
        self._notices.append(offline(view.number, known.recorded_at))

    def _event(self, view: DeviceView) -> list[dict[str, Any]]:
        return [] if view.position is None else [updated(view, view.position, self._fields)]

    def _due_at(self, number: int) -> float:
        return self._told_at.get(number, float("-inf")) + self._interval


def _is_there(view: DeviceView) -> bool:
    return view.visible and view.online is not False
