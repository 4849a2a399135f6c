"""The house: every part is made here, handed its needs, started in order and put away in reverse.

    store -> roster -> connections' policies -> everything known -> intake -> presence -> streams, webhooks -> web
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from waybridge import metrics
from waybridge.attaching import Attaching
from waybridge.auth import Auth, Clients, OutsideKeys
from waybridge.bus import Bus, FollowingBus, MemoryBus
from waybridge.connections import Connections
from waybridge.devices import Devices
from waybridge.egress import make_session
from waybridge.errors import ConfigurationError, StoreUnavailable
from waybridge.eta import Arrivals
from waybridge.following import Following
from waybridge.history import EVERY_SECONDS as TIDY_SECONDS
from waybridge.history import History
from waybridge.instances import Instances
from waybridge.intake import Intake
from waybridge.limits import Limiter, MemoryLimiter, buckets
from waybridge.limits_shared import SharedLimiter
from waybridge.plugins import Plugins
from waybridge.presence import Presence
from waybridge.pushing import Pushing
from waybridge.recording import Work
from waybridge.roster import Roster
from waybridge.runtime import SystemClock
from waybridge.sharing import Recipients, Sharing
from waybridge.sinks import Sinks
from waybridge.slice import GatewaySlice
from waybridge.store import fleet
from waybridge.store.clients import client_by_id
from waybridge.store.engine import Store, Tx
from waybridge.store.migrate import current, migrate
from waybridge.store.space import space
from waybridge.streams.fanout import Fanout
from waybridge.streams.realtime import RealtimeFeeds
from waybridge.streams.sessions import StreamSessions
from waybridge.streams.shares import ShareChannels
from waybridge.supervisor import Node, Supervisor
from waybridge.tracks import Tracks
from waybridge.trips import TripRules
from waybridge.vault import Vault
from waybridge.webhooks import Webhooks
from waybridge.withdrawal import Withdrawal

if TYPE_CHECKING:
    import aiohttp

    from waybridge.settings import Settings

log = structlog.get_logger("waybridge.house")
START_SECONDS = 30.0


class House:
    """All parts of one gateway. Made inside the running loop; `start` before use, `close` after."""

    def __init__(self, settings: Settings, *, plugins: Plugins | None = None, shared_file: bool = False) -> None:
        self.settings = settings
        self.node = Node(secrets.token_hex(8), socket.gethostname())
        self.clock = SystemClock()
        self.plugins = plugins or Plugins(
            disabled=settings.plugins.disabled, settings=settings.plugins.model_extra or {}
        )
        # Asked before anything is open: settings that a plugin refuses end the start here.
        self.filters, self.estimator, told = self.plugins.filters(), self.plugins.eta(), self.plugins.sinks()
        self.bus: Bus = make_bus(settings, self.node, lambda: space(self.store))
        self.store = Store(
            settings.database_url,
            durability=settings.store.durability,
            publish=self.bus.publish,
            shared_file=shared_file,
        )
        # With the bus of one process there is one process: what it knows is what is stored.
        self.exclusive = isinstance(self.bus, MemoryBus) and type(self.bus) is MemoryBus and not shared_file
        self.roster = Roster()
        self.sinks = Sinks(self.bus, self.roster, told)
        self.vault = Vault(settings.secrets)
        self.session = make_session(guarded=False)
        self.instances = Instances(self.store, self.bus, settings.instances)
        self.auth = Auth(
            settings.auth,
            settings.secrets,
            clock=self.clock,
            outside=self._outside_keys(),
            token_bytes=settings.limits.token_bytes,
        )
        self.clients = Clients(self.auth, self._client, token_seconds=settings.auth.client_token_seconds)
        self.supervisor = Supervisor(
            self.store,
            self.roster,
            self.bus,
            self.vault,
            providers=self.plugins.providers,
            configured=settings.connections,
            instances=self.instances.ids,
            make_session=self.make_session,
            base_url=settings.base_url,
            node=self.node,
            exclusive=self.exclusive,
        )
        self._make_rules()

    def _make_rules(self) -> None:
        settings = self.settings
        default_policy = self.supervisor.default_policy
        self.rules = TripRules(
            gap_us=int(settings.trips.gap_seconds * 1e6),
            standstill_us=int(settings.trips.standstill_seconds * 1e6),
            standstill_mps=settings.trips.standstill_speed,
        )
        self.arrivals = Arrivals(self.estimator)
        self.sharing = Sharing(
            store=self.store,
            roster=self.roster,
            vault=self.vault,
            limits=settings.limits,
            settings=settings.sharing,
            base_url=lambda: settings.base_url,
            share_base_url=lambda: settings.share_base_url,
        )
        self.recipients = Recipients(
            store=self.store, roster=self.roster, arrivals=self.arrivals, brand=self.brand
        )
        self.fanout = Fanout(slow_seconds=settings.limits.slow_reader_seconds)
        self.share_channels = ShareChannels(
            self.fanout, self.recipients, now_us=self.store.now_us, recheck_seconds=settings.sharing.recheck_seconds
        )
        self.realtime_feeds = RealtimeFeeds(self.fanout, self.roster)
        self.stream_sessions = StreamSessions(
            self.fanout, self.roster, self.store, settings.streams, node_id=self.node.id
        )
        self.intake = Intake(
            self.store,
            self.roster,
            self.vault,
            rules=self.rules,
            shares=self.sharing,
            default_policy=default_policy,
            history=settings.history_days > 0,
            filters=self.filters,
            exclusive=self.exclusive,
            most_ahead_us=int(settings.limits.future_reject_seconds * 1e6),
        )
        self.connections = Connections(
            self.store,
            self.roster,
            self.vault,
            self.supervisor,
            self.intake,
            allow_private=settings.webhooks.allow_private_targets,
            make_work=self.make_work,
        )
        self.withdrawal = Withdrawal(self.store, self.roster, self.bus, self.supervisor)
        self.pushing = Pushing(self.supervisor, self.intake, self.roster)
        self.attaching = Attaching(self.store, self.roster, default_policy)
        self.devices = Devices(
            self.store,
            self.roster,
            default_policy=default_policy,
            end_shares=self.sharing.cancel_for_device,
            refresh_profile=self.connections.refresh_profile,
            exclusive=self.exclusive,
        )
        self.tracks = Tracks(self.store)
        self.webhooks = Webhooks(self.store, self.bus, self.vault, settings)
        self.history = History(self.store, settings.history_days)
        self.presence = Presence(
            self.store,
            self.roster,
            self.bus,
            rules=self.rules,
            shares=self.sharing,
            default_policy=default_policy,
            exclusive=self.exclusive,
            every=(
                ("history", TIDY_SECONDS, self.history.tidy),
                ("shares purge", 3600.0, self.sharing.purge),
                ("streams purge", 60.0, self.stream_sessions.purge),
                ("gauges", 15.0, self._measure),
            ),
        )
        rates = buckets(settings.limits)
        self.limiter: Limiter = MemoryLimiter(
            rates, monotonic=time.monotonic, capacity=settings.limits.limiter_keys
        )
        if not self.exclusive:
            self.limiter = SharedLimiter(self.store, self.limiter, rates)
        self.slice = GatewaySlice(
            store=self.store,
            roster=self.roster,
            bus=self.bus,
            auth=self.auth,
            clients=self.clients,
            instances=self.instances,
            connections=self.connections,
            subscriptions=self.webhooks.northbound,
            session=self.session,
            public_base_url=settings.base_url,
        )

    # -- small things that parts are handed

    def make_session(self, guarded: bool) -> aiohttp.ClientSession:  # noqa: FBT001 - the supervisor's callable
        """A session for outgoing requests; guarded ones refuse private addresses unless they are allowed."""
        settings = self.settings
        return make_session(
            guarded=guarded and not settings.webhooks.allow_private_targets, allow=settings.allowed_networks
        )

    def brand(self, instance_id: str) -> dict[str, Any]:
        """Name and colour of an instance, else the gateway's."""
        return {**self.settings.brand.model_dump(), **self.instances.brand(instance_id)}

    def make_work(self, tx: Tx) -> Work:
        """Intake's part for another part's transaction."""
        return Work(
            tx,
            self.roster,
            rules=self.rules,
            shares=self.sharing,
            default_policy=self.supervisor.default_policy,
            history=True,
            by_clock=True,
        )

    async def _client(self, client_id: str) -> Any:
        async with self.store.read() as conn:
            return await client_by_id(conn, client_id)

    def _outside_keys(self) -> OutsideKeys | None:
        auth = self.settings.auth
        if not auth.jwks_url:
            return None
        return OutsideKeys(
            auth.jwks_url,
            self.session,
            monotonic=time.monotonic,
            algorithms=auth.algorithms,
            timeout_seconds=auth.jwks_timeout_seconds,
            ttl_seconds=auth.jwks_ttl_seconds,
            refetch_seconds=auth.jwks_refetch_seconds,
            keep_seconds=auth.jwks_keep_hours * 3600,
        )

    async def _measure(self) -> None:
        metrics.DEVICES.set(len(self.roster))

    # -- life

    @contextlib.asynccontextmanager
    async def living(self) -> AsyncIterator[House]:
        """The gateway at work, without its web server."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.session.close)
            await self.store.start()
            stack.push_async_callback(self.store.close)
            await self._open_database()
            await self.bus.start()
            stack.push_async_callback(self.bus.close)
            for part in self._parts():
                await part[0]()
                stack.push_async_callback(part[1])
            for lifespan in self.plugins.lifespans(self.slice):
                await stack.enter_async_context(lifespan)
            yield self

    def _parts(self) -> Sequence[tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]]:
        return (
            (self.instances.start, self.instances.close),
            (self._know_everything, self.intake.close),
            (self._nothing, self.arrivals.close),
            (self._nothing, self.share_channels.close),
            (self._nothing, self.stream_sessions.close),
            (self._nothing, self.fanout.close),
            (self.sinks.start, self.sinks.close),
            (self.webhooks.start, self.webhooks.close),
            (lambda: self.supervisor.start(self.intake), self.supervisor.close),
            (self.withdrawal.start, self.withdrawal.close),
            (self.presence.start, self.presence.close),
        )

    async def _nothing(self) -> None:
        """A part that needs no start."""

    async def _open_database(self) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                if self.settings.migrate_on_start:
                    before, after = await migrate(self.store)
                    if before != after:
                        log.info("The database has a new schema", before=before, after=after)
                revision, head = await current(self.store)
        except (StoreUnavailable, OSError, TimeoutError) as error:
            raise ConfigurationError(f"the database cannot be reached: {error}") from error
        if revision != head:
            raise ConfigurationError(f"the database's schema is {revision}, not {head}; run waybridge migrate")

    async def _know_everything(self) -> None:
        await self.supervisor.prepare()
        async with self.store.read() as conn:
            await fleet.load_all(conn, self.roster, self.supervisor.default_policy)
        if isinstance(self.bus, FollowingBus):
            following = Following(self.store, self.roster, self.supervisor.default_policy)
            following.attach(self.bus)
            self.bus.follow(following.arrived, following.reread)
        self.bus.attach(self.arrivals.speeds.take)
        self.bus.attach(self.share_channels.on_events)
        self.bus.attach(self.realtime_feeds.on_events)
        self.bus.attach(self.stream_sessions.on_events)

    async def close_sockets(self) -> None:
        """Ends everything that is open (1001), so that stopping does not wait for clients."""
        self.slice.close()
        self.realtime_feeds.close()
        await self.fanout.close()


def make_bus(settings: Settings, node: Node, database: Callable[[], Awaitable[str]]) -> Bus:
    """The bus that the configuration names; NATS is imported only where it is named.

    `database` tells which database it is: nodes of another one are not heard.
    """
    if settings.bus_url.startswith("memory:"):
        return MemoryBus()
    from waybridge.bus_nats import NatsBus  # noqa: PLC0415

    return NatsBus(settings.bus_url, node.id, database)
