"""Phones with Traccar Client or OsmAnd: `https://host/ingest/<connection>/?token=<device-bound token>`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import msgspec

from waybridge import (
    Answer,
    Capabilities,
    Position,
    Provider,
    ProviderSettings,
    Push,
    PushRejected,
    Receipt,
    hookimpl,
    vendor_device_token,
)


class OsmAndSettings(ProviderSettings):
    """Nothing to set; who may push is in the token."""


class OsmAnd(Provider[OsmAndSettings]):
    """Takes the OsmAnd form (query or body) and Traccar Client's JSON; a phone at rest is silent for long."""

    kind: ClassVar[str] = "osmand"
    Settings: ClassVar[type[ProviderSettings]] = OsmAndSettings
    capabilities: ClassVar[Capabilities] = Capabilities(
        receives=True, stale_after=900.0, expected_interval=60.0, token_in=frozenset({"header", "basic", "query"})
    )

    async def check(self) -> None:
        """Nothing to prove: phones come to us."""

    async def receive(self, push: Push) -> Receipt:
        """One fix of the form, or one or several of the JSON; all or nothing."""
        if push.method not in {"GET", "POST"} or any(push.segments):
            raise PushRejected(404 if any(push.segments) else 405, reason="fixes come to the connection itself")
        try:
            fixes = from_json(push.body) if push.body.lstrip()[:1] in {b"{", b"["} else [from_form(push)]
            reports = [self._position(push, name, fields) for name, fields in fixes]
        except (ValueError, OverflowError, msgspec.ValidationError, msgspec.DecodeError, RecursionError) as error:
            problem = {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": str(error)}
            headers = {"Content-Type": "application/problem+json"}
            raise PushRejected(400, msgspec.json.encode(problem), headers=headers) from error
        return Receipt(reports=reports, answer=Answer(content_type=None))

    def _position(self, push: Push, name: str, fields: dict[str, Any]) -> Position:
        """Of the payload's own id, unless the token is bound to another device: then of that one."""
        bound = push.sender.device_token if push.sender is not None else None
        if bound not in {None, vendor_device_token(self.context.instance_id, self.context.connection_id, name)}:
            name = str(bound)
        if not name:
            raise ValueError("id is required")
        return Position(source=self.context.source(name), **({"recorded_at": push.received_at} | fields))


class _Coords(msgspec.Struct):
    """m, m/s, degrees; what is unknown is negative."""

    latitude: float
    longitude: float
    altitude: float | None = None
    accuracy: float | None = None
    speed: float | None = None
    heading: float | None = None


class _Location(msgspec.Struct):
    timestamp: str
    coords: _Coords
    battery: dict[str, Any] = {}


class _Body(msgspec.Struct):
    location: _Location | list[_Location]
    device_id: str | int = ""


def from_json(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Traccar Client 9 and newer -> (id, fields of a position). Raises msgspec's errors and ValueError."""
    found = []
    tree = msgspec.json.decode(body)
    for part in msgspec.convert(tree if isinstance(tree, list) else [tree], list[_Body]):
        for location in part.location if isinstance(part.location, list) else [part.location]:
            at, level = location.coords, msgspec.convert(location.battery.get("level"), float | None)
            fields = {"recorded_at": _time(location.timestamp), "latitude": at.latitude, "longitude": at.longitude}
            fields |= {"altitude_m": at.altitude, "accuracy_m": at.accuracy, "speed_mps": at.speed}
            fields |= {"heading_deg": at.heading, "battery": level if level is None or level >= 0 else None}
            found.append((str(part.device_id), fields))
    return found


def from_form(push: Push) -> tuple[str, dict[str, Any]]:
    """OsmAnd and older Traccar Clients (knots, degrees, per cent) -> (id, fields of a position). Raises ValueError.

    A form is text throughout, so its numbers are texts; one that is no number names its field.
    """
    form = dict(push.query) | dict(parse_qsl(push.body.decode("utf-8", "replace"), max_num_fields=100))
    if "location" in form:
        form["lat"], _, form["lon"] = form["location"].partition(",")

    def number(name: str, factor: float = 1.0) -> float | None:
        try:
            return msgspec.json.decode(form[name], type=float) * factor if form.get(name) else None
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise ValueError(f"{name} must be a number") from error

    latitude, longitude, heading = number("lat"), number("lon"), number("bearing")
    if latitude is None or longitude is None:
        raise ValueError("lat and lon are required")
    fields: dict[str, Any] = {"latitude": latitude, "longitude": longitude, "altitude_m": number("altitude")}
    fields |= {"accuracy_m": number("accuracy"), "speed_mps": number("speed", 1852 / 3600)}
    fields |= {"heading_deg": number("heading") if heading is None else heading, "battery": number("batt", 0.01)}
    if form.get("timestamp"):
        fields["recorded_at"] = _time(form["timestamp"])
    return form.get("id") or form.get("deviceid") or "", fields


def _time(text: str) -> datetime:
    """Unix seconds or milliseconds, or ISO 8601; without a zone UTC, as Traccar reads it."""
    if text.replace(".", "", 1).isdecimal():
        number = float(text)
        return datetime.fromtimestamp(number if number < 2**31 else number / 1000, UTC)
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)


@hookimpl
def waybridge_providers() -> list[type[Provider[OsmAndSettings]]]:
    return [OsmAnd]
