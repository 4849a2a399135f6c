"""The live parts behind a real server on loopback, in real time; positions are put straight onto the bus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from sharing.world import INSTANCE, World, recipients_of, sharing_of

from waybridge.api.address import ClientAddress
from waybridge.api.cors import CrossOrigin
from waybridge.api.operations import Dispatcher, Operation
from waybridge.api.realtime import RealtimeApi
from waybridge.api.server import edge, mount
from waybridge.api.share_public import SharePublicApi
from waybridge.api.sharing import SharingApi
from waybridge.api.streams import StreamsApi
from waybridge.bus import DeviceEvent, Fix, MemoryBus, PositionEvent
from waybridge.errors import Unauthorized
from waybridge.limits import MemoryLimiter, buckets
from waybridge.roster import Device, Roster
from waybridge.settings_tables import LimitSettings, StreamSettings
from waybridge.store.engine import Store
from waybridge.store.migrate import migrate
from waybridge.streams.fanout import Fanout
from waybridge.streams.realtime import RealtimeFeeds
from waybridge.streams.sessions import StreamSessions
from waybridge.streams.shares import ShareChannels


@dataclass(frozen=True, kw_only=True)
class Bearer:
    """Who calls: the token is what it may do, e.g. "read write@acme"."""

    subject: str
    instances: frozenset[str]
    scopes: frozenset[str]
    expires_at: float
    device_token: str | None = None

    def covers(self, instance_id: str) -> bool:
        return instance_id in self.instances or "*" in self.instances

    @property
    def covers_all(self) -> bool:
        return "*" in self.instances

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def require(self, scope: str) -> None:
        assert scope in self.scopes


class Tokens:
    """Takes tokens like `read+write@acme@3600`: scopes, instance, seconds to live."""

    def cached(self, token: str) -> Any:
        return None

    async def verify(self, token: str) -> Any:
        try:
            scopes, instance_id, seconds = token.split("@")
        except ValueError:
            raise Unauthorized("the token is wrong") from None
        if float(seconds) <= 0:
            raise Unauthorized("the token has expired")
        return Bearer(
            subject="tests",
            instances=frozenset(instance_id.split(",")),
            scopes=frozenset(scopes.split("+")),
            expires_at=time.time() + float(seconds),
        )


class NoInstances:
    def embed_origins(self, instance_id: str) -> list[str]:
        return []

    def all_embed_origins(self) -> list[str]:
        return []


TOKEN_ALL = f"read+write@{INSTANCE}@3600"


class Live(World):
    """A world in real time with its API served."""

    bus: MemoryBus
    fanout: Fanout
    channels: ShareChannels
    feeds: RealtimeFeeds
    streams: StreamSessions
    streams_settings: StreamSettings
    url: str
    http: aiohttp.ClientSession

    def move(self, device: Device, **changes: Any) -> Fix:
        """A newer position, as intake publishes it after the commit."""
        fix = self.fix(device, **changes)
        source = device.sources[0]
        self.bus.publish(
            [PositionEvent(device.instance_id, device.id, device.token, source.id, fix,
                           source.trip.track_token if source.trip else None, True, source.visible)]
        )  # fmt: skip
        return fix

    def happen(self, device: Device, kind: str, details: Mapping[str, Any] | None = None) -> None:
        self.bus.publish(
            [DeviceEvent(kind, device.instance_id, device.id, device.token, self.store.now_us(), dict(details or {}))]
        )

    async def watch(self, share_token: str, **options: Any) -> aiohttp.ClientWebSocketResponse:
        return await self.http.ws_connect(f"{self.url}/api/v1/share/{share_token}/live", **options)

    async def realtime(self, **first: Any) -> aiohttp.ClientWebSocketResponse:
        ws = await self.http.ws_connect(f"{self.url}/api/v1/ws/realtime", max_msg_size=0)
        if first:
            await ws.send_json({"type": "authenticate", "instance_id": INSTANCE, **first})
        return ws

    async def stream(self, **wanted: Any) -> dict[str, Any]:
        status, answer = await self.call("POST", "/streams", json={"instance_id": INSTANCE, **wanted})
        assert status == 201, answer
        found: dict[str, Any] = answer
        return found

    async def link(self, **wanted: Any) -> tuple[str, str]:
        """(session id, share token) of a new session over HTTP."""
        headers = {"Authorization": f"Bearer {TOKEN_ALL}"}
        body = {"instance_id": INSTANCE, **wanted}
        async with self.http.post(f"{self.url}/api/v1/sharing/sessions", json=body, headers=headers) as answer:
            found = await answer.json()
            assert answer.status == 201, found
            return found["id"], found["share_token"]

    async def call(self, method: str, path: str, token: str = TOKEN_ALL, **options: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
        async with self.http.request(method, f"{self.url}/api/v1{path}", headers=headers, **options) as answer:
            return answer.status, await answer.json(content_type=None)


async def read(ws: aiohttp.ClientWebSocketResponse, seconds: float = 5.0) -> dict[str, Any]:
    """The next frame, as JSON."""
    found: dict[str, Any] = await ws.receive_json(timeout=seconds)
    return found


async def ended(ws: aiohttp.ClientWebSocketResponse, seconds: float = 5.0) -> tuple[list[dict[str, Any]], int | None]:
    """(what still comes, the close code)."""
    async with asyncio.timeout(seconds):
        frames = [message.json() async for message in ws]
    return frames, ws.close_code


async def serve(live: Live, operations: list[Operation]) -> web.AppRunner:
    cross_origin = CrossOrigin(NoInstances())
    app = web.Application(middlewares=[edge(cross_origin, access_log=False)])
    mount(app, operations, dispatcher=Dispatcher(Tokens(), ClientAddress()), cross_origin=cross_origin)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    live.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    return runner


async def make_live(folder: Any, limits: LimitSettings, **more: Any) -> AsyncIterator[Live]:
    bus, roster = MemoryBus(), Roster()
    store = Store(f"sqlite+aiosqlite:///{folder / 'live.db'}", durability="normal", publish=bus.publish)
    await store.start()
    await migrate(store)
    live = Live(store, roster, sharing_of(store, roster), recipients_of(store, roster), store)  # type: ignore[arg-type]
    live.clock = RealClock()  # type: ignore[assignment]
    live.bus = bus
    live.fanout = Fanout(slow_seconds=more.get("slow_seconds", 10.0))
    live.channels = ShareChannels(
        live.fanout, live.recipients, now_us=store.now_us, recheck_seconds=more.get("recheck_seconds", 30.0)
    )
    live.feeds = RealtimeFeeds(live.fanout, roster)
    bus.attach(live.channels.on_events)
    bus.attach(live.feeds.on_events)
    limiter = MemoryLimiter(
        buckets(limits), monotonic=more.get("monotonic", time.monotonic), capacity=10_000
    )
    public = SharePublicApi(live.recipients, live.channels, live.fanout, limiter, buckets(limits), limits)
    realtime = RealtimeApi(
        Tokens(), live.feeds, live.fanout, limits, instance_exists=lambda instance_id: instance_id == INSTANCE
    )
    live.streams_settings = more.get("streams", StreamSettings())
    live.streams = StreamSessions(live.fanout, roster, store, live.streams_settings, node_id="n1")
    bus.attach(live.streams.on_events)
    streams = StreamsApi(
        live.streams, live.fanout, CrossOrigin(NoInstances()), limits, live.streams_settings,
        base_url=lambda: live.url,
    )  # fmt: skip
    parts = (SharingApi(live.sharing, limits), public, realtime, streams)
    runner = await serve(live, [operation for part in parts for operation in part.operations()])
    live.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    yield live
    await live.http.close()
    await live.fanout.close()
    await live.channels.close()
    await live.streams.close()
    await runner.cleanup()
    await store.close()


class RealClock:
    @property
    def now_us(self) -> int:
        return time.time_ns() // 1000


@pytest.fixture
async def brief(tmp_path: Any) -> AsyncIterator[Live]:
    """Streams live a second and beat ten times in it."""
    settings = StreamSettings(lifetime_seconds=1.0, heartbeat_seconds=0.1, min_interval_seconds=0.05)
    async for made in make_live(tmp_path, OPEN, streams=settings):
        yield made


OPEN = LimitSettings(
    public_requests_per_minute=1_000_000, sockets_per_token=20_000, sockets_per_address=20_000,
    public_misses_per_minute=1_000_000,
)  # fmt: skip


@pytest.fixture
async def live(tmp_path: Any) -> AsyncIterator[Live]:
    """Without limits that would be met."""
    async for made in make_live(tmp_path, OPEN):
        yield made


@pytest.fixture
async def limited(tmp_path: Any) -> AsyncIterator[Live]:
    """With the limits as shipped, but two sockets a token and three an address; nothing is forgiven meanwhile."""
    few = LimitSettings(sockets_per_token=2, sockets_per_address=3, authenticate_seconds=0.3)
    async for made in make_live(tmp_path, few, monotonic=lambda: 1000.0):
        yield made


@pytest.fixture
async def impatient(tmp_path: Any) -> AsyncIterator[Live]:
    """Cuts after half a second, reads sessions again each half second."""
    async for made in make_live(tmp_path, OPEN, slow_seconds=0.5, recheck_seconds=0.5):
        yield made
