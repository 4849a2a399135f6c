"""The catalogue of events, which of them a subscription hears, and the envelope they travel in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waybridge.model import iso_us

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from waybridge.store.webhooks import Subscription, Told

API_VERSION = "v3"
WEBHOOK_VERSION = "2026-02-03"
"""The dated version of the envelope, which is that of Linq's webhooks (its clients read it)."""

TEST_EVENT = "webhook.test"
LONGEST_NAME = 100
EVENT_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")

_SHARING = (
    "sharing_id", "kind", "device_token", "provider", "connection_id", "shared_by", "shared_with", "chat_id",
    "began_at", "ends_at", "cause", "share_session_id",
)  # fmt: skip
_SESSION = (
    "id", "device_token", "instance_id", "status", "created_at", "updated_at", "expires_at", "completed_at",
    "cancelled_at", "order_id", "recipient_name", "notes", "track_token", "destination", "share_config", "views",
)  # fmt: skip
_FRESHNESS = ("device_token", "provider", "since", "last_seen_at")
_CONNECTION = ("connection_id", "state", "detail")


@dataclass(frozen=True, slots=True)
class EventKind:
    """One kind of event: when it is sent, and the keys of its `data` that a receiver may rely on."""

    name: str
    when: str
    fields: tuple[str, ...]


CATALOGUE: tuple[EventKind, ...] = (
    EventKind("location.sharing.started", "A source begins to share its location, or a share is created.", _SHARING),
    EventKind("location.sharing.stopped", "What was started ends; same sharing_id.", (*_SHARING, "ended_at")),
    EventKind("share.session.created", "A share session is created.", _SESSION),
    EventKind("share.session.updated", "A share session is changed.", _SESSION),
    EventKind("share.session.viewed", "A share session is seen for the first time.", _SESSION),
    EventKind("share.session.completed", "A share session is completed.", _SESSION),
    EventKind("share.session.cancelled", "A share session is cancelled.", _SESSION),
    EventKind("share.session.expired", "A share session expires.", _SESSION),
    EventKind("device.online", "A device sends again.", _FRESHNESS),
    EventKind("device.offline", "A device stopped sending, or its vendor says so.", _FRESHNESS),
    EventKind("source.changed", "Another source of a device wins.", ("device_token", "from", "to", "reason")),
    EventKind(
        "driver.event",
        "A booking's lifecycle event is accepted.",
        ("device_token", "customer_reference", "booking_reference", "event_type", "occurred_at"),
    ),
    EventKind("connection.degraded", "A connection stopped working.", _CONNECTION),
    EventKind("connection.recovered", "A connection works again.", _CONNECTION),
    EventKind("webhook.disabled", "A subscription was switched off by the gateway.", ("subscription_id", "reason")),
    EventKind("message.exhausted", "An event was given up after its last retry.",
              ("subscription_id", "event_id", "attempts")),
)  # fmt: skip
NAMES: tuple[str, ...] = tuple(kind.name for kind in CATALOGUE)
OPERATIONS: frozenset[str] = frozenset({"webhook.disabled", "message.exhausted", TEST_EVENT})
"""Events about deliveries; that one of them was given up is not told by another."""


def matches(patterns: Iterable[str], event_type: str) -> bool:
    """Whether a name or a wildcard (`device.*`, `*`) among the patterns names the event."""
    return any(
        pattern == event_type or (pattern[-1:] == "*" and event_type.startswith(pattern[:-1])) for pattern in patterns
    )


def acceptable(pattern: str, *, foreign: bool) -> bool:
    """Whether a subscription may name this: an event, a wildcard that covers one, or with `foreign` any name."""
    if pattern in NAMES or pattern == "*":
        return True
    if pattern.endswith(".*"):
        return any(name.startswith(pattern[:-1]) for name in NAMES) or (foreign and _is_name(pattern[:-1] + "x"))
    return foreign and _is_name(pattern)


class Hearer:
    """A subscription, made ready to be asked about many events.

    Every filter that is set must agree. A filter by device or group keeps events without a device out, one by
    cause keeps those without a cause out; one by phone number applies to events that tell with whom is shared.
    """

    __slots__ = ("_causes", "_groups", "_lines", "_tokens", "_types", "subscription")

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self._types: dict[str, bool] = {}
        self._tokens = _set(subscription.device_tokens)
        self._groups = _set(subscription.groups)
        self._causes = _set(subscription.causes)
        self._lines = _set(subscription.phone_numbers)

    @property
    def by_group(self) -> bool:
        """Whether it must be told the groups of an event's device."""
        return self._groups is not None

    def wants(self, event: Told, groups_of_device: Collection[str]) -> bool:
        """Whether the subscription hears of an event; `groups_of_device` are the event's device's groups."""
        if event.instance_id != self.subscription.instance_id or not self._hears(event.event_type):
            return False
        if self._tokens is not None or self._groups is not None:
            named = event.device_token is not None and event.device_token in (self._tokens or ())
            if not named and (self._groups is None or self._groups.isdisjoint(groups_of_device)):
                return False
        if self._causes is not None and event.cause not in self._causes:
            return False
        if self._lines is None:
            return True
        line = _line(event)
        return line is None or line in self._lines

    def _hears(self, event_type: str) -> bool:
        known = self._types.get(event_type)
        if known is None:
            known = self._types[event_type] = matches(self.subscription.subscribed_events, event_type)
        return known


def envelope(event: Told) -> bytes:
    """The body of a webhook: the same bytes whenever it is made of the same event."""
    head = {
        "api_version": API_VERSION,
        "webhook_version": WEBHOOK_VERSION,
        "event_type": event.event_type,
        "event_id": event.event_id,
        "created_at": iso_us(event.created_us),
        "trace_id": event.trace_id,
        "instance_id": event.instance_id,
        "partner_id": event.instance_id,
    }
    return (json.dumps(head, separators=(",", ":"))[:-1] + ',"data":' + event.data + "}").encode()


def _set(values: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def _line(event: Told) -> str | None:
    if not event.event_type.startswith("location.sharing."):
        return None
    shared_with = json.loads(event.data).get("shared_with")
    return shared_with if isinstance(shared_with, str) and shared_with.startswith("+") else None


def _is_name(text: str) -> bool:
    return len(text) <= LONGEST_NAME and EVENT_NAME.fullmatch(text) is not None
