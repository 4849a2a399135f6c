"""The numbers of a stream: whatever is lost on the way, what was received and what was dropped add up."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from waybridge.streams.ledger import Ledger

KEYS = st.sampled_from(["a", "b", "c"])


class Client(RuleBasedStateMachine):
    """A client that reads late, loses what is on the way, and comes back with the last number that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.ledger.restart([])
        self.newest: dict[str, int] = {}  # the truth: how often each key happened
        self.wire: list[tuple[str, int, int, int]] = []  # (key, seq, dropped, value), sent and not read yet
        self.known: dict[str, int] = {}
        self.received = self.dropped = self.seen = self.said = 0

    @rule(key=KEYS)
    def happens(self, key: str) -> None:
        self.newest[key] = self.newest.get(key, 0) + 1
        self.ledger.happened(key)

    @rule()
    def is_sent(self) -> None:
        if self.ledger.owed:
            key = next(iter(self.ledger.owed))
            seq, dropped = self.ledger.sending(key)
            self.wire.append((str(key), seq, dropped, self.newest[str(key)]))

    @rule()
    def reads(self) -> None:
        if self.wire:
            key, seq, dropped, value = self.wire.pop(0)
            assert seq == self.seen + dropped + 1, "numbers leave no gap that is not told"
            self.seen = seq
            if not key:
                self.said += 1
                return
            self.known[key] = value
            self.received += 1
            self.dropped += dropped

    @rule()
    def something_is_said(self) -> None:
        self.wire.append(("", self.ledger.saying(), 0, 0))

    @rule()
    def drops_and_returns(self) -> None:
        self.wire.clear()
        dropped = self.ledger.resume(self.seen)
        assert dropped is not None
        self.dropped += dropped
        self.seen = self.ledger.last

    @invariant()
    def it_adds_up(self) -> None:
        assert self.received + self.dropped + self.said == self.seen
        on_the_way = sum(dropped + 1 for key, _, dropped, _ in self.wire if key)
        left = len(self.ledger.owed) + self.ledger.skipped
        assert self.received + self.dropped + on_the_way + left == sum(self.newest.values())

    def teardown(self) -> None:
        while self.ledger.owed:
            self.is_sent()
        while self.wire:
            self.reads()
        assert self.known == self.newest
        assert self.received + self.dropped + self.ledger.skipped == sum(self.newest.values())


TestClient = Client.TestCase


def test_a_number_from_elsewhere_is_not_resumed() -> None:
    ledger = Ledger()
    assert ledger.resume(0) is None
    ledger.restart(["a"], 41)
    assert ledger.resume(42) is None
    assert ledger.sending("a") == (42, 0)
    assert ledger.resume(-1) is None
    assert ledger.resume(42) == 0


def test_what_may_not_be_told_any_more_counts_as_dropped() -> None:
    ledger = Ledger()
    ledger.restart(["a", "b"])
    ledger.void("a")
    assert ledger.sending("b") == (2, 1)
    ledger.void("b")
    assert ledger.resume(0) == 2
    assert ledger.owed == {}
