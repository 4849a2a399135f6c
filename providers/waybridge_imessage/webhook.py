"""The receiver of Linq's webhooks: verified on the raw bytes, deduplicated, durable before it answers.

Linq retries 5xx, 429 and lost connections for half an hour and never a 4xx: what is signed but not understood is
answered 200 and kept as a dead letter; only an unproved sender is refused.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from waybridge import (
    Answer,
    CompareAndSet,
    Profile,
    PushRejected,
    Put,
    PutIfAbsent,
    Receipt,
    SharingStarted,
    SharingStopped,
    SignatureRejected,
    verify_webhook,
)
from waybridge_imessage import shares
from waybridge_imessage.wire import NotUnderstood, SharingEvent, decode, event_id, parse_event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from waybridge import ProviderContext, Push, Report, SourceKey
    from waybridge_imessage.settings import IMessageSettings
    from waybridge_imessage.shares import Change, Person

CALLBACK = "secret/callback"
CHANGED = "changed"
DEAD = "secret/dead/"
DEAD_LETTERS = 64
DEAD_BYTES = 16_384
OK = Answer(body=b'{"success":true}')


def person_key(handle: str) -> str:
    return f"person/{handle}"


def chat_key(chat: str) -> str:
    return f"chat/{chat}"


class Receiver:
    """Turns one inbound request into a Receipt. Reads the state; writes only by intents."""

    def __init__(self, settings: IMessageSettings, context: ProviderContext) -> None:
        self._settings = settings
        self._context = context

    async def receive(self, push: Push) -> Receipt:
        if tuple(push.segments) != ("webhook",):
            raise PushRejected(404, b'{"success":false}', reason="only /webhook is served")
        if push.method != "POST":
            raise PushRejected(405, b'{"success":false}', headers={"Allow": "POST"}, reason="only POST is served")
        await self._verify(push)
        fallback_id = push.headers.get("webhook-id", "")
        try:
            document = decode(push.body)
            unique = event_id(document, fallback_id)
            seen = f"event/{hashlib.sha256(unique.encode('utf-8', 'surrogatepass')).hexdigest()}"
            if await self._context.state.get(seen) is not None:
                self._context.count("webhook_duplicate")
                return Receipt(answer=OK)
            event = parse_event(document, fallback_id, push.received_at)
        except NotUnderstood as error:
            return await self._bury(push, str(error))
        if event is None:
            self._context.count("webhook_ignored")
            return Receipt(answer=OK)
        once = PutIfAbsent(seen, push.received_at.isoformat())
        return await self._apply(event, once, push.received_at)

    async def _verify(self, push: Push) -> None:
        secrets = await self._secrets()
        if not secrets and "webhook-signature" in push.headers:
            # A 5xx, so that the vendor comes again once the operator has set the secret.
            self._context.log.error("A webhook came, but no signing secret is configured: set webhook_signing_secret")
            raise PushRejected(503, b'{"success":false}', reason="no webhook signing secret is configured")
        try:
            verify_webhook(secrets, push.headers, push.body, push.received_at.timestamp())
        except SignatureRejected as error:
            self._context.count("webhook_signature_rejected")
            raise PushRejected(401, b'{"success":false}', reason="the webhook's signature is not valid") from error

    async def _secrets(self) -> list[str]:
        """The configured secret and those of our own registration (the one before too, while events are under way)."""
        configured = self._settings.webhook_signing_secret
        kept = await self._context.state.get(CALLBACK)
        own = kept.get("secrets", []) if isinstance(kept, dict) else []
        return [*([configured.get_secret_value()] if configured is not None else []), *own]

    async def _apply(self, event: SharingEvent, once: PutIfAbsent, now: datetime) -> Receipt:
        state = self._context.state
        key = person_key(event.shared_by)
        kept = await state.get(key)
        person = shares.load(kept)
        after, change = shares.heard(person, event, now)
        source = self._context.source(event.shared_by)
        reports = reports_of(source, person, after, change, ended_at=event.ended_at, now=now)
        if change == "started":
            after = shares.introduced(after)
        intents: list[PutIfAbsent | CompareAndSet | Put] = [once]
        if after != person:
            value = shares.dump(after)
            intents += [PutIfAbsent(key, value) if kept is None else CompareAndSet(key, kept, value)]
            intents += [Put(CHANGED, event.event_id[:100])]
        if event.chat_id is not None:
            known = await state.get(chat_key(event.chat_id))
            intents += chat_intents(event.chat_id, known, event.shared_by)
        return Receipt(reports=reports, intents=intents, answer=OK)

    async def _bury(self, push: Push, reason: str) -> Receipt:
        """Keeps what we do not understand, the newest 64 of them, sealed, for whoever looks into it."""
        self._context.count("webhook_dead_letter")
        self._context.log.warning("A signed webhook is not understood and kept as a dead letter", reason=reason)
        kept = await self._context.state.items(DEAD)
        slots = {f"{DEAD}{n}" for n in range(DEAD_LETTERS)}
        free = sorted(slots - kept.keys())
        slot = free[0] if free else min(slots, key=lambda name: _received(kept[name]))
        letter = {
            "received_at": push.received_at.isoformat(),
            "reason": reason,
            "webhook_id": push.headers.get("webhook-id", "")[:200],
            "body": base64.b64encode(push.body[:DEAD_BYTES]).decode(),
        }
        return Receipt(intents=[Put(slot, letter)], answer=OK)


def reports_of(
    source: SourceKey, before: Person, after: Person, change: Change, *, ended_at: datetime | None, now: datetime
) -> Sequence[Report]:
    """What the gateway is told of a change of one person."""
    match change:
        case "started" | "extended":
            share = after.shares[-1]
            began_at = min(share.began_at, now)
            if before.stopped_at is not None:
                # A share that is newer than one that ended begins after that end, whatever the phone's clock says.
                began_at = max(began_at, before.stopped_at + shares.INSTANT)
            told = SharingStarted(
                source=source,
                began_at=began_at,
                ends_at=shares.ends_at(after),
                cause="consent",
                shared_by=source.external_id,
                shared_with=share.line or None,
                chat_id=share.chat,
            )
            return [told] if before.met else [profile_of(source), told]
        case "stopped":
            return [SharingStopped(source=source, ended_at=min(ended_at or now, now), cause="consent_withdrawn")]
        case None:
            return []


def profile_of(source: SourceKey) -> Profile:
    """What a handle tells of a person: the number or the address that is shared from."""
    handle = source.external_id
    mail, phone = "@" in handle, handle.lstrip("+").isdigit()
    return Profile(source=source, handle=handle, email=handle if mail else None, phone=handle if phone else None)


def chat_intents(chat: str, known: Any, handle: str) -> list[PutIfAbsent | CompareAndSet | Put]:
    """Remembers who was seen in a chat: `chat/{id}` -> {"handles": [external ids]}."""
    handles = list(known["handles"]) if isinstance(known, dict) else []
    if handle in handles:
        return []
    value = {"handles": [*handles, handle][-100:]}
    key = chat_key(chat)
    return [PutIfAbsent(key, value) if known is None else CompareAndSet(key, known, value)]


def _received(letter: Any) -> str:
    return str(letter.get("received_at", "")) if isinstance(letter, dict) else ""
