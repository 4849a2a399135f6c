"""The rules of a share's life, row by row, and under random orders of events."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imessage_harness import START, soak

from waybridge_imessage.shares import Person, Share, dump, found, heard, load, over
from waybridge_imessage.wire import SharingEvent

LINE, OTHER = "+12025550100", "+12025550111"


def at(seconds: float) -> object:
    return START + timedelta(seconds=seconds)


def event(
    kind: str, began: float | None, created: float, *, line: str = LINE, ends: float | None = None
) -> SharingEvent:
    return SharingEvent(
        kind=kind,  # type: ignore[arg-type]
        event_id=f"{kind}{began}{created}",
        created_at=START + timedelta(seconds=created),
        shared_by="+1",
        shared_with=line,
        chat_id="chat",
        began_at=None if began is None else START + timedelta(seconds=began),
        ends_at=None if ends is None else START + timedelta(seconds=ends),
        ended_at=START + timedelta(seconds=created) if kind == "stopped" else None,
    )


def play(*events: SharingEvent) -> tuple[Person, list[str]]:
    """What a person becomes, and the changes on the way."""
    person, changes = Person(), []
    for number, each in enumerate(events):
        person, change = heard(person, each, START + timedelta(seconds=1000 + number))
        if change:
            changes.append(change)
    return person, changes


ROWS = {
    "a start opens": ([("started", 1, 1)], ["started"]),
    "the same start again is nothing": ([("started", 1, 1), ("started", 1, 5)], ["started"]),
    "a newer start goes on silently": ([("started", 1, 1), ("started", 9, 9)], ["started"]),
    "a newer start with an end extends": ([("started", 1, 1), ("started", 9, 9, 500)], ["started", "extended"]),
    "an older start that comes late is nothing": ([("started", 9, 9), ("started", 1, 10)], ["started"]),
    "its stop ends it": ([("started", 1, 1), ("stopped", 1, 5)], ["started", "stopped"]),
    "a stop without began_at ends what began before it": (
        [("started", 1, 1), ("stopped", None, 5)],
        ["started", "stopped"],
    ),
    "a stop without began_at from before is nothing": ([("started", 9, 9), ("stopped", None, 5)], ["started"]),
    "a stop of an older share is nothing": ([("started", 9, 9), ("stopped", 1, 5)], ["started"]),
    "a stop of a newer share ends the older one too": (
        [("started", 1, 1), ("stopped", 9, 12)],
        ["started", "stopped"],
    ),
    "a stop before its start keeps it from opening": ([("stopped", 1, 5), ("started", 1, 1)], []),
    "a stop without began_at before its start, too": ([("stopped", None, 5), ("started", 1, 1)], []),
    "a start after a stop opens anew": (
        [("started", 1, 1), ("stopped", 1, 5), ("started", 9, 9)],
        ["started", "stopped", "started"],
    ),
    "a stop that comes twice is told once": (
        [("started", 1, 1), ("stopped", 1, 5), ("stopped", 1, 6)],
        ["started", "stopped"],
    ),
    "an old start after a later stop does not open": ([("stopped", 9, 12), ("started", 1, 1)], []),
}


@pytest.mark.parametrize("row", ROWS)
def test_the_table(row: str) -> None:
    events, expected = ROWS[row]
    _, changes = play(*(event(kind, began, created, ends=(*rest, None)[0]) for kind, began, created, *rest in events))
    assert changes == expected


def test_a_person_shares_while_one_line_is_shared_with() -> None:
    _, changes = play(
        event("started", 1, 1),
        event("started", 2, 2, line=OTHER),
        event("stopped", 1, 3),
        event("stopped", 2, 4, line=OTHER),
    )
    assert changes == ["started", "stopped"]


def test_a_stop_on_one_line_says_nothing_of_another() -> None:
    person, _ = play(event("started", 1, 1), event("stopped", 9, 10, line=OTHER))
    assert [share.line for share in person.shares] == [LINE]


def test_found_shares_are_adopted_by_their_start() -> None:
    person, change = found(Person(), "chat", None, START + timedelta(seconds=50))
    assert change == "started"
    person, change = heard(person, event("started", 1, 1, ends=90), START)
    assert change == "extended"
    assert person.shares == (
        Share(line=LINE, began_at=START + timedelta(seconds=1), ends_at=START + timedelta(seconds=90), chat="chat"),
    )


@pytest.mark.parametrize(
    ("updated", "read", "opens"),
    [(60, 80, True), (60, 69, False), (4, 80, False), (None, 80, False)],
)
def test_an_ended_share_is_found_again_only_by_a_newer_fix_read_well_after_the_end(
    updated: int | None, read: int, opens: bool
) -> None:
    person, _ = heard(Person(), event("stopped", 1, 5), START + timedelta(seconds=10))
    fresh = None if updated is None else START + timedelta(seconds=updated)
    _, change = found(person, "chat", fresh, START + timedelta(seconds=read))
    assert (change == "started") is opens


def test_an_expired_share_is_over_for_its_late_stop_and_its_late_start() -> None:
    person, _ = play(event("started", 1, 1, ends=10))
    person, change = over(person, person.shares[0], START + timedelta(seconds=80))
    assert change == "stopped"
    for late in (event("stopped", 1, 10), event("started", 1, 1)):
        person, change = heard(person, late, START + timedelta(seconds=90))
        assert change is None


keys = st.integers(1, 6)
lines = st.sampled_from([LINE, OTHER])


@st.composite
def histories(draw: st.DrawFn) -> list[SharingEvent]:
    """True lives of shares on two lines, delivered with repeats, losses and in any order."""
    told: list[SharingEvent] = []
    for line in (LINE, OTHER):
        for number in range(draw(st.integers(0, 4))):
            began = number * 10 + 1
            told.append(event("started", began, began, line=line))
            if draw(st.booleans()):
                named = began if draw(st.booleans()) else None
                told.append(event("stopped", named, began + draw(st.integers(1, 8)), line=line))
    repeated = told + draw(st.lists(st.sampled_from(told), max_size=6) if told else st.just([]))
    shuffled = draw(st.permutations(repeated))
    return shuffled[: draw(st.integers(0, len(shuffled)))]


@settings(max_examples=soak(400, 50_000), deadline=None)
@given(histories())
def test_whatever_the_order_a_stop_wins_and_changes_alternate(events: list[SharingEvent]) -> None:
    person, changes = play(*events)
    told = [change for change in changes if change != "extended"]
    assert told == ["started" if n % 2 == 0 else "stopped" for n in range(len(told))]
    assert bool(person.shares) == (len(told) % 2 == 1)
    for share in person.shares:
        stops = [e for e in events if e.kind == "stopped" and e.shared_with == share.line]
        assert not any((e.began_at or e.created_at) >= share.began_at for e in stops), "a stop of it came"
        starts = [e for e in events if e.kind == "started" and e.shared_with == share.line]
        assert share.began_at == max(e.began_at for e in starts if e.began_at), "the newest start is the one"
    for line in (LINE, OTHER):
        stops = [e.began_at or e.created_at for e in events if e.kind == "stopped" and e.shared_with == line]
        starts = [e.began_at for e in events if e.kind == "started" and e.shared_with == line and e.began_at]
        newest = max(starts, default=None)
        if newest is not None and all(stop < newest for stop in stops):
            assert any(share.line == line for share in person.shares), "nothing ended the newest share"


@settings(max_examples=soak(400, 50_000), deadline=None)
@given(histories())
def test_each_share_starts_and_stops_at_most_once(events: list[SharingEvent]) -> None:
    opened: list[tuple[str, object]] = []
    person = Person()
    for number, each in enumerate(events):
        after, _ = heard(person, each, START + timedelta(seconds=1000 + number))
        opened += [(s.line, s.began_at) for s in after.shares if s not in person.shares]
        person = after
    assert len(opened) == len(set(opened))


@settings(max_examples=soak(100, 10_000), deadline=None)
@given(histories())
def test_what_is_kept_is_what_was(events: list[SharingEvent]) -> None:
    person, _ = play(*events)
    assert load(dump(person)) == person
