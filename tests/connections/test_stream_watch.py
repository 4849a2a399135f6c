"""The watchdog of a stream: silence after fresh positions, and positions that are all old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from waybridge.model import Offline, Position, SourceKey
from waybridge.watch import Watch, quiet_seconds

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SOURCE = SourceKey("vans", "123")


class Feed:
    """A watch of 60 s freshness and 300 s patience, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.watch = Watch(60.0, 300.0)
        self.now = 0.0

    def bring(self, age: float = 0.0) -> None:
        moment = NOON + timedelta(seconds=self.now)
        position = Position(source=SOURCE, latitude=60.0, longitude=24.0, recorded_at=moment - timedelta(seconds=age))
        self.watch.seen([Offline(source=SOURCE), position], self.now, int(moment.timestamp() * 1e6))

    def verdict_after(self, seconds: float) -> str | None:
        self.now += seconds
        return self.watch.verdict(self.now)


@pytest.fixture
def feed() -> Feed:
    return Feed()


def test_a_stream_that_never_brought_anything_is_left_alone(feed: Feed) -> None:
    assert feed.verdict_after(86_400) is None


def test_silence_after_fresh_positions_is_told_once_until_they_come_again(feed: Feed) -> None:
    feed.bring()
    assert feed.verdict_after(299) is None
    assert feed.verdict_after(1) == "silent"
    assert feed.verdict_after(86_400) is None
    feed.bring()
    assert feed.verdict_after(300) == "silent"


def test_old_positions_alone_are_told_and_then_less_often(feed: Feed) -> None:
    told = []
    for _ in range(400):
        feed.bring(age=61)
        if verdict := feed.verdict_after(10):
            told.append((feed.now, verdict))
    assert {verdict for _, verdict in told} == {"all_stale"}
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(told)]
    assert told[0][0] == pytest.approx(310, abs=10)
    assert gaps[0] >= 600
    assert len(told) <= 3


def test_one_fresh_position_among_old_ones_is_enough(feed: Feed) -> None:
    for number in range(100):
        feed.bring(age=0 if number % 20 == 0 else 600)
        assert feed.verdict_after(10) is None


def test_parked_vehicles_sent_once_are_no_fault(feed: Feed) -> None:
    feed.bring(age=3600)
    assert feed.verdict_after(86_400) is None


def test_the_delay_is_the_median_so_that_one_wrong_clock_in_many_does_not_move_it(feed: Feed) -> None:
    assert feed.watch.delay() is None
    for age in (2.0, 2.0, 2.0, 90_000.0):
        feed.bring(age=age)
    assert feed.watch.delay() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("stale_after", "interval", "seconds"), [(20, 5, 300), (600, 5, 3000), (60, 60, 1200), (86_400, 5, 3600)]
)
def test_patience_grows_with_what_is_expected_within_bounds(
    stale_after: float, interval: float, seconds: float
) -> None:
    assert quiet_seconds(stale_after, interval) == seconds
