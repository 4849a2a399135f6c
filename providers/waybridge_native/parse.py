"""The body of a native push -> positions and refusals. Pure: no I/O, no clock.

A well-formed body takes one typed decode. What that decode refuses is read again item by item, so that one bad
item is named and the rest of its batch kept. Duplicate keys, which the typed decode overlooks, are told by
arithmetic: in a body without escapes, a colon that belongs to no decoded key and no decoded text is a key
that was not decoded (unknown, null or duplicate), and only then is the body searched for duplicates.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from waybridge import Position, Rejection, SourceKey, canonical_token
from waybridge_native.draft import Draft

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_POSITIONS: Final = 1000
_CACHED_TOKENS: Final = 50_000
_LONGEST_INTEGER: Final = 400
_NO_ATTRIBUTES: Final[Mapping[str, Any]] = MappingProxyType({})
_ISO: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)([Zz]|[+-]\d\d(?::?\d\d)?)", re.ASCII)
_OPTIONAL: Final = ("altitude", "accuracy", "speed", "heading", "battery")
_encode = msgspec.json.Encoder().encode
_from_timestamp = datetime.fromtimestamp


class MalformedBody(Exception):
    """The body is not JSON as the contract wants it: answered 400."""


class InvalidBody(Exception):
    """The body is JSON of the wrong shape as a whole: answered 422 with this field and message."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field or 'body'}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Parsed:
    """Positions in the sender's order; `indexes` are their places in the sender's list when some were refused."""

    positions: list[Position]
    rejected: list[Rejection]
    indexes: list[int] | None
    instance_id: str | None


class _Item(msgspec.Struct, gc=False):
    device_token: str
    latitude: float
    longitude: float
    timestamp: float | str
    speed: float | None = None
    heading: float | None = None
    accuracy: float | None = None
    altitude: float | None = None
    battery: float | None = None
    track_token: str | None = None
    attributes: dict[str, Any] | None = None


class _Single(_Item, gc=False):
    instance_id: str | None = None


class _Batch(msgspec.Struct, gc=False):
    positions: list[_Item]
    instance_id: str | None = None


_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_single = msgspec.json.Decoder(_Single).decode


class Parser:
    """Parses the bodies of one connection.

    `source` makes the key of an external id; the keys are kept and shared between positions, and forgotten all
    at once when there are too many. `most` is how many positions one body may hold.
    """

    def __init__(self, source: Callable[[str], SourceKey], most: int = MAX_POSITIONS) -> None:
        self._source = source
        self._most = most
        self._keys: dict[str, tuple[SourceKey, int]] = {}

    def parse(self, body: bytes) -> Parsed:
        """Raises MalformedBody or InvalidBody when the body is refused as a whole."""
        try:
            return self._quick(body) or self._careful(body)
        except RecursionError as error:
            raise MalformedBody("nested too deeply") from error

    def _quick(self, body: bytes) -> Parsed | None:
        """The positions of a body in which nothing is to be refused; None where it takes a closer look."""
        if b"\\" in body:
            return None
        try:
            if b'"positions"' in body:
                batch = _decode_batch(body)
                items: list[_Item] = batch.positions
                instance_id, colons = batch.instance_id, 1
                if not 0 < len(items) <= self._most:
                    return None
            else:
                single = _decode_single(body)
                items, instance_id, colons = [single], single.instance_id, 0
            if instance_id is not None:
                colons += 1 + instance_id.count(":")
            positions, more = self._positions(items)
        except (msgspec.DecodeError, ValueError, OverflowError, OSError):
            return None
        if colons + more != body.count(b":"):
            decode_strictly(body)
        return Parsed(positions, [], None, instance_id)

    def _positions(self, items: list[_Item]) -> tuple[list[Position], int]:
        """Positions, and how many colons they explain. Raises ValueError & Co. where a text or a time is wrong."""
        keys, positions, colons = self._keys, [], 4 * len(items)
        for item in items:
            source, in_token = keys.get(item.device_token) or self._key(item.device_token)
            stamp = item.timestamp
            if isinstance(stamp, str):
                recorded_at = parse_iso(stamp)
                colons += stamp.count(":")
            else:
                recorded_at = _from_timestamp(stamp, UTC)
            colons += in_token
            if (altitude := item.altitude) is not None:
                colons += 1
            if (accuracy := item.accuracy) is not None:
                colons += 1
            if (speed := item.speed) is not None:
                colons += 1
            if (heading := item.heading) is not None:
                colons += 1
            if (battery := item.battery) is not None:
                colons += 1
            if (track_token := item.track_token) is not None:
                canonical_token(track_token)
                colons += 1 + track_token.count(":")
            attributes: Mapping[str, Any] = _NO_ATTRIBUTES
            if item.attributes is not None:
                attributes = item.attributes
                colons += 1 + _encode(attributes).count(b":")
            draft = Draft(
                source, item.latitude, item.longitude, recorded_at, altitude, accuracy, speed, heading, track_token,
                battery, attributes,
            )  # fmt: skip
            positions.append(draft.done())
        return positions, colons

    def _key(self, device_token: str) -> tuple[SourceKey, int]:
        """The source of a device token, with the number of colons in the token. Raises ValueError."""
        if len(self._keys) >= _CACHED_TOKENS:
            self._keys.clear()
        key = self._source(canonical_token(device_token)), device_token.count(":")
        self._keys[device_token] = key
        return key

    def _careful(self, body: bytes) -> Parsed:
        """The same item by item: slower, but it names what is wrong and keeps the rest."""
        tree = decode_strictly(body)
        if not isinstance(tree, dict):
            raise InvalidBody("", "must be a position or an object with `positions`")
        instance_id = tree.get("instance_id")
        if instance_id is not None and not isinstance(instance_id, str):
            raise InvalidBody("instance_id", "must be a text")
        items = tree.get("positions", [tree])
        if not isinstance(items, list):
            raise InvalidBody("positions", "must be a list")
        if not 0 < len(items) <= self._most:
            raise InvalidBody("positions", f"must hold 1 to {self._most} positions, not {len(items)}")
        positions, rejected, indexes = [], [], []
        for index, item in enumerate(items):
            try:
                positions.append(self._one(item))
            except _Refused as refused:
                rejected.append(Rejection(index, refused.field, refused.error))
            else:
                indexes.append(index)
        return Parsed(positions, rejected, indexes, instance_id)

    def _one(self, item: Any) -> Position:
        if not isinstance(item, dict):
            raise _Refused("", "must be an object")
        token = _text(item, "device_token")
        if token is None:
            raise _Refused("device_token", "is required")
        latitude, longitude = _number(item, "latitude"), _number(item, "longitude")
        if latitude is None or longitude is None:
            raise _Refused("latitude" if latitude is None else "longitude", "is required")
        recorded_at = _time(item.get("timestamp"))
        altitude, accuracy, speed, heading, battery = (_number(item, field) for field in _OPTIONAL)
        source, _ = self._keys.get(token) or self._key(token)
        return Draft(
            source, latitude, longitude, recorded_at, altitude, accuracy, speed, heading,
            _text(item, "track_token"), battery, _attributes(item.get("attributes")),
        ).done()  # fmt: skip


class _Refused(Exception):
    def __init__(self, field: str, error: str) -> None:
        super().__init__(field, error)
        self.field = field
        self.error = error


def decode_strictly(body: bytes) -> Any:
    """JSON with every key once, no bare NaN or Infinity, in UTF-8. Numbers too big for a double become infinite.

    Raises MalformedBody.
    """
    try:
        return json.loads(
            body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_bounded_integer
        )
    except ValueError as error:
        raise MalformedBody(f"not JSON: {error}") from error


def parse_iso(text: str) -> datetime:
    """An ISO 8601 date and time with a zone, in UTC. Raises ValueError or OverflowError."""
    match = _ISO.fullmatch(text)
    if match is None:
        raise ValueError("must be unix seconds or ISO 8601 with a zone")
    date, time, zone = match.groups()
    return datetime.fromisoformat(f"{date}T{time}{zone.upper()}").astimezone(UTC)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("duplicate key")
    return unique


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _bounded_integer(digits: str) -> int | float:
    return int(digits) if len(digits) < _LONGEST_INTEGER else math.inf


def _number(item: Mapping[str, Any], field: str) -> float | None:
    value = item.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Refused(field, "must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _Refused(field, "must be finite")
    return number


def _text(item: Mapping[str, Any], field: str) -> str | None:
    """A token of 1 to 200 characters, none of them a control character; as sent."""
    value = item.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Refused(field, "must be a text")
    try:
        canonical_token(value)
    except ValueError as error:
        raise _Refused(field, str(error)) from error
    return value


def _time(value: Any) -> datetime:
    try:
        match value:
            case None:
                raise _Refused("timestamp", "is required")
            case str():
                return parse_iso(value)
            case bool():
                raise _Refused("timestamp", "must be unix seconds or ISO 8601 with a zone")
            case int() | float():
                return _from_timestamp(float(value), UTC)
            case _:
                raise _Refused("timestamp", "must be unix seconds or ISO 8601 with a zone")
    except OverflowError as error:
        raise _Refused("timestamp", "is out of range") from error
    except (ValueError, OSError) as error:
        message = str(error) if isinstance(value, str) else "is out of range"
        raise _Refused("timestamp", message) from error


def _attributes(value: Any) -> Mapping[str, Any]:
    if value is None:
        return _NO_ATTRIBUTES
    if not isinstance(value, dict):
        raise _Refused("attributes", "must be an object")
    if not _storable(value):
        raise _Refused("attributes", "must not contain NUL, lone surrogates or numbers that are not finite")
    return value


def _storable(value: Any) -> bool:
    """Whether every database keeps the value as it is."""
    match value:
        case str():
            return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
        case float():
            return math.isfinite(value)
        case dict():
            return all(_storable(key) and _storable(inner) for key, inner in value.items())
        case list():
            return all(map(_storable, value))
        case _:
            return True
