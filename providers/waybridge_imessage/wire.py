"""Linq's payloads, read: GeoJSON of a chat, sharing webhooks, errors. Pure: no I/O, no clock.

Sources: the vendor's Location Sharing page; RFC 7946; Linq's API v3 (chats/location, webhook-subscriptions).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeGuard

import msgspec

LONGEST_ID = 150
LARGEST = 1e12
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
AHEAD = timedelta(hours=24)
_SEPARATORS = re.compile(r"[\s().\-\u00a0\u2010-\u2015]+")
_PHONE = re.compile(r"\+?[0-9]{3,18}")


class NotUnderstood(ValueError):
    """A payload that is not what the vendor's pages describe; the message says what is wrong, without its values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One person of a chat. `updated_at` None: the vendor gave no (usable) time."""

    handle: str
    latitude: float
    longitude: float
    altitude_m: float | None = None
    address: str | None = None
    locality: str | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The people who share in a chat, the newest feature of each; `skipped` counts features of no use."""

    features: dict[str, Feature]
    skipped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingEvent:
    """A `location.sharing.*` webhook. `at` is when it ended (a stop), else when the event was made."""

    kind: Literal["started", "stopped"]
    event_id: str
    created_at: datetime
    shared_by: str
    shared_with: str
    chat_id: str | None
    began_at: datetime | None
    ends_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class VendorError:
    """The vendor's error envelope; `code` 0 where there is none."""

    code: int
    message: str
    retry_after: float | None


def parse_reading(body: bytes, now: datetime) -> Reading:
    """`GET /v3/chats/{id}/location`: a FeatureCollection, bare or in the success envelope.

    A feature that cannot be used is skipped and counted; it never hides the others. Raises NotUnderstood.
    """
    document = decode(body)
    collection = document.get("data", document)
    if not isinstance(collection, dict) or collection.get("type") != "FeatureCollection":
        raise NotUnderstood("the location is no FeatureCollection")
    items = collection.get("features")
    if not isinstance(items, list):
        raise NotUnderstood("the FeatureCollection has no list of features")
    newest: dict[str, Feature] = {}
    skipped = 0
    for item in items:
        feature = _feature(item, now)
        if feature is None:
            skipped += 1
            continue
        known = newest.get(feature.handle)
        if known is None or (feature.updated_at or EARLIEST) > (known.updated_at or EARLIEST):
            newest[feature.handle] = feature
    return Reading(newest, skipped)


def _feature(item: Any, now: datetime) -> Feature | None:
    match item:
        case {"geometry": {"type": "Point", "coordinates": [longitude, latitude, *rest]}, "properties": dict(said)}:
            handle = normalise_handle(said.get("handle"))
        case _:
            return None
    if handle is None or not _within(longitude, 180) or not _within(latitude, 90):
        return None
    updated_at = moment(said.get("updated_at"))
    if updated_at is not None and not EARLIEST <= updated_at <= now + AHEAD:
        return None
    altitude = rest[0] if rest and _finite(rest[0]) else None
    return Feature(
        handle=handle,
        latitude=float(latitude),
        longitude=float(longitude),
        altitude_m=None if altitude is None else float(altitude),
        address=_text(said.get("address")),
        locality=_text(said.get("locality")),
        updated_at=updated_at,
    )


def parse_event(document: dict[str, Any], fallback_id: str, now: datetime) -> SharingEvent | None:
    """A webhook's envelope; None for an event that is not about sharing. Raises NotUnderstood."""
    event_type = document.get("event_type")
    if not isinstance(event_type, str):
        raise NotUnderstood("the event has no event_type")
    if not event_type.startswith("location."):
        return None
    if event_type not in ("location.sharing.started", "location.sharing.stopped"):
        raise NotUnderstood("an unknown location event")
    data = document.get("data")
    if not isinstance(data, dict):
        raise NotUnderstood("the event has no data")
    by, line = normalise_handle(data.get("shared_by")), normalise_handle(data.get("shared_with"))
    if by is None or line is None:
        raise NotUnderstood("shared_by or shared_with is missing")
    chat = data.get("chat_id")
    if chat is not None and not is_chat_id(chat):
        raise NotUnderstood("chat_id is no id")
    return SharingEvent(
        kind="started" if event_type.endswith("started") else "stopped",
        event_id=event_id(document, fallback_id),
        created_at=_event_time(document, "created_at", now) or now,
        shared_by=by,
        shared_with=line,
        chat_id=chat,
        began_at=_event_time(data, "began_at", now),
        ends_at=moment(data.get("ends_at")),
        ended_at=_event_time(data, "ended_at", now),
    )


def event_id(document: dict[str, Any], fallback_id: str) -> str:
    """What tells retries of one event: its `event_id`, the same on every retry and subscription."""
    told = document.get("event_id")
    return told if isinstance(told, str) and told.strip() else fallback_id


def _event_time(said: dict[str, Any], field: str, now: datetime) -> datetime | None:
    value = said.get(field)
    if value is None:
        return None
    at = moment(value)
    if at is None or not EARLIEST <= at <= now + AHEAD:
        raise NotUnderstood(f"{field} is no time that can be")
    return at


def parse_error(body: bytes) -> VendorError:
    """The error envelope `{"success": false, "error": {...}, "trace_id"}`; tolerant, for any text may come."""
    try:
        told = decode(body).get("error")
    except NotUnderstood:
        told = None
    if not isinstance(told, dict):
        return VendorError(0, "", None)
    code, message, wait = told.get("code"), told.get("message"), told.get("retry_after")
    return VendorError(
        code if isinstance(code, int) and not isinstance(code, bool) else 0,
        _text(message) or "",
        float(wait) if _finite(wait) and wait >= 0 else None,
    )


def parse_handles(body: bytes) -> list[str]:
    """The other people of `GET /v3/chats/{id}`, ourselves left out."""
    document = decode(body)
    chat = document.get("data", document)
    people = chat.get("handles") if isinstance(chat, dict) else None
    if not isinstance(people, list):
        return []
    others = [
        normalise_handle(one.get("handle"))
        for one in people
        if isinstance(one, dict) and not one.get("is_me") and one.get("status") not in ("left", "removed")
    ]
    return [handle for handle in others if handle is not None]


def decode(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises NotUnderstood for everything else (NaN too)."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotUnderstood("the body is not JSON") from error
    if not isinstance(document, dict):
        raise NotUnderstood("the body is no JSON object")
    return document


def normalise_handle(value: Any) -> str | None:
    """A person's key: an E.164 number without its separators, an e-mail in lower case; never one for the other."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    compact = _SEPARATORS.sub("", text)
    if _PHONE.fullmatch(compact):
        return compact
    text = text.lower()
    return text if text and len(text) <= LONGEST_ID and text.isprintable() else None


def is_chat_id(value: Any) -> bool:
    """Whether text can be a chat's id (a UUID at the vendor; any short printable text is taken)."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_ID and value.isprintable() and value not in (".", "..")


def moment(value: Any) -> datetime | None:
    """An RFC 3339 time in UTC; a time without zone is taken as UTC; None for anything else."""
    if not isinstance(value, str) or "T" not in value.upper():
        return None
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _within(value: Any, limit: float) -> bool:
    return _finite(value) and -limit <= value <= limit


def _finite(value: Any) -> TypeGuard[float]:
    """A number, no boolean, of a size that means something (NaN and infinity are none)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    return "".join(c for c in value if c.isprintable()).strip()[:300] or None
