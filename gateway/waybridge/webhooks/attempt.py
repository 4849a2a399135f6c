"""One attempt to deliver: the signed request, and what its answer means for the delivery."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from waybridge import egress, signing
from waybridge.egress import AddressDenied, EgressFailed
from waybridge.store.deliveries import Claimed, Ended
from waybridge.vault import VaultError
from waybridge.webhooks.events import envelope
from waybridge.webhooks.schedule import SECOND_US, Outcome, Schedule, outcome_of, retry_after_us

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from waybridge.settings import WebhookSettings
    from waybridge.store.deliveries import State
    from waybridge.store.webhooks import Subscription, Told
    from waybridge.webhooks.subscriptions import Secrets

log = structlog.get_logger("waybridge.webhooks")

EXCERPT = 1_000
"""Characters of an answer that are kept with the attempt."""


@dataclass(frozen=True, slots=True)
class _Answer:
    outcome: Outcome
    status: int | None = None
    error: str | None = None
    retry_after: str | None = None
    body: bytes = b""


class Sender:
    """Posts events to subscriptions. `now_us` is the store's clock, `spread` gives numbers in [0, 1).

    The session is opened by the first request and closed by `close`.
    """

    def __init__(
        self,
        open_session: Callable[[], aiohttp.ClientSession],
        secrets: Secrets,
        settings: WebhookSettings,
        now_us: Callable[[], int],
        spread: Callable[[], float],
    ) -> None:
        self._open_session = open_session
        self._session: aiohttp.ClientSession | None = None
        self._secrets = secrets
        self._timeout_seconds = settings.timeout_seconds
        self._answer_bytes = settings.answer_bytes
        self._schedule = Schedule.of(settings)
        self._now_us = now_us
        self._spread = spread

    async def close(self) -> None:
        """Closes the connections to targets."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def attempt(self, claimed: Claimed, event: Told, subscription: Subscription) -> tuple[Outcome, Ended]:
        """Tries a delivery once. Never raises for what a target does."""
        at_us, began = self._now_us(), time.monotonic()
        answer = await self._post(event, subscription, at_us)
        state, next_us = self._verdict(claimed, answer)
        return answer.outcome, Ended(
            claimed=claimed,
            at_us=at_us,
            duration_ms=round((time.monotonic() - began) * 1000),
            status=answer.status,
            error=answer.error,
            answer=answer.body.decode("utf-8", "replace")[:EXCERPT].replace("\0", "\N{REPLACEMENT CHARACTER}") or None,
            state=state,
            next_us=next_us,
        )

    async def _post(self, event: Told, subscription: Subscription, at_us: int) -> _Answer:
        body = envelope(event)
        try:
            live = self._secrets.live(subscription, at_us)
        except VaultError:
            log.exception("A signing secret cannot be read", subscription_id=subscription.id)
            return _Answer(Outcome.UNREACHABLE, error="the signing secret cannot be read; see the gateway's log")
        headers = {
            "Content-Type": "application/json",
            **signing.signed_headers([each.secret for each in live], event.event_id, at_us // SECOND_US, body),
        }
        if self._session is None:
            self._session = self._open_session()
        try:
            answer = await egress.request(
                self._session,
                "POST",
                subscription.target_url,
                headers=headers,
                body=body,
                timeout_seconds=self._timeout_seconds,
                max_answer=self._answer_bytes,
            )
        except EgressFailed as failure:
            return _Answer(_failed(failure), error=str(failure))
        outcome = outcome_of(answer.status)
        match outcome:
            case Outcome.DELIVERED:
                error = None
            case Outcome.REDIRECTED:
                error = f"answered {answer.status}, a redirect, which is not followed"
            case _:
                error = f"answered {answer.status}"
        return _Answer(outcome, answer.status, error, answer.headers.get("Retry-After"), answer.body[: 4 * EXCERPT])

    def _verdict(self, claimed: Claimed, answer: _Answer) -> tuple[State, int]:
        now_us = self._now_us()
        if answer.outcome is Outcome.DELIVERED:
            return "delivered", now_us
        if answer.outcome is Outcome.GONE:
            return "dead", now_us
        asked = retry_after_us(answer.retry_after, now_us) if answer.outcome is Outcome.LIMITED else None
        next_us = self._schedule.next_us(claimed.attempts + 1, now_us, asked, self._spread)
        return ("dead", now_us) if next_us is None else ("pending", next_us)


def _failed(failure: EgressFailed) -> Outcome:
    cause = failure.__cause__
    if cause is None:
        return Outcome.TIMED_OUT
    denied = isinstance(cause, AddressDenied) or isinstance(getattr(cause, "os_error", None), AddressDenied)
    return Outcome.FORBIDDEN if denied else Outcome.UNREACHABLE
