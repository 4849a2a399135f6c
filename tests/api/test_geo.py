"""Distances, boxes and tracks on a round earth."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybridge.geo import Bounds, TrackPoint, bearing_deg, distance_m, gpx, track_feature

latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)
NOON = datetime(2026, 4, 12, 12, 0, tzinfo=UTC)


@given(latitudes, longitudes, latitudes, longitudes)
def test_a_distance_is_finite_symmetric_and_at_most_half_the_globe(lat_a, lon_a, lat_b, lon_b):
    there = distance_m(lat_a, lon_a, lat_b, lon_b)

    assert 0 <= there <= 20_015_115
    assert there == pytest.approx(distance_m(lat_b, lon_b, lat_a, lon_a), abs=1e-3)


def test_a_step_over_the_antimeridian_is_short():
    assert distance_m(0, 179.9999, 0, -179.9999) == pytest.approx(22.24, abs=0.01)


@given(latitudes, longitudes, latitudes, longitudes)
def test_a_bearing_lies_in_the_circle(lat_a, lon_a, lat_b, lon_b):
    assert 0 <= bearing_deg(lat_a, lon_a, lat_b, lon_b) < 360


@pytest.mark.parametrize(("to", "bearing"), [((1, 0), 0), ((0, 1), 90), ((-1, 0), 180), ((0, -1), 270)])
def test_bearings_turn_clockwise_from_north(to, bearing):
    assert bearing_deg(0, 0, *to) == pytest.approx(bearing)


def test_a_box_over_the_antimeridian_holds_both_its_sides():
    box = Bounds.parse("170,-10,-170,10")

    assert box.contains(0, 175)
    assert box.contains(0, -175)
    assert not box.contains(0, 0)
    assert not box.contains(11, 175)


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "a,b,c,d", "nan,0,1,1", "0,0,181,1", "0,-91,1,1", "0,2,1,1", "inf,0,0,0"]
)
def test_a_box_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="must"):
        Bounds.parse(text)


def test_a_track_is_a_line_with_longitude_first_and_eight_decimals():
    points = [TrackPoint(51.123456789, -0.1, NOON), TrackPoint(51.2, -0.2, NOON, altitude=10.5)]

    feature = json.loads(track_feature(points, {"device_token": "a"}))

    assert feature["geometry"] == {
        "type": "LineString",
        "coordinates": [[-0.1, 51.12345679], [-0.2, 51.2, 10.5]],
    }
    assert feature["properties"] == {"device_token": "a", "times": ["2026-04-12T12:00:00Z"] * 2}


@pytest.mark.parametrize(("count", "kind"), [(0, None), (1, "Point"), (2, "LineString")])
def test_a_track_of_too_few_points_is_still_valid_geojson(count, kind):
    feature = json.loads(track_feature([TrackPoint(1, 2, NOON)] * count, {}))

    assert (feature["geometry"] or {}).get("type") == kind


def test_a_track_over_the_antimeridian_is_cut_there():
    feature = json.loads(track_feature([TrackPoint(0, 179, NOON), TrackPoint(2, -179, NOON)], {}))

    assert feature["geometry"]["type"] == "MultiLineString"
    assert feature["geometry"]["coordinates"] == [[[179, 0], [180, 1]], [[-180, 1], [-179, 2]]]


@given(st.text(), st.lists(st.tuples(latitudes, longitudes), max_size=5))
def test_gpx_is_well_formed_whatever_the_name(name, points):
    document = gpx([TrackPoint(lat, lon, NOON, 1.0, 2.0) for lat, lon in points], name=name)

    found = ET.fromstring(document).findall(".//{http://www.topografix.com/GPX/1/1}trkpt")
    assert [float(each.get("lat")) for each in found] == [pytest.approx(lat, abs=1e-8) for lat, _ in points]
    assert all(math.isfinite(float(each.get("lon"))) for each in found)
