"""Numbers by device are what a dict of them is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waybridge.streams.compact import Numbers

KEYS = st.one_of(st.integers(1, 12), st.integers(2**62, 2**62 + 3), st.tuples(st.just("state"), st.integers(1, 3)))
STEPS = st.lists(st.tuples(st.sampled_from(["put", "drop", "clear"]), KEYS, st.integers(1, 2**52)), max_size=60)


@given(STEPS)
def test_they_are_what_a_dict_is(steps: list[tuple[str, int | tuple[str, int], int]]) -> None:
    ours, dictionary = Numbers("q"), {}
    for step, key, number in steps:
        match step:
            case "put":
                ours.put(key, number)
                dictionary[key] = number
            case "drop":
                ours.drop(key)
                dictionary.pop(key, None)
            case "clear" if number % 10 == 0:
                ours.clear()
                dictionary.clear()
        assert ours.get(key) == dictionary.get(key, 0)
    assert dict(ours.items()) == dictionary
