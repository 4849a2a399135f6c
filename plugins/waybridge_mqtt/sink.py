"""The sink: one connection to the broker, made when there is something to say and again after it broke.

Topics are `PREFIX/INSTANCE/DEVICE_TOKEN/position` and `.../event`; a token's characters that topics give a meaning
are percent-encoded. A failed publish raises: the gateway keeps what matters and hands it over again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiomqtt

if TYPE_CHECKING:
    from waybridge import SinkEvent
    from waybridge_mqtt.settings import MqttSettings

ANSWER_SECONDS = 10.0
LEAVE_SECONDS = 1.0
KEEPALIVE_SECONDS = 30
AT_ONCE = 100
"""Messages that may wait for their acknowledgement together."""
_PLAIN = " !\"$&'()*,;<=>?@[]^`{|}"
"""What quote() would encode although a topic's level may hold it."""


class MqttSink:
    """Publishes what it is told, in order. Positions are retained where `retain` says so; events never are."""

    name = "mqtt"

    def __init__(self, settings: MqttSettings) -> None:
        self._settings = settings
        self._client: aiomqtt.Client | None = None

    async def take(self, events: Sequence[SinkEvent]) -> None:
        """Raises aiomqtt.MqttError when the broker cannot be reached or does not answer in time."""
        try:
            client = self._client or await self._connect()
            for start in range(0, len(events), AT_ONCE):
                await self._publish(client, events[start : start + AT_ONCE])
        except (aiomqtt.MqttError, asyncio.CancelledError):
            await self._forget()
            raise

    async def close(self) -> None:
        await self._forget()

    def topic(self, event: SinkEvent) -> str:
        """Where an event is published."""
        token = quote(event.device_token, safe=_PLAIN)
        return f"{self._settings.topic_prefix}/{event.instance_id}/{token}/{event.kind}"

    async def _publish(self, client: aiomqtt.Client, events: Sequence[SinkEvent]) -> None:
        """Sends events in their order, and waits for the broker's acknowledgement of all."""
        sending = (
            client.publish(
                self.topic(event),
                event.body,
                qos=self._settings.qos,
                retain=self._settings.retain and event.kind == "position",
                timeout=ANSWER_SECONDS,
            )
            for event in events
        )
        for result in await asyncio.gather(*sending, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _connect(self) -> aiomqtt.Client:
        settings = self._settings
        host, port = settings.address
        client = aiomqtt.Client(
            host,
            port,
            username=settings.username,
            password=settings.password.get_secret_value() if settings.password is not None else None,
            identifier=settings.client_id,
            keepalive=KEEPALIVE_SECONDS,
            timeout=ANSWER_SECONDS,
            tls_context=ssl.create_default_context() if settings.secure else None,
        )
        await client.__aenter__()
        self._client = client
        return client

    async def _forget(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(aiomqtt.MqttError, TimeoutError):  # it is broken already, or it is now
                async with asyncio.timeout(LEAVE_SECONDS):
                    await client.__aexit__(None, None, None)
