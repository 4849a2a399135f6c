"""The conformance class over the iMessage provider."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from test_imessage_webhook import SECRET, event

from waybridge import Push, sign_webhook
from waybridge.testing import Example, ProviderContract
from waybridge_imessage import IMessage
from waybridge_imessage.simulator import LinqSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

ANNA, BOB = "+14155550101", "+14155550102"


class TestIMessage(ProviderContract):
    provider = IMessage
    settings: ClassVar[Mapping[str, Any]] = {"api_key": "key-of-the-test", "webhook_signing_secret": SECRET}
    hostile: ClassVar[Mapping[str, str]] = {"base_url": "{vendor}"}
    streamed: ClassVar[Sequence[Mapping[str, Any]]] = [
        {"external_id": ANNA, "latitude": 60.17, "longitude": 24.94, "speed_mps": None, "heading_deg": None}
    ]
    examples: ClassVar[Sequence[Example]] = [
        Example(path="webhook", body=event(event_id="evt_1")),
        Example(path="webhook", body=event(event_id="evt_2", shared_by=BOB)),
        Example(path="webhook", body=event("stopped", event_id="evt_3", shared_by=BOB)),
    ]

    def sign(self, push: Push, settings: Mapping[str, Any]) -> Push:
        seconds = int(push.received_at.timestamp())
        signature = sign_webhook(settings["webhook_signing_secret"], "msg_1", seconds, push.body)
        proof = {"webhook-id": "msg_1", "webhook-timestamp": str(seconds), "webhook-signature": signature}
        return replace(push, headers={**push.headers, **proof})

    @asynccontextmanager
    async def stand_in(self) -> AsyncIterator[Mapping[str, Any]]:
        async with LinqSimulator() as linq:
            chat = linq.add_chat(ANNA)
            linq.share(chat, ANNA, 60.17, 24.94)
            yield {**linq.settings(), "chats": [chat]}
