"""When a delivery is tried again, and what an answer means (pure rules; Standard Webhooks, RFC 9110 10.2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING

from waybridge.model import to_us

if TYPE_CHECKING:
    from collections.abc import Callable

    from waybridge.settings import WebhookSettings

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
DAY_US = 24 * HOUR_US
_DIGITS = 12  # a Retry-After of more digits is longer than any limit


class Outcome(StrEnum):
    """How an attempt ended, as metrics count it."""

    DELIVERED = "delivered"
    REFUSED = "refused"  # an answer that is not 2xx
    REDIRECTED = "redirected"
    LIMITED = "limited"  # 429 and 503
    GONE = "gone"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    FORBIDDEN = "forbidden"  # the address is one that the gateway does not call


def outcome_of(status: int) -> Outcome:
    """What a status says: only 2xx is success, a redirect is a failure, 410 ends the subscription."""
    if status == HTTPStatus.GONE:
        return Outcome.GONE
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return Outcome.LIMITED
    return {2: Outcome.DELIVERED, 3: Outcome.REDIRECTED}.get(status // 100, Outcome.REFUSED)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The retries of a delivery: the n-th delay follows the n-th failed attempt; after the last one it is dead.

    `delays_us` in microseconds, spread by `jitter` (0.2 is +-20 %); `longest_us` limits what Retry-After may ask.
    """

    delays_us: tuple[int, ...]
    jitter: float
    longest_us: int

    @classmethod
    def of(cls, settings: WebhookSettings) -> Schedule:
        return cls(
            delays_us=tuple(round(seconds * SECOND_US) for seconds in settings.retry_seconds),
            jitter=settings.retry_jitter,
            longest_us=round(settings.retry_after_hours * HOUR_US),
        )

    @property
    def attempts(self) -> int:
        """How often a delivery is tried before it is dead."""
        return len(self.delays_us) + 1

    def next_us(self, failed: int, now_us: int, retry_after_us: int | None, spread: Callable[[], float]) -> int | None:
        """When to try again after the `failed`-th failed attempt (from 1), or None when that was the last.

        `spread` gives a number in [0, 1); the target's Retry-After lengthens a delay, never shortens it.
        """
        if failed > len(self.delays_us):
            return None
        delay = self.delays_us[failed - 1] * (1 - self.jitter + 2 * self.jitter * spread())
        if retry_after_us is not None:
            delay = max(delay, min(retry_after_us, self.longest_us))
        return now_us + round(delay)


def retry_after_us(text: str | None, now_us: int) -> int | None:
    """What a Retry-After header asks for, in microseconds from now; None when it is absent, past or nonsense."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return int(text[:_DIGITS]) * SECOND_US
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        wait = to_us(moment.astimezone(UTC)) - now_us
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return wait if wait > 0 else None
