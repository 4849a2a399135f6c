"""The one position model: what a source said, and what the gateway accepted (standard library only).

Everything is in SI units, WGS 84 degrees and aware UTC datetimes. Unknown is None, never 0.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

NO_ATTRIBUTES: Mapping[str, Any] = MappingProxyType({})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
DEVICE_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "waybridge")


def no_attributes() -> Mapping[str, Any]:
    """The one empty mapping that everything without attributes shares."""
    return NO_ATTRIBUTES


@dataclass(frozen=True, slots=True)
class SourceKey:
    """One tracked thing as one connection knows it; `external_id` is the vendor's own id as text."""

    connection_id: str
    external_id: str


@dataclass(frozen=True, slots=True)
class Place:
    """A point with a label, e.g. a booking's pickup."""

    latitude: float
    longitude: float
    label: str | None = None


class Stage(StrEnum):
    """What a viewer is told about the journey."""

    WAITING = "waiting"
    NOT_SHARING = "not_sharing"
    LIVE = "live"
    EN_ROUTE_TO_PICKUP = "en_route_to_pickup"
    AT_PICKUP = "at_pickup"
    ON_TRIP = "on_trip"
    ARRIVED = "arrived"
    NO_SHOW = "no_show"
    TRIP_ENDED = "trip_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """One observation of a source.

    `live=False` marks a coordinate that is history and last-known for operators only: it never opens a
    sharing period and never reaches a viewer (a booking's milestone, for example). `history_only=True` keeps it in
    its trip's track alone: it is nobody's last position, however new it is (what arrives after an end).
    """

    source: SourceKey
    latitude: float
    longitude: float
    recorded_at: datetime
    received_at: datetime | None = None
    altitude_m: float | None = None
    accuracy_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None
    track_token: str | None = None
    online: bool | None = None
    address: str | None = None
    locality: str | None = None
    battery: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=no_attributes)
    live: bool = True
    history_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline:
    """The vendor says that the source stopped sending; carries no coordinate."""

    source: SourceKey
    last_seen_at: datetime | None = None


StartCause: TypeAlias = Literal["consent", "first_live_location", "online", "share_created"]
StopCause: TypeAlias = Literal[
    "consent_withdrawn",
    "expired",
    "lapsed",
    "arrived_at_dropoff",
    "customer_no_show",
    "booking_cancelled",
    "offline",
    "completed",
    "cancelled",
    "erased",
    "connection_removed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingStarted:
    """A source lets its location be seen from `began_at` on (until `ends_at`, when it is time-boxed)."""

    source: SourceKey
    began_at: datetime
    ends_at: datetime | None = None
    cause: StartCause = "consent"
    shared_by: str | None = None
    shared_with: str | None = None
    chat_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingStopped:
    """The source's sharing period ended; nothing of it is published afterwards."""

    source: SourceKey
    ended_at: datetime
    cause: StopCause = "consent_withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone:
    """A step of a journey: a `driver.event` when `event_type` is set, and what viewers are told.

    `stage` None leaves the stage as it is; `target` is where the journey heads now (shown by shares without
    a destination of their own), None leaves it. `completes_shares` ends the device's share sessions as
    completed, in the same transaction.
    """

    source: SourceKey
    occurred_at: datetime
    event_type: str | None = None
    stage: Stage | None = None
    target: Place | None = None
    completes_shares: bool = False
    references: Mapping[str, str] = field(default_factory=no_attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Who or what the source is. As a report it makes the device known, before it ever moved.

    Absent (None) fields leave what is known; a profile never erases.
    """

    source: SourceKey
    first_name: str | None = None
    last_name: str | None = None
    full_name: str | None = None
    nickname: str | None = None
    email: str | None = None
    phone: str | None = None
    client_id: str | None = None
    handle: str | None = None


Report: TypeAlias = Position | Offline | SharingStarted | SharingStopped | Milestone | Profile


def now_utc() -> datetime:
    """The wall clock, aware."""
    return datetime.now(UTC)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 UTC, exactly; how the store keeps times."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_us(us: int) -> datetime:
    """The aware datetime of microseconds since 1970 UTC."""
    return EPOCH + timedelta(microseconds=us)


def iso(moment: datetime) -> str:
    """RFC 3339 in UTC with Z; fractions only where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def iso_us(us: int | None) -> str | None:
    """RFC 3339 of microseconds since 1970 UTC; None stays None."""
    return None if us is None else iso(from_us(us))


def canonical_token(text: str) -> str:
    """A device token as it is stored and compared: UUIDs dashed lower-case, anything else as it is.

    Raises ValueError for text that is no token: empty, over 200 characters, or with control characters.
    """
    if not text or len(text) > 200:
        raise ValueError("must be 1 to 200 characters")
    if not text.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise ValueError("must not contain control characters")
    if len(text) in (32, 36) and _looks_like_uuid(text):
        return str(uuid.UUID(text))
    return text


def _looks_like_uuid(text: str) -> bool:
    digits = text.replace("-", "")
    if len(text) == 36 and not (text[8] == text[13] == text[18] == text[23] == "-"):
        return False
    return len(digits) == 32 and all(c in "0123456789abcdefABCDEF" for c in digits)


def vendor_device_token(instance_id: str, connection_id: str, external_id: str) -> str:
    """The token of the device that a vendor's source makes: it never changes and anybody can compute it."""
    return str(uuid.uuid5(DEVICE_NAMESPACE, f"{instance_id}/{connection_id}/{external_id}"))


def finite(value: float | None) -> bool:
    """Whether a value is a finite number and not a boolean."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
