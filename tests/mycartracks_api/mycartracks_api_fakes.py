"""A gateway in memory: devices that a test moves, tokens that are names, tickets in a dict."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from waybridge import Caller, DeviceView, Position, RequestError, SourceKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

WHEN = datetime(2026, 6, 1, 14, 21, 35, tzinfo=UTC)


class Unauthorized(RequestError):
    status: ClassVar[int] = 401


class FakeGateway:
    """Tokens are written `scope@instance,instance`."""

    session: Any = None
    subscriptions: Any = None

    def __init__(self) -> None:
        self.public_base_url = "http://gateway.example"
        self.views: dict[tuple[str, str], DeviceView] = {}
        self.members: dict[str, dict[str, tuple[int, list[str]]]] = {}
        self.tickets: dict[str, Any] = {}
        self.listeners: dict[asyncio.Queue[list[DeviceView] | None], str] = {}

    # -- what tests do

    def put(self, instance_id: str, device_token: str, **changes: Any) -> DeviceView:
        """Makes or changes a device and tells the listeners. `at` = (latitude, longitude)."""
        at, fix = changes.pop("at", None), changes.pop("fix", {})
        known = self.views.get((instance_id, device_token))
        if known is None:
            known = DeviceView(
                instance_id=instance_id,
                device_token=device_token,
                number=len(self.views) + 1,
                display_name=f"Device {device_token}",
                handle=None,
                nickname=None,
                full_name=None,
                provider="native",
                online=True,
                sharing=True,
                visible=True,
                stale=False,
                position=None,
                track_token=None,
                last_seen_at=None,
            )
        if at is not None:
            moment = changes.pop("recorded_at", None) or datetime.now(UTC)
            spot = {"latitude": at[0], "longitude": at[1], "recorded_at": moment, "received_at": moment} | fix
            changes["position"] = Position(source=SourceKey("c", device_token), **spot)
        view = self.views[(instance_id, device_token)] = dataclasses.replace(known, **changes)
        for queue, listened in self.listeners.items():
            if listened == instance_id:
                queue.put_nowait([view])
        return view

    def stop(self) -> None:
        for queue in self.listeners:
            queue.put_nowait(None)

    # -- what plugins see

    async def authenticate(self, token: str) -> Caller:
        scope, _, instances = token.partition("@")
        if not instances:
            raise Unauthorized("bad token")
        return Caller("somebody", frozenset(instances.split(",")), frozenset(scope.split("+")))

    async def instances(self, caller: Caller) -> Sequence[str]:
        return sorted(caller.instances)

    async def devices(
        self, instance_id: str, *, tokens: Sequence[str] | None = None, group: str | None = None
    ) -> Sequence[DeviceView]:
        assert tokens is None
        assert group is None
        return [view for (where, _), view in self.views.items() if where == instance_id]

    async def groups(self, instance_id: str) -> Mapping[str, tuple[int, Sequence[str]]]:
        return self.members.get(instance_id, {})

    @asynccontextmanager
    async def listen(self, instance_id: str) -> AsyncIterator[AsyncIterator[Sequence[DeviceView]]]:
        queue: asyncio.Queue[list[DeviceView] | None] = asyncio.Queue()
        self.listeners[queue] = instance_id

        async def changes() -> AsyncIterator[Sequence[DeviceView]]:
            while (views := await queue.get()) is not None:
                yield views

        try:
            yield changes()
        finally:
            del self.listeners[queue]

    async def keep_ticket(self, ticket: str, value: Any, seconds: float) -> None:
        assert seconds == 3600
        self.tickets[ticket] = value

    async def take_ticket(self, ticket: str) -> Any:
        return self.tickets.pop(ticket, None)
