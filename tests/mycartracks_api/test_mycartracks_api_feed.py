"""What a stream tells of which vehicle, and when."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mycartracks_api_fakes import WHEN, FakeGateway

from waybridge_mycartracks_api.feed import Choice, Feed
from waybridge_mycartracks_api.words import rfc3339

if TYPE_CHECKING:
    from waybridge import DeviceView


def view(second: float, token: str = "van", **changes: Any) -> DeviceView:
    gateway = FakeGateway()
    return gateway.put("acme", token, at=(48.0, 17.0), recorded_at=WHEN + timedelta(seconds=second), **changes)


def feed(**choice: Any) -> Feed:
    return Feed(Choice(**choice), None, 5.0)


def told(events: list[dict[str, Any]]) -> list[str]:
    return [f"{event['type'][8:]}@{(event.get('recordedAt') or event['lastSeenAt'])[17:19]}" for event in events]


def test_a_vehicle_is_told_of_at_once_then_once_an_interval_with_its_newest() -> None:
    one = feed()
    one.take([view(0)])
    assert told(one.due(100.0)) == ["position.updated@35"]
    one.take([view(1)])
    one.take([view(2)])

    assert one.due(101.0) == []
    assert one.wait(101.0) == 4.0
    assert told(one.due(105.0)) == ["position.updated@37"]
    assert one.wait(105.0) == float("inf")


def test_known_positions_are_no_news_but_those_since_the_stream_was_made_are() -> None:
    one = feed()
    one.begin([view(0)], WHEN + timedelta(seconds=1))
    assert one.due(0) == []
    one.take([view(0)])
    assert one.due(0) == []

    two = feed()
    two.begin([view(2)], WHEN + timedelta(seconds=1))
    two.take([view(2)])
    assert told(two.due(0)) == ["position.updated@37"]


def test_time_never_goes_back() -> None:
    one = feed()
    one.take([view(5)])
    one.due(0)
    one.take([view(3)])
    assert one.due(100) == []


def test_going_offline_is_told_at_once_after_what_was_owed() -> None:
    one = feed()
    one.take([view(0)])
    one.due(0)
    one.take([view(1)])
    one.take([view(1, online=False)])

    assert told(one.due(1)) == ["position.updated@36", "offline@36"]
    one.take([view(1, online=False)])
    assert one.due(2) == []


def test_what_hides_is_offline_and_nothing_of_it_is_told_any_more() -> None:
    one = feed()
    one.take([view(0)])
    one.due(0)
    one.take([view(1)])
    one.take([view(1, visible=False)])

    assert told(one.due(100)) == ["offline@36"]
    one.take([view(2, visible=False)])
    assert one.due(200) == []


def test_a_vehicle_that_comes_back_may_leave_again() -> None:
    one = feed()
    for second, online in ((0, True), (0, False), (1, True), (1, False)):
        one.take([view(second, online=online)])
    assert [event["type"] for event in one.due(0)].count("vehicle.offline") == 2


def test_only_the_chosen_are_told_of() -> None:
    van = view(0)
    assert feed(numbers=frozenset({van.number})).wait(0) == float("inf")
    for choice, expected in (
        ({}, 1),
        ({"numbers": frozenset({van.number})}, 1),
        ({"numbers": frozenset({99})}, 0),
        ({"groups": frozenset({7})}, 0),
        ({"groups": frozenset({7}), "group_tokens": frozenset({("acme", "van")})}, 1),
        ({"groups": frozenset({7}), "group_tokens": frozenset({("other", "van")})}, 0),
    ):
        one = feed(**choice)
        one.take([van])
        assert len(one.due(0)) == expected


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.booleans(), st.booleans(), st.integers(0, 4))))
def test_whatever_happens_the_newest_is_told_in_order_and_never_too_often(steps: list[Any]) -> None:
    gateway = FakeGateway()
    numbers = {token: gateway.put("acme", token).number for token in "abc"}
    one = feed()
    now = 0.0
    seen: dict[int, list[tuple[float, str]]] = {number: [] for number in numbers.values()}
    newest: dict[int, int] = {}

    def note(events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["type"] == "vehicle.position.updated":
                seen[event["vehicleId"]].append((now, event["recordedAt"]))

    for token, second, online, visible, pause in steps:
        at = {"at": (1.0, 2.0), "recorded_at": WHEN + timedelta(seconds=second)}
        changed = gateway.put("acme", token, online=online, visible=visible, **at)
        one.take([changed])
        if visible and online:
            newest[changed.number] = max(second, newest.get(changed.number, -1))
        note(one.due(now))
        now += pause
    now += 100
    note(one.due(now))

    for number, told_of in seen.items():
        times = [recorded for _, recorded in told_of]
        assert times == sorted(set(times))
        if number in newest and all(step[2] and step[3] for step in steps):
            assert times[-1] == rfc3339(WHEN + timedelta(seconds=newest[number]))
            gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(told_of)]
            assert all(gap >= 5 for gap in gaps)


@pytest.mark.parametrize(("micro", "text"), [(0, ":35Z"), (250_000, ":35.250Z"), (10, ":35Z")])
def test_times_have_a_fraction_only_where_there_is_one(micro: int, text: str) -> None:
    assert rfc3339(WHEN.replace(microsecond=micro)).endswith(text)
