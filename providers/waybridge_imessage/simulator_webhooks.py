"""The sending side of the stand-in: subscriptions, signatures (Standard Webhooks and the legacy headers), retries."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
from standardwebhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from waybridge_imessage.simulator_model import Faults


NO_CONNECTION = 0
SERVER_ERROR = HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(slots=True, kw_only=True)
class Subscription:
    """A webhook subscription, as the vendor keeps it."""

    subscription_id: str
    target_url: str
    subscribed_events: list[str]
    phone_numbers: list[str]
    signing_secret: str
    created_at: datetime
    updated_at: datetime
    is_active: bool = True
    routing_key_header: str | None = None
    routing_id_header: str | None = None

    def shown(self, *, with_secret: bool = False) -> dict[str, Any]:
        """The subscription as the API answers it; the secret only when it was made just now."""
        answer: dict[str, Any] = {
            "id": self.subscription_id,
            "target_url": self.target_url,
            "subscribed_events": self.subscribed_events,
            "phone_numbers": self.phone_numbers or None,
            "is_active": self.is_active,
            "created_at": self.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "updated_at": self.updated_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "routing_key_header": self.routing_key_header,
            "routing_id_header": self.routing_id_header,
        }
        return {**answer, "signing_secret": self.signing_secret} if with_secret else answer


@dataclass(slots=True)
class Deliveries:
    """Delivers envelopes to subscriptions; retries 5xx, 429 and lost connections, never another 4xx."""

    faults: Callable[[], Faults]
    clock: Callable[[], datetime]
    retry_delays: Sequence[float]
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def create(self, fields: dict[str, Any]) -> Subscription:
        now = self.clock()
        made = Subscription(
            subscription_id=str(uuid.uuid4()),
            target_url=fields["target_url"],
            subscribed_events=list(fields["subscribed_events"]),
            phone_numbers=list(fields.get("phone_numbers") or ()),
            signing_secret="whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
            created_at=now,
            updated_at=now,
            routing_key_header=fields.get("routing_key_header"),
            routing_id_header=fields.get("routing_id_header"),
        )
        self.subscriptions[made.subscription_id] = made
        return made

    def send(self, envelope: dict[str, Any], *, line: str | None) -> None:
        faults = self.faults()
        if faults.drop_webhooks:
            return
        copies = [envelope] * (1 + faults.duplicate_webhooks)
        copies += [{**envelope, "event_id": str(uuid.uuid4())} for _ in range(faults.renamed_duplicates)]
        for subscription in self.subscriptions.values():
            wanted = envelope["event_type"] in subscription.subscribed_events and subscription.is_active
            ours = line is None or not subscription.phone_numbers or line in subscription.phone_numbers
            if wanted and ours:
                for copy in copies:
                    self._start(self._deliver(subscription, copy))

    async def settled(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work, name="linq simulator delivery")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, subscription: Subscription, envelope: dict[str, Any]) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            for delay in (*self.retry_delays, None):
                status = await self._attempt(session, subscription, envelope)
                again = status in (NO_CONNECTION, HTTPStatus.TOO_MANY_REQUESTS) or status >= SERVER_ERROR
                if delay is None or not again:
                    return
                await asyncio.sleep(delay)

    async def _attempt(
        self, session: aiohttp.ClientSession, subscription: Subscription, envelope: dict[str, Any]
    ) -> int:
        body = json.dumps(envelope, ensure_ascii=False)
        headers = self._headers(subscription, envelope, body)
        try:
            async with session.post(
                subscription.target_url, data=body.encode(), headers=headers, allow_redirects=False
            ) as response:
                await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            status = NO_CONNECTION
        self.attempts.append(
            {
                "event_type": envelope["event_type"],
                "event_id": envelope["event_id"],
                "status": status,
                "headers": headers,
                "body": body,
            }
        )
        return status

    def _headers(self, subscription: Subscription, envelope: dict[str, Any], body: str) -> dict[str, str]:
        faults = self.faults()
        seconds = int(self.clock().timestamp()) - faults.stale_webhooks
        legacy = f"{seconds}.{body}".encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Linq-Webhooks/3 (simulated)",
            "X-Webhook-Event": envelope["event_type"],
            "X-Webhook-Subscription-ID": subscription.subscription_id,
            "X-Webhook-Timestamp": str(seconds),
            "X-Webhook-Signature": hmac.new(subscription.signing_secret.encode(), legacy, hashlib.sha256).hexdigest(),
        }
        if faults.unsigned:
            return headers
        message = envelope["event_id"]
        signed = body + " " if faults.bad_signature else body
        signature = Webhook(subscription.signing_secret).sign(message, datetime.fromtimestamp(seconds, UTC), signed)
        return {
            **headers,
            "webhook-id": message,
            "webhook-timestamp": str(seconds),
            "webhook-signature": signature,
        }
