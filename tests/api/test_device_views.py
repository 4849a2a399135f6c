"""What is shown of a device: consent, freshness, trips; and what a trip adds up to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybridge.api import device_views
from waybridge.api.times import time_format, unix
from waybridge.bus import Fix
from waybridge.errors import NotFound
from waybridge.roster import NOT_LIVE, SUSPECT, Device, Period, Policy, Source, Trip
from waybridge.store.tracks import Point
from waybridge.tracks import Stats

SECOND = 1_000_000
NOW = 1_776_000_000 * SECOND


def _device(consent: str = "none", fix: Fix | None = None, *, sharing: bool = False) -> Device:
    device = Device(1, "acme", "van-1")
    policy = Policy(instance_id="acme", connection_id="c", provider="p", consent=consent, stale_after_us=60 * SECOND)
    source = Source(1, "c", "x", device, policy)
    device.sources = (source,)
    source.last = fix
    if fix is not None:
        device.winner = source
    if sharing:
        source.period = Period(1, "shr_1", NOW, None, "consent", None, None, None)
    return device


def _fix(age_s: float = 1, **changes) -> Fix:
    at = NOW - int(age_s * SECOND)
    return Fix(at, at, NOW, 1.0, 2.0, **changes)


@pytest.mark.parametrize(
    ("consent", "sharing", "detail"),
    [("all", False, "not sharing"), ("public", False, None), ("none", False, None), ("all", True, None)],
)
def test_without_consent_a_position_is_kept_back_where_the_vendor_demands_it(consent, sharing, detail):
    device = _device(consent, _fix(), sharing=sharing)

    if detail is not None:
        with pytest.raises(NotFound, match=detail):
            device_views.position(device, NOW, unix)
        assert device_views.item(device, NOW, unix)["position"] is None
    else:
        assert device_views.position(device, NOW, unix)["sharing"] is sharing


def test_a_device_that_never_moved_says_so():
    with pytest.raises(NotFound, match="no position yet"):
        device_views.position(_device(), NOW, unix)


def test_a_booking_shows_operators_its_milestone():
    device = _device("public", _fix())
    device.winner.milestone = _fix(age_s=0, flags=NOT_LIVE)

    assert device_views.position(device, NOW, unix)["age_seconds"] == 0
    assert device.public_fix is None


@pytest.mark.parametrize(("age", "stale"), [(0, False), (60, False), (61, True)])
def test_age_and_staleness_are_the_fixs_own(age, stale):
    shown = device_views.position(_device(fix=_fix(age)), NOW, unix)

    assert (shown["age_seconds"], shown["stale"]) == (age, stale)


def test_a_fix_of_the_future_is_not_younger_than_now():
    assert device_views.position(_device(fix=_fix(-20)), NOW, unix)["age_seconds"] == 0


def test_the_flags_and_the_extra_of_a_fix_are_shown():
    fix = _fix(flags=SUSPECT, extra='{"address":"Main St","battery":0.5,"attributes":{"x":1}}', trip_id=7)
    device = _device(fix=fix)
    device.winner.trip = Trip(7, "trip-7", NOW)

    shown = device_views.position(device, NOW, unix)

    assert (shown["time_suspect"], shown["address"], shown["battery"]) == (True, "Main St", 0.5)
    assert shown["track_token"] == "trip-7"


@pytest.mark.parametrize(
    ("form", "zone", "text"),
    [
        ("unix", "UTC", 1_776_000_000),
        ("iso", "UTC", "2026-04-12T13:20:00Z"),
        ("iso", "Europe/London", "2026-04-12T14:20:00+01:00"),
        ("human", "UTC", "2026-04-12 13:20:00 UTC"),
        ("human", "Europe/London", "2026-04-12 14:20:00 BST"),
    ],
)
def test_a_moment_is_written_in_every_form(form, zone, text):
    assert time_format(form, zone)(NOW) == text
    assert time_format(form, zone)(None) is None


# -- stats


def _points(*steps: tuple[float, float, dict]) -> list[Point]:
    """(seconds, degrees north, changes)"""
    plain = {"altitude": None, "accuracy": None, "speed": None, "heading": None}
    return [Point(int(at * SECOND), north, 0.0, **{**plain, **changes}) for at, north, changes in steps]


def test_a_jump_adds_no_distance_and_does_not_move_the_start_of_the_next_step():
    stats = Stats()
    stats.add(_points((0, 0, {}), (10, 0.001, {}), (20, 5.0, {}), (30, 0.002, {})))

    assert stats.distance_m == pytest.approx(222.4, abs=0.1)
    assert stats.count == 4


def test_a_poor_fix_adds_nothing():
    stats = Stats()
    stats.add(_points((0, 0, {}), (10, 0.002, {"accuracy": 101.0, "speed": 80.0}), (20, 0.001, {})))

    assert stats.distance_m == pytest.approx(111.2, abs=0.1)
    assert stats.max_speed is None


def test_standing_still_is_not_moving():
    stats = Stats()
    stats.add(_points((0, 0, {"speed": 0.0}), (100, 0, {"speed": 0.0})))

    assert (stats.moving_us, stats.average_speed, stats.max_speed) == (0, None, 0.0)
    assert stats.duration_us == 100 * SECOND


@given(
    st.lists(
        st.tuples(st.floats(0, 1e6), st.floats(-90, 90), st.floats(0, 200) | st.none(), st.floats(0, 500) | st.none()),
        max_size=30,
    )
)
def test_stats_never_exceed_what_is_possible(steps):
    stats = Stats()
    points = _points(*((at, north, {"speed": speed, "accuracy": accuracy}) for at, north, speed, accuracy in steps))
    stats.add(sorted(points, key=lambda point: point.recorded_us))

    assert stats.moving_us <= max(stats.duration_us, 0)
    assert stats.distance_m <= 90 * stats.duration_us / SECOND + 1e-3
    assert stats.max_speed is None or 0 <= stats.max_speed <= 90


def test_what_has_gone_stale_is_offline_before_the_clock_says_so():
    device = _device(fix=_fix(age_s=60))
    device.online = True

    assert device_views.item(device, NOW, unix)["online"] is True
    assert device_views.item(device, NOW + 1, unix)["online"] is False
    assert device_views.position(device, NOW + 1, unix)["online"] is False
