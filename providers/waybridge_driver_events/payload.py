"""What suppliers send -> typed values. Pure: no I/O, no clock. Every fault is a FieldError that names the field."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

MAX_BATCH: Final = 500
LONGEST_REFERENCE: Final = 90
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_DECIMALS: Final = 8
_LONGEST_INTEGER: Final = 400
_LONGEST_TEXT: Final = 300
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)([Zz]|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)


class EventType(StrEnum):
    """The six event types of the vendor; all but the live location happen once in a booking."""

    DEPARTED_TO_PICKUP = "DRIVER_DEPARTED_TO_PICKUP"
    ARRIVED_AT_PICKUP = "DRIVER_ARRIVED_AT_PICKUP"
    CUSTOMER_NO_SHOW = "DRIVER_SUBMITTED_CUSTOMER_NO_SHOW"
    DEPARTED_TO_DROPOFF = "DRIVER_DEPARTED_TO_DROPOFF"
    ARRIVED_AT_DROPOFF = "DRIVER_ARRIVED_AT_DROPOFF"
    LIVE_LOCATION = "DRIVER_LIVE_LOCATION"


class BookingStatus(StrEnum):
    """The vendor's states of a booking."""

    NEW = "NEW"
    ACCEPTED = "ACCEPTED"
    DRIVER_ASSIGNED = "DRIVER_ASSIGNED"
    PENDING_AMENDMENT = "PENDING_AMENDMENT"
    PENDING_CANCELLATION = "PENDING_CANCELLATION"
    CANCELLED = "CANCELLED"
    COMPLETE = "COMPLETE"


class FieldError(Exception):
    """A field that cannot be used; answered 400 as `<field>: <reason>`."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverEvent:
    """One event. `place` is (latitude, longitude); `naive` tells that its time came without a zone (taken as UTC)."""

    type: EventType
    occurred_at: datetime
    place: tuple[float, float] | None = None
    driver_id: str | None = None
    naive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A driver or a vehicle given to a booking; texts by the vendor's own names."""

    driver: dict[str, str] | None = None
    vehicle: dict[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BookingChange:
    """What a PUT changes: only the keys that it names are in `named` (null clears a place, a driver, a vehicle)."""

    named: frozenset[str]
    assigned_at: datetime | None = None
    pickup_at: datetime | None = None
    driver: dict[str, str] | None = None
    vehicle: dict[str, str] | None = None
    pickup: dict[str, Any] | None = None
    dropoff: dict[str, Any] | None = None
    status: BookingStatus | None = None


def decode(body: bytes) -> Any:
    """JSON in UTF-8 with every key once and no bare NaN. Raises FieldError."""
    try:
        return json.loads(
            body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_bounded_integer
        )
    except (ValueError, RecursionError) as error:
        raise FieldError("body", f"is not JSON ({error})") from error


def parse_event(tree: Any) -> DriverEvent:
    """One event of the vendor's reference page. Unknown fields are ignored. Raises FieldError."""
    fields = _object("body", tree)
    kind = _event_type(fields.get("event_type"))
    occurred_at, naive = parse_time("occurred_at", fields.get("occurred_at"))
    place = _place(fields)
    if place is None and kind is EventType.LIVE_LOCATION:
        raise FieldError("latitude", f"is required for {kind}")
    driver_id = fields.get("driver_id", fields.get("driverId"))
    return DriverEvent(
        type=kind, occurred_at=occurred_at, place=place, driver_id=_identity("driver_id", driver_id), naive=naive
    )


def parse_batch(tree: Any) -> list[Any]:
    """The events of a batch: a list of 1 to 500, or an object with such a list under `events`. Raises FieldError."""
    events = tree.get("events") if isinstance(tree, dict) else tree
    if not isinstance(events, list):
        raise FieldError("events", "must be a list")
    if not 1 <= len(events) <= MAX_BATCH:
        raise FieldError("events", f"must hold 1 to {MAX_BATCH} events")
    return events


def parse_assignment(tree: Any) -> Assignment:
    """The body of assignDriver: at least one of driver, vehicle, driverId. Raises FieldError."""
    fields = _object("body", tree)
    driver, vehicle = _driver(fields.get("driver")), _vehicle(fields.get("vehicle"))
    identity = _identity("driverId", fields.get("driverId"))
    if identity is not None:
        driver = {**(driver or {}), "driverId": identity}
    if driver is None and vehicle is None:
        raise FieldError("driver", "a driver, a vehicle or a driverId is required")
    return Assignment(driver=driver, vehicle=vehicle)


def parse_booking(tree: Any) -> BookingChange:
    """The body of the PUT that makes or changes a booking. Raises FieldError."""
    fields = _object("body", tree)
    return BookingChange(
        named=frozenset(fields),
        assigned_at=_optional_time(fields, "assigned_at"),
        pickup_at=_optional_time(fields, "pickup_at"),
        driver=_driver(fields.get("driver")),
        vehicle=_vehicle(fields.get("vehicle")),
        pickup=_spot("pickup", fields.get("pickup")),
        dropoff=_spot("dropoff", fields.get("dropoff")),
        status=_status(fields.get("status")),
    )


def parse_time(field: str, value: Any) -> tuple[datetime, bool]:
    """ISO 8601 date and time -> (UTC, whether it came without a zone). Raises FieldError."""
    if value is None:
        raise FieldError(field, "is required")
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise FieldError(field, "must be a date and time in ISO 8601")
    date, time, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{(zone or 'Z').upper()}").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise FieldError(field, "is not a time that exists") from error
    if moment < EARLIEST:
        raise FieldError(field, "is before 2000")
    return moment, zone is None


def valid_reference(text: str) -> bool:
    """Whether a reference can name a booking: 1 to 90 printable characters, no slash."""
    return 0 < len(text) <= LONGEST_REFERENCE and text.isprintable() and "/" not in text


def _event_type(value: Any) -> EventType:
    if value is None:
        raise FieldError("event_type", "is required")
    try:
        return EventType(value)
    except ValueError as error:
        raise FieldError("event_type", f"must be one of {', '.join(EventType)}") from error


def _place(fields: dict[str, Any]) -> tuple[float, float] | None:
    latitude, longitude = _degrees("latitude", fields, 90), _degrees("longitude", fields, 180)
    if latitude is None and longitude is None:
        return None
    if latitude is None or longitude is None:
        missing = "latitude" if latitude is None else "longitude"
        raise FieldError(missing, "is required with the other coordinate")
    return latitude, longitude


def _degrees(field: str, fields: dict[str, Any], bound: int) -> float | None:
    value = fields.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FieldError(field, "must be a number")
    if not -bound <= value <= bound:
        raise FieldError(field, f"must be between -{bound} and {bound}")
    return round(float(value), _DECIMALS)


def _spot(field: str, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    fields = _object(field, value)
    latitude, longitude = _degrees("latitude", fields, 90), _degrees("longitude", fields, 180)
    if latitude is None or longitude is None:
        raise FieldError(field, "latitude and longitude are required")
    return {"latitude": latitude, "longitude": longitude, "label": _text(f"{field}.label", fields.get("label"))}


def _driver(value: Any) -> dict[str, str] | None:
    names = {
        "firstName": "first_name",
        "lastName": "last_name",
        "telephoneNumber": "telephone_number",
        "photoURL": "photo_url",
    }
    texts = _texts("driver", value, names)
    if texts is not None:
        identity = _identity("driver.driverId", value.get("driverId", value.get("driver_id")))
        if identity is not None:
            texts["driverId"] = identity
    return texts


def _vehicle(value: Any) -> dict[str, str] | None:
    return _texts(
        "vehicle", value, {"make": "make", "model": "model", "registration": "registration", "colour": "color"}
    )


def _texts(field: str, value: Any, names: dict[str, str]) -> dict[str, str] | None:
    """The texts of an object by the vendor's names; the second spelling of each is taken as well."""
    if value is None:
        return None
    fields = _object(field, value)
    texts = {name: _text(f"{field}.{name}", fields.get(name, fields.get(other))) for name, other in names.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _text(field: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise FieldError(field, f"must be a text of at most {_LONGEST_TEXT} characters")
    if any(ord(character) < ord(" ") or "\ud800" <= character <= "\udfff" for character in value):
        raise FieldError(field, "must not contain control characters")
    return value


def _identity(field: str, value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(field, value)


def _status(value: Any) -> BookingStatus | None:
    if value is None:
        return None
    try:
        return BookingStatus.COMPLETE if value == "COMPLETED" else BookingStatus(value)
    except ValueError as error:
        raise FieldError("status", f"must be one of {', '.join(BookingStatus)}") from error


def _optional_time(fields: dict[str, Any], field: str) -> datetime | None:
    """A time of our own part of the API, which takes unix seconds as well."""
    value = fields.get(field)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            moment = datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise FieldError(field, "is not a time that exists") from error
        value = moment.isoformat()
    return None if value is None else parse_time(field, value)[0]


def _object(field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FieldError(field, "must be an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("duplicate key")
    return unique


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _bounded_integer(digits: str) -> int | float:
    return int(digits) if len(digits) < _LONGEST_INTEGER else math.inf
