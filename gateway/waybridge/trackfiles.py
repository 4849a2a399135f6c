"""Track files: CSV, GPX and GeoJSON become fixes, in the order in which they were taken."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET  # expat of Python 3.11 refuses entity bombs; external entities are never fetched
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from waybridge.errors import WaybridgeError

NAMES: Mapping[str, tuple[str, ...]] = {
    "device": ("device_token", "device", "vehicle_id", "vehicleid", "vehicle", "name", "id"),
    "timestamp": ("timestamp", "time", "recorded_at", "datetime", "date"),
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lon", "lng", "long"),
    "speed": ("speed", "speed_mps"),
    "heading": ("heading", "bearing", "course"),
    "altitude": ("altitude", "ele", "elevation"),
    "accuracy": ("accuracy",),
    "track": ("track_token", "trip_id", "trip"),
}
"""Column names that are understood, best first. `device` prefers a vehicle over a row's own `id`."""


class UnreadableTrack(WaybridgeError):
    """The file holds no track that can be played; the message says where and why."""


def read(path: Path, *, columns: str | None = None, device: str | None = None) -> list[dict[str, Any]]:
    """The fixes of a file as native positions (contract section 6), oldest first.

    `columns` maps a CSV's columns ("device=bus,timestamp=when"); `device` names the device of a file that does
    not, else the file's name does. Raises UnreadableTrack.
    """
    fallback = device or path.stem
    text = path.read_text(encoding="utf-8-sig")
    match path.suffix.lower():
        case ".csv" | ".tsv" | ".txt":
            fixes = list(_from_csv(text, _mapping(columns), fallback))
        case ".gpx":
            fixes = list(_from_gpx(text, fallback))
        case ".geojson" | ".json":
            fixes = list(_from_geojson(text, fallback))
        case other:
            raise UnreadableTrack(f"{path.name}: {other or 'no ending'} is none of .csv, .gpx, .geojson")
    if not fixes:
        raise UnreadableTrack(f"{path.name}: there is no fix in it")
    fixes.sort(key=lambda fix: fix["timestamp"])
    return fixes


def _mapping(columns: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in (columns or "").split(","):
        if not part:
            continue
        field, equals, name = part.partition("=")
        if not equals or field not in NAMES:
            raise UnreadableTrack(f"--columns: {part!r} is not FIELD=COLUMN with one of {', '.join(NAMES)}")
        found[field] = name
    return found


def _from_csv(text: str, chosen: Mapping[str, str], fallback: str) -> Iterator[dict[str, Any]]:
    rows = csv.reader(text.splitlines())
    header = next(rows, [])
    places = {name.strip().lower(): number for number, name in enumerate(header)}
    where: dict[str, int] = {}
    for field, names in NAMES.items():
        wanted = (chosen[field].lower(),) if field in chosen else names
        number = next((places[name] for name in wanted if name in places), None)
        if number is not None:
            where[field] = number
        elif field in chosen:
            raise UnreadableTrack(f"--columns: there is no column {chosen[field]!r}; there are {', '.join(header)}")
    missing = [field for field in ("timestamp", "latitude", "longitude") if field not in where]
    if missing:
        raise UnreadableTrack(
            f"no column for {', '.join(missing)}; name it by --columns. There are: {', '.join(header)}"
        )
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        got = {field: row[place].strip() for field, place in where.items() if place < len(row)}
        try:
            yield _fix(got, got.get("device") or fallback)
        except (ValueError, KeyError) as error:
            raise UnreadableTrack(f"line {number}: {error}") from None


def _from_gpx(text: str, fallback: str) -> Iterator[dict[str, Any]]:
    if re.search(r"<!(DOCTYPE|ENTITY)", text[:4096], re.IGNORECASE):
        raise UnreadableTrack("the GPX file has a document type; that is not accepted")
    try:
        root = ET.fromstring(text)  # noqa: S314 - no document type, see above
    except ET.ParseError as error:
        raise UnreadableTrack(f"the GPX file cannot be read: {error}") from None
    for track in root.iter():
        if _local(track) not in ("trk", "rte"):
            continue
        name = next((each.text for each in track if _local(each) == "name" and each.text), None)
        for point in track.iter():
            if _local(point) not in ("trkpt", "rtept"):
                continue
            inside = {_local(each): (each.text or "").strip() for each in point.iter() if each is not point}
            got = {
                "latitude": point.get("lat", ""),
                "longitude": point.get("lon", ""),
                "timestamp": inside.get("time", ""),
                "altitude": inside.get("ele", ""),
                "speed": inside.get("speed", ""),
                "heading": inside.get("course", ""),
            }
            if not got["timestamp"]:
                raise UnreadableTrack("a point of the GPX file has no time; it cannot be played")
            try:
                yield _fix(got, name or fallback)
            except ValueError as error:
                raise UnreadableTrack(f"a point of the GPX file: {error}") from None


def _from_geojson(text: str, fallback: str) -> Iterator[dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UnreadableTrack(f"the GeoJSON file cannot be read: {error}") from None
    features = found.get("features", [found]) if isinstance(found, dict) else []
    for feature in features:
        geometry = (feature.get("geometry") or {}) if isinstance(feature, dict) else {}
        properties = (feature.get("properties") or {}) if isinstance(feature, dict) else {}
        said = {str(key).lower(): value for key, value in properties.items()}
        device = next((str(said[name]) for name in NAMES["device"] if said.get(name) not in (None, "")), fallback)
        coordinates: Any = geometry.get("coordinates")
        moments: Any = None
        if geometry.get("type") == "Point":
            moments = [next((said[name] for name in NAMES["timestamp"] if name in said), None)]
            coordinates = [coordinates]
        elif geometry.get("type") == "LineString":
            moments = next((said[name] for name in ("coordtimes", "times", "timestamps") if name in said), None) or (
                said.get("coordinateproperties") or {}
            ).get("times")
        else:
            continue
        if not isinstance(moments, list) or len(moments) != len(coordinates) or None in moments:
            raise UnreadableTrack("a feature of the GeoJSON file has no time for each coordinate (coordTimes)")
        for place, moment in zip(coordinates, moments, strict=True):
            try:
                got = {"longitude": place[0], "latitude": place[1], "timestamp": moment}
                if len(place) > 2:
                    got["altitude"] = place[2]
                for field in ("speed", "heading", "accuracy", "track"):
                    value = next((said[name] for name in NAMES[field] if name in said), None)
                    if value is not None and geometry["type"] == "Point":
                        got[field] = value
                yield _fix({key: str(value) for key, value in got.items()}, device)
            except (ValueError, TypeError, IndexError, KeyError) as error:
                raise UnreadableTrack(f"a feature of the GeoJSON file: {error}") from None


def _fix(got: Mapping[str, str], device: str) -> dict[str, Any]:
    fix: dict[str, Any] = {
        "device_token": device,
        "latitude": float(got["latitude"]),
        "longitude": float(got["longitude"]),
        "timestamp": _moment(got["timestamp"]),
    }
    for field in ("speed", "heading", "altitude", "accuracy"):
        if got.get(field):
            fix[field] = float(got[field])
    if got.get("track"):
        fix["track_token"] = got["track"]
    return fix


def _moment(text: str) -> float:
    """Unix seconds of ISO 8601 or `YYYY-MM-DD hh:mm:ss` (UTC unless it says otherwise), or of a number."""
    if re.fullmatch(r"\d{9,11}(\.\d+)?", text):
        return float(text)
    if re.fullmatch(r"\d{12,13}", text):
        return int(text) / 1000
    moment = datetime.fromisoformat(text.strip().replace(" UTC", "+00:00"))
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
