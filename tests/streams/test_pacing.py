"""When a device may be told again: never too early, never forgotten, on a clock that the test owns."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from waybridge.streams.pacing import Pace

STEPS = st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0, 4.0])), max_size=40)


@given(STEPS)
def test_positions_keep_their_interval_and_the_last_move_is_always_told(steps: list[tuple[int, float]]) -> None:
    pace = Pace(3.0, lambda _device_id: False)
    now, told = 100.0, {number: [] for number in range(1, 5)}
    moved: dict[int, float] = {}
    for device_id, later in steps:
        now += later
        for due in pace.due(now):
            told[due].append(now)
        moved[device_id] = now
        if pace.moved(device_id, now):
            told[device_id].append(now)
    while (when := pace.next) is not None:
        for due in pace.due(when):
            told[due].append(when)
    for device_id, times in told.items():
        assert all(later - earlier >= 3.0 for earlier, later in itertools.pairwise(times))
        assert not times or times[-1] >= moved[device_id]
    assert {device_id for device_id, times in told.items() if times} == set(moved)


def test_the_one_that_waits_least_is_due_first() -> None:
    pace = Pace(5.0, lambda _device_id: False)
    assert pace.moved(1, 100.0)
    assert pace.moved(2, 103.0)
    assert not pace.moved(2, 104.0)
    assert not pace.moved(1, 104.5)
    assert (pace.next, pace.due(105.0), pace.next, pace.due(108.0)) == (105.0, [1], 108.0, [2])


def test_a_device_of_a_snapshot_waits_from_its_end_on() -> None:
    pace = Pace(5.0, lambda device_id: device_id == 1)
    pace.sent(1, 100.0)
    assert not pace.moved(1, 101.0)
    assert pace.moved(2, 101.0)
    assert pace.due(105.0) == [1]


def test_what_went_out_in_another_way_is_not_told_again() -> None:
    pace = Pace(5.0, lambda _device_id: False)
    assert pace.moved(1, 100.0)
    assert not pace.moved(1, 101.0)
    pace.sent(1, 102.0)
    assert (pace.due(105.0), pace.due(107.0), pace.next) == ([], [], None)
    assert pace.moved(1, 107.0)
