"""A gateway's webhooks without the gateway: store, parts and a receiver that does as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from waybridge.bus import MemoryBus
from waybridge.errors import Forbidden, Unauthorized
from waybridge.settings import Settings
from waybridge.store.engine import Store, Tx
from waybridge.vault import Vault
from waybridge.webhooks import Webhooks

SECRET = "k" * 40
BASE_US = 1_795_000_000_000_000


class Clock:
    """Microseconds; real ones until the test sets them."""

    def __init__(self, now_us: int = BASE_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us

    def forward(self, seconds: float) -> None:
        self.now_us += round(seconds * 1_000_000)


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    """A webhook target on loopback. `answers` are used up one a request; then `default` is answered."""

    received: list[Received] = field(default_factory=list)
    answers: list[int | Answer] = field(default_factory=list)
    default: int | Answer = 200
    url: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    most_running: int = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.path, headers, body))
        self.changed.set()
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            answer = self.answers.pop(0) if self.answers else self.default
            if isinstance(answer, int):
                return web.Response(status=answer)
            return await answer(request)
        finally:
            self.running -= 1

    async def until(self, count: int) -> None:
        """Waits until so many requests came."""
        async with asyncio.timeout(60):
            while len(self.received) < count:
                self.changed.clear()
                await self.changed.wait()

    @property
    def ids(self) -> list[str]:
        return [each.event_id for each in self.received]

    @property
    def types(self) -> list[str]:
        return [each.event["event_type"] for each in self.received]


def settings(**webhooks: Any) -> Settings:
    return Settings.model_validate({"secret_keys": [SECRET], "webhooks": {"allow_private_targets": True, **webhooks}})


def make(store: Store, made: Settings, **parts: Any) -> Webhooks:
    return Webhooks(store, MemoryBus(), Vault(made.secrets), made, **parts)


async def emit(store: Store, event_type: str = "device.online", *, instance_id: str = "acme", **more: Any) -> str:
    """Commits one event, as other parts do in their transactions; its id."""

    async def unit(tx: Tx) -> str:
        token = more.get("device_token")
        data = more.pop("data", {"device_token": token})
        return tx.emit(event_type, instance_id=instance_id, data=data, **more)

    return await store.write(unit)


async def deliver(webhooks: Webhooks) -> None:
    """Expands and attempts everything that is due at the clock's time."""
    await webhooks.dispatcher.expand()
    await webhooks.deliverer.drain()
    while await webhooks.dispatcher.expand():
        await webhooks.deliverer.drain()


async def subscribe(webhooks: Webhooks, url: str, **fields: Any) -> dict[str, Any]:
    return await webhooks.subscriptions.create("acme", {"target_url": url, "subscribed_events": ["*"], **fields})


async def state_of(webhooks: Webhooks, subscription: dict[str, Any]) -> list[dict[str, Any]]:
    """The deliveries, oldest first."""
    answer = await webhooks.history.deliveries(None, subscription["id"], limit=500)
    return answer["deliveries"][::-1]


@dataclass(frozen=True)
class TokenHolder:
    """Who sent a request, as the API sees it."""

    instances: frozenset[str] = frozenset({"acme"})
    scopes: frozenset[str] = frozenset({"read", "write"})

    def covers(self, instance_id: str) -> bool:
        return "*" in self.instances or instance_id in self.instances

    def require(self, scope: str) -> None:
        if scope not in self.scopes:
            raise Forbidden(f"the token lacks the scope {scope}")


class Tokens:
    """Tokens are names of their holders."""

    def __init__(self, **holders: TokenHolder) -> None:
        self.holders = holders

    def cached(self, token: str) -> TokenHolder | None:
        return self.holders.get(token)

    async def verify(self, token: str) -> TokenHolder:
        raise Unauthorized("the token is not valid")

    def embed_origins(self, instance_id: str) -> Collection[str]:
        return ()

    def all_embed_origins(self) -> Collection[str]:
        return ()
