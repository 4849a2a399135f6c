"""Distances, directions and boxes on the globe, and tracks as GeoJSON (RFC 7946) and GPX 1.1.

Degrees WGS 84 in, metres and degrees out; the earth is a sphere of the mean radius (good to 0.5 %).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import geojson  # type: ignore[import-untyped]
import msgspec

EARTH_M = 6_371_008.8
PRECISION = 8
"""Decimals of a coordinate in GeoJSON: about a millimetre, what driver events may carry."""

_FORBIDDEN_IN_XML = {code: None for code in (*range(32), 0xFFFE, 0xFFFF) if code not in (9, 10, 13)}


def distance_m(latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float) -> float:
    """The great-circle distance (haversine), right across the antimeridian and at the poles too."""
    phi_a, phi_b = math.radians(latitude_a), math.radians(latitude_b)
    half_phi = (phi_b - phi_a) / 2
    half_lambda = math.radians(longitude_b - longitude_a) / 2
    chord = math.sin(half_phi) ** 2 + math.cos(phi_a) * math.cos(phi_b) * math.sin(half_lambda) ** 2
    return 2 * EARTH_M * math.asin(min(1.0, math.sqrt(chord)))


def bearing_deg(latitude_a: float, longitude_a: float, latitude_b: float, longitude_b: float) -> float:
    """The direction from A to B at A, degrees clockwise from north in [0, 360)."""
    phi_a, phi_b = math.radians(latitude_a), math.radians(latitude_b)
    difference = math.radians(longitude_b - longitude_a)
    east = math.sin(difference) * math.cos(phi_b)
    north = math.cos(phi_a) * math.sin(phi_b) - math.sin(phi_a) * math.cos(phi_b) * math.cos(difference)
    bearing = math.degrees(math.atan2(east, north)) % 360.0
    return 0.0 if bearing >= 360.0 else bearing


@dataclass(frozen=True, slots=True)
class Bounds:
    """A box in degrees. `west` greater than `east` means that it crosses the antimeridian (RFC 7946, 5.2)."""

    west: float
    south: float
    east: float
    north: float

    @classmethod
    def parse(cls, text: str) -> Bounds:
        """`west,south,east,north`. Raises ValueError with what is wrong."""
        try:
            west, south, east, north = (float(part) for part in text.split(","))
        except ValueError:
            raise ValueError("must be west,south,east,north in degrees") from None
        if not (-180 <= west <= 180 and -180 <= east <= 180):
            raise ValueError("west and east must lie in [-180, 180]")
        if not (-90 <= south <= 90 and -90 <= north <= 90):
            raise ValueError("south and north must lie in [-90, 90]")
        if south > north:
            raise ValueError("south must not lie north of north")
        return cls(west, south, east, north)

    def contains(self, latitude: float, longitude: float) -> bool:
        if not self.south <= latitude <= self.north:
            return False
        if self.west <= self.east:
            inside = self.west <= longitude <= self.east
            # 180 and -180 are one meridian
            return inside or (abs(longitude) == 180 and 180 in (abs(self.west), abs(self.east)))
        return longitude >= self.west or longitude <= self.east


@dataclass(frozen=True, slots=True)
class TrackPoint:
    """A point of a track; `time` is aware. Altitude in m, speed in m/s."""

    latitude: float
    longitude: float
    time: datetime
    altitude: float | None = None
    speed: float | None = None


def coordinates(latitude: float, longitude: float, altitude: float | None = None) -> list[float]:
    """GeoJSON's order: longitude first."""
    at = [round(longitude, PRECISION), round(latitude, PRECISION)]
    return at if altitude is None else [*at, round(altitude, PRECISION)]


def point_feature(
    latitude: float, longitude: float, altitude: float | None, properties: Mapping[str, Any]
) -> dict[str, Any]:
    """A position as a Point Feature, a plain dict: what maps of many devices are made of."""
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": coordinates(latitude, longitude, altitude)},
        "properties": properties,
    }


def feature_collection(features: Sequence[Mapping[str, Any]]) -> bytes:
    """Features as the bytes of a FeatureCollection."""
    return msgspec.json.encode({"type": "FeatureCollection", "features": features})


def track_feature(points: Iterable[TrackPoint], properties: Mapping[str, Any]) -> bytes:
    """A track as a LineString Feature, oldest first; `properties.times` belong to its points in order.

    A line needs two points: one point alone becomes a Point, none a null geometry. A line that crosses the
    antimeridian becomes a MultiLineString cut there (RFC 7946, 3.1.9).
    """
    taken = list(points)
    parts = _cut_at_antimeridian(taken)
    geometry: Any = None
    if len(taken) == 1:
        geometry = geojson.Point(parts[0][0], precision=PRECISION)
    elif len(parts) == 1:
        geometry = geojson.LineString(parts[0], precision=PRECISION)
    elif taken:
        geometry = geojson.MultiLineString(parts, precision=PRECISION)
    feature = geojson.Feature(
        geometry=geometry, properties={**properties, "times": [_zulu(point.time) for point in taken]}
    )
    text: str = geojson.dumps(feature, allow_nan=False, separators=(",", ":"))
    return text.encode()


def gpx(points: Iterable[TrackPoint], *, name: str, creator: str = "Waybridge") -> bytes:
    """A track as a GPX 1.1 document with one segment; speed in m/s goes into an extension."""
    head = f'<gpx version="1.1" creator={quoteattr(creator)} xmlns="http://www.topografix.com/GPX/1/1"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'{head} xmlns:gpxtpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v2">',
        f"<trk><name>{escape(name.translate(_FORBIDDEN_IN_XML))}</name><trkseg>",
    ]
    lines += [_gpx_point(point) for point in points]
    lines.append("</trkseg></trk></gpx>\n")
    return "\n".join(lines).encode("utf-8", "replace")


def _gpx_point(point: TrackPoint) -> str:
    inner = "" if point.altitude is None else f"<ele>{point.altitude:.3f}</ele>"
    inner += f"<time>{_zulu(point.time)}</time>"
    if point.speed is not None:
        inner += (
            "<extensions><gpxtpx:TrackPointExtension>"
            f"<gpxtpx:speed>{point.speed:.3f}</gpxtpx:speed>"
            "</gpxtpx:TrackPointExtension></extensions>"
        )
    return f'<trkpt lat="{point.latitude:.8f}" lon="{point.longitude:.8f}">{inner}</trkpt>'


def _zulu(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return text.removesuffix(".000") + "Z"


def _cut_at_antimeridian(points: Sequence[TrackPoint]) -> list[list[list[float]]]:
    """The line's coordinates, cut where two neighbours are nearer across the antimeridian than over Greenwich."""
    parts: list[list[list[float]]] = []
    previous: TrackPoint | None = None
    for point in points:
        at = coordinates(point.latitude, point.longitude, point.altitude)
        if previous is None:
            parts.append([])
        elif abs(point.longitude - previous.longitude) > 180:
            side = math.copysign(180.0, previous.longitude)
            crossing = _crossing_latitude(previous, point)
            parts[-1].append([side, crossing])
            parts.append([[-side, crossing]])
        parts[-1].append(at)
        previous = point
    return parts


def _crossing_latitude(before: TrackPoint, after: TrackPoint) -> float:
    to_edge = 180 - abs(before.longitude)
    beyond = 180 - abs(after.longitude)
    share = to_edge / (to_edge + beyond) if to_edge + beyond > 0 else 0.0
    return round(before.latitude + share * (after.latitude - before.latitude), PRECISION)
