"""A gateway in memory: devices that a test moves, tokens that are names, tickets in a dict."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from waybridge import Caller, DeviceView, Position, RequestError, SourceKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import aiohttp

WHEN = datetime(2026, 6, 1, 14, 21, 35, tzinfo=UTC)
ROOT = "/services/rest/v3/vehicles"
READ = {"Authorization": "Bearer read@acme"}
FIX = {"speed_mps": 42.5 / 3.6, "heading_deg": 90.0, "received_at": WHEN + timedelta(seconds=3)}


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


class Api:
    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url

    async def get(self, query: str = "", headers: dict[str, str] = READ) -> tuple[int, Any]:
        async with self.http.get(f"{self.url}{ROOT}/lastPositions{query}", headers=headers) as answer:
            return answer.status, await answer.json()

    async def post(self, body: Any = None, headers: dict[str, str] = READ) -> tuple[int, Any]:
        data = body if isinstance(body, (bytes, str)) or body is None else json.dumps(body)
        async with self.http.post(f"{self.url}{ROOT}/livePositions/stream", data=data, headers=headers) as answer:
            return answer.status, await answer.json()

    async def socket(self, **body: Any) -> aiohttp.ClientWebSocketResponse:
        status, answer = await self.post(body)
        assert status == 201, answer
        ws = await self.http.ws_connect(answer["websocketUrl"])
        assert await ws.receive_json(timeout=5) == {"type": "connected", "streamId": answer["streamId"]}
        return ws
