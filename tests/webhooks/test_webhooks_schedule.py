from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webhooks_harness import BASE_US

from waybridge.settings_tables import WebhookSettings
from waybridge.webhooks.breaker import FAILURES, OPEN_US, Targets
from waybridge.webhooks.schedule import DAY_US, SECOND_US, Outcome, Schedule, outcome_of, retry_after_us

SCHEDULE = Schedule.of(WebhookSettings())
DELAYS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("60", 60),
        (" 60 ", 60),
        ("999999999999999999999999", 999_999_999_999),
        ("-1", None),
        ("1e9", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        ("Wed, 18 Nov 2026 11:07:40 GMT", 60),
        ("Wed, 18 Nov 2026 11:07:40 -0000", 60),
        ("Wed, 18 Nov 2026 11:05:40 GMT", None),
        ("Wed, 18 Nov 99999999999 11:07:40 GMT", None),
        ("Wed, 99 Nov 2026 11:07:40 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_nonsense_is_nothing(text: str | None, seconds: float | None) -> None:
    assert retry_after_us(text, BASE_US) == (None if seconds is None else seconds * SECOND_US)


@given(st.text(max_size=60))
def test_no_retry_after_breaks_the_sender(text: str) -> None:
    wait = retry_after_us(text, BASE_US)
    assert wait is None or wait >= 0


def test_the_delays_are_those_of_the_contract_within_20_percent() -> None:
    for failed, delay in enumerate(DELAYS, start=1):
        assert SCHEDULE.next_us(failed, 0, None, lambda: 0.0) == round(delay * 0.8 * SECOND_US)
        assert SCHEDULE.next_us(failed, 0, None, lambda: 0.5) == delay * SECOND_US
        longest = SCHEDULE.next_us(failed, 0, None, lambda: 0.999999)
        assert longest is not None
        assert delay * 1.19 * SECOND_US < longest <= delay * 1.2 * SECOND_US
    assert SCHEDULE.next_us(len(DELAYS) + 1, 0, None, lambda: 0.5) is None
    assert SCHEDULE.attempts == 10


def test_retry_after_lengthens_a_delay_up_to_a_day_and_never_shortens_it() -> None:
    assert SCHEDULE.next_us(1, 0, 3 * SECOND_US, lambda: 0.5) == 5 * SECOND_US
    assert SCHEDULE.next_us(1, 0, 60 * SECOND_US, lambda: 0.5) == 60 * SECOND_US
    assert SCHEDULE.next_us(1, 0, 400 * DAY_US, lambda: 0.5) == DAY_US


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.DELIVERED), (204, Outcome.DELIVERED), (299, Outcome.DELIVERED),
        (301, Outcome.REDIRECTED), (304, Outcome.REDIRECTED), (308, Outcome.REDIRECTED),
        (400, Outcome.REFUSED), (404, Outcome.REFUSED), (500, Outcome.REFUSED), (999, Outcome.REFUSED),
        (410, Outcome.GONE), (429, Outcome.LIMITED), (503, Outcome.LIMITED),
    ],
)  # fmt: skip
def test_only_2xx_is_success(status: int, outcome: Outcome) -> None:
    assert outcome_of(status) is outcome


def test_a_breaker_opens_after_failures_in_a_row_lets_one_through_and_closes_on_success() -> None:
    targets = Targets(4)
    for number in range(FAILURES):
        assert targets.free("a", number) == 4
        targets.begin("a")
        targets.end("a", number, well=False)
    now = FAILURES - 1
    assert targets.free("a", now) == 0
    assert targets.open(now) == 1
    assert targets.free("b", now) == 4
    later = now + OPEN_US
    assert targets.free("a", later) == 1
    targets.begin("a")
    assert targets.free("a", later) == 0
    targets.end("a", later, well=False)
    assert targets.free("a", later + 1) == 0
    targets.begin("a")
    targets.end("a", later + OPEN_US, well=True)
    assert targets.free("a", later + OPEN_US) == 4
