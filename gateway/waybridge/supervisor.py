"""Runs connections: which there are, which this node streams, their states kept for everybody to read.

Every node has a provider object for every connection, because a push may reach any of them; only the node that
holds a connection's lease streams it. The lease is renewed every few seconds and taken over when it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
import structlog

from waybridge.bus import Bus, Event, Nudge
from waybridge.configuration import validated
from waybridge.errors import ConfigurationError, StoreUnavailable
from waybridge.intake import Intake
from waybridge.provider import Provider, ProviderSettings
from waybridge.roster import Policy, Roster
from waybridge.runtime import Runtime, context_of
from waybridge.settings import Connection
from waybridge.store import connections as rows
from waybridge.store.connections import ConnectionRow
from waybridge.store.engine import Store, Tx
from waybridge.vault import Vault, VaultError
from waybridge.version import __version__

log = structlog.get_logger("waybridge.supervisor")
NATIVE = "native"
BEAT_SECONDS = 3.0
LEASE_US = 10_000_000
WATCH_SECONDS, MARGIN_SECONDS = 0.25, 2.5
"""How often leases are looked at, and how long before its end one is let go: longer than letting go takes."""
FORGET_NODES_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Node:
    """This process among its equals."""

    id: str
    name: str


class Supervisor:
    """All connections of this node. `instances` names the instances that exist now."""

    def __init__(
        self,
        store: Store,
        roster: Roster,
        bus: Bus,
        vault: Vault,
        *,
        providers: Mapping[str, type[Provider[Any]]],
        configured: Sequence[Connection],
        instances: Callable[[], Iterable[str]],
        make_session: Callable[[bool], aiohttp.ClientSession],
        base_url: str,
        node: Node,
        exclusive: bool,
    ) -> None:
        self._store = store
        self._roster = roster
        self._bus = bus
        self._vault = vault
        self.providers = providers
        self._configured = {(each.instance_id, each.id): each for each in configured}
        self._instances = instances
        self._make_session = make_session
        self._base_url = base_url
        self.node = node
        self._exclusive = exclusive
        self._intake: Intake
        self._runtimes: dict[tuple[str, str], Runtime] = {}
        self._by_id: dict[str, Runtime] = {}
        self._leases: dict[int, float] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.started_us = 0
        self._refreshing = asyncio.Lock()

    # -- what others ask

    def default_policy(self, instance_id: str, connection_id: str, provider: str) -> Policy:
        """How sources of a connection are treated that is not configured (any more)."""
        return self.policy_of(instance_id, connection_id, provider, None)

    def policy_of(
        self, instance_id: str, connection_id: str, provider: str, settings: ProviderSettings | None
    ) -> Policy:
        """A connection's rules: the provider's capabilities, with the connection's own `stale_after`."""
        kind = self.providers.get(provider)
        if kind is None:
            return Policy(instance_id=instance_id, connection_id=connection_id, provider=provider)
        can = kind.capabilities
        stale_after = settings.stale_after if settings is not None else None
        skew = getattr(settings, "future_skew_seconds", can.future_skew_seconds)
        return Policy(
            instance_id=instance_id,
            connection_id=connection_id,
            provider=provider,
            stale_after_us=int((stale_after if stale_after is not None else can.stale_after) * 1e6),
            consent=can.consent,
            begins=can.begins,
            future_skew_us=int(skew * 1e6),
        )

    def runtime(self, connection_id: str, instance_id: str | None = None) -> Runtime | None:
        """A connection at work; `native` needs the instance."""
        if connection_id == NATIVE and instance_id is not None:
            return self._runtimes.get((instance_id, NATIVE))
        found = self._by_id.get(connection_id)
        if found is None or (instance_id is not None and found.policy.instance_id != instance_id):
            return None
        return found

    def runtimes(self) -> list[Runtime]:
        return list(self._runtimes.values())

    def validated(self, provider: str, settings: Mapping[str, Any]) -> ProviderSettings:
        """A provider's settings. Raises ConfigurationError with a sentence, never with a value."""
        kind = self.providers.get(provider)
        if kind is None:
            raise ConfigurationError(f"there is no provider {provider!r}; known: {', '.join(sorted(self.providers))}")
        return validated(kind.Settings, settings)

    def draft(self, *, provider: str, instance_id: str, connection_id: str, settings: ProviderSettings) -> Runtime:
        """A connection that is not kept, to check its credentials; close it afterwards."""
        policy = self.policy_of(instance_id, connection_id, provider, settings)
        return self._make(policy, 0, 0, settings, guarded=True)

    # -- life

    async def prepare(self) -> None:
        """Reads which connections there are and how their sources are treated, before anything runs."""
        wanted = [(each.instance_id, each.id, each.provider) for each in self._configured.values()]
        for each in self._configured.values():
            try:
                self.validated(each.provider, each.settings)
            except ConfigurationError as error:
                raise ConfigurationError(f"connection {each.id}: {error}") from None
        clashes = await self._store.write(lambda tx: rows.sync_configured(tx, wanted))
        for connection_id in clashes:
            log.error("A connection of the file has the id of one made through the API; not used", id=connection_id)
        async with self._store.read() as conn:
            kept = await rows.every_connection(conn, self._vault)
        for row in kept:
            settings = self._settings_of(row)
            if settings is not None:
                self._roster.set_policy(self.policy_of(row.instance_id, row.connection_id, row.provider, settings))
        self._native_policies()

    async def start(self, intake: Intake) -> None:
        self._intake = intake
        self.started_us = self._store.now_us()
        self._detach = self._bus.attach(self._on_events)
        await self._store.write(self._say_alive)
        await self.refresh()
        self._task = asyncio.create_task(self._beat(), name="supervisor")
        self._watch = asyncio.create_task(self._watch_leases(), name="leases")

    async def close(self) -> None:
        """Stops all connections and hands them over at once."""
        self._detach()
        if self._task is not None:
            self._task.cancel()
            self._watch.cancel()
            await asyncio.gather(self._task, self._watch, return_exceptions=True)
        await asyncio.gather(*(each.close() for each in self.runtimes()))
        try:
            await self._store.write(self._leave)
        except StoreUnavailable:
            log.warning("The database was down at the end; leases run out by themselves")

    async def _leave(self, tx: Tx) -> None:
        await rows.release(tx, self.node.id)
        await rows.node_gone(tx, self.node.id, FORGET_NODES_US)

    async def refresh(self) -> None:
        """Brings what runs to what the database says: new ones start, changed ones restart, removed ones stop."""
        async with self._refreshing:
            async with self._store.read() as conn:
                kept = await rows.every_connection(conn, self._vault)
            wanted: set[tuple[str, str]] = set()
            for row in kept:
                key = (row.instance_id, row.connection_id)
                running = self._runtimes.get(key)
                wanted.add(key)
                if running is not None and running.generation == row.generation:
                    continue
                if running is not None:
                    self._take_out(key)
                self._add(row)  # before the old one has closed: what is pushed meanwhile finds somebody
                if running is not None:
                    await running.close()
            self._native_policies()
            for instance_id in self._instances():
                key = (instance_id, NATIVE)
                wanted.add(key)
                if key not in self._runtimes:
                    policy = self._roster.policy(instance_id, NATIVE)
                    if policy is not None:
                        self._keep(self._make(policy, 0, 0, self.providers[NATIVE].Settings(), guarded=False))
            for key in [key for key in self._runtimes if key not in wanted]:
                await self._drop(key)
                self._roster.forget_policy(*key)
        await self._own()

    def _native_policies(self) -> None:
        if NATIVE not in self.providers:
            return
        for instance_id in self._instances():
            if self._roster.policy(instance_id, NATIVE) is None:
                self._roster.set_policy(self.policy_of(instance_id, NATIVE, NATIVE, None))

    def _settings_of(self, row: ConnectionRow) -> ProviderSettings | None:
        given = row.settings
        if given is None:
            configured = self._configured.get((row.instance_id, row.connection_id))
            if configured is None:
                return None
            given = configured.settings
        try:
            return self.validated(row.provider, given)
        except (ConfigurationError, VaultError) as error:
            problem = str(error)  # says what and why; a traceback would say our own lines
            log.error("A connection cannot be used", connection=row.connection_id, problem=problem)  # noqa: TRY400
            return None

    def _add(self, row: ConnectionRow) -> None:
        settings = self._settings_of(row)
        if settings is None:
            return
        policy = self.policy_of(row.instance_id, row.connection_id, row.provider, settings)
        self._roster.set_policy(policy)
        made = self._make(policy, row.id, row.generation, settings, guarded=row.origin == "api")
        made.since_us = row.since_us
        made.last_error = row.last_error
        if row.last_position_us is not None:
            self._intake.newest_us.setdefault((row.instance_id, row.connection_id), row.last_position_us)
        self._keep(made)

    def _keep(self, runtime: Runtime) -> None:
        key = (runtime.policy.instance_id, runtime.policy.connection_id)
        self._runtimes[key] = runtime
        if runtime.policy.connection_id != NATIVE:
            self._by_id[runtime.policy.connection_id] = runtime
        if not runtime.provider.capabilities.streams:
            runtime.state = "idle"

    def _make(
        self, policy: Policy, row_id: int, generation: int, settings: ProviderSettings, *, guarded: bool
    ) -> Runtime:
        session = self._make_session(guarded)
        context = context_of(
            policy=policy,
            session=session,
            store=self._store,
            vault=self._vault,
            callback_url=f"{self._base_url}/ingest/{policy.connection_id}",
        )
        provider = self.providers[policy.provider](settings, context)
        return Runtime(
            row_id=row_id,
            policy=policy,
            generation=generation,
            provider=provider,
            settings=settings,
            intake=self._intake,
            changed=self._changed,
            session=session,
        )

    def _take_out(self, key: tuple[str, str]) -> Runtime:
        runtime = self._runtimes.pop(key)
        if self._by_id.get(key[1]) is runtime:
            del self._by_id[key[1]]
        self._leases.pop(runtime.row_id, None)
        return runtime

    async def _drop(self, key: tuple[str, str]) -> None:
        await self._take_out(key).close()

    # -- leases and states

    async def _beat(self) -> None:
        while True:
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self._store.write(self._say_alive)
                await self.refresh()
            except StoreUnavailable:
                log.debug("The database does not answer; leases run out by themselves")

    async def _say_alive(self, tx: Tx) -> None:
        await rows.node_seen(
            tx, node_id=self.node.id, name=self.node.name, version=__version__, started_us=self.started_us
        )
        for key, runtime in self._runtimes.items():
            newest = self._intake.newest_us.get(key)
            if runtime.row_id and newest is not None and newest > runtime.stored_position_us:
                await rows.keep_position(tx, runtime.row_id, newest)
                runtime.stored_position_us = newest

    async def _own(self) -> None:
        """Takes or keeps the leases of connections that stream, and lets go of what another node has.

        A rejected connection stays with the node that was refused, so that no other node asks the vendor again.
        """
        for runtime in self.runtimes():
            if not runtime.provider.capabilities.streams:
                continue
            if self._exclusive or not runtime.row_id:
                runtime.start()
                continue
            asked = time.monotonic()
            claim = partial(rows.claim, row_id=runtime.row_id, node_id=self.node.id, lease_us=LEASE_US)
            mine = await self._store.write(claim)
            if mine and time.monotonic() < asked + LEASE_US / 1e6 - MARGIN_SECONDS:
                self._leases[runtime.row_id] = asked + LEASE_US / 1e6
                runtime.start()
            else:
                self._leases.pop(runtime.row_id, None)
                await runtime.halt()

    async def _watch_leases(self) -> None:
        """Lets go of a connection before its lease ends, however long the database takes to answer."""
        while not self._exclusive:
            await asyncio.sleep(WATCH_SECONDS)
            late = time.monotonic() + MARGIN_SECONDS
            ending = [each for each in self.runtimes() if self._leases.get(each.row_id, late) < late]
            for each in ending:
                del self._leases[each.row_id]
                log.warning("A lease could not be kept", connection=each.policy.connection_id)
            await asyncio.gather(*(each.halt() for each in ending))

    async def _changed(self, runtime: Runtime) -> None:
        """Keeps a connection's new state and tells integrators of trouble and of its end."""
        if not runtime.row_id:
            return
        try:
            await self._store.write(lambda tx: self._keep_state(tx, runtime))
        except StoreUnavailable:
            log.warning("A connection's state could not be kept", connection=runtime.policy.connection_id)

    async def _keep_state(self, tx: Tx, runtime: Runtime) -> None:
        policy = runtime.policy
        await rows.keep_state(
            tx,
            runtime.row_id,
            state=runtime.state,
            since_us=runtime.since_us or tx.now_us,
            last_error=runtime.last_error,
            last_position_us=self._intake.newest_us.get((policy.instance_id, policy.connection_id)),
        )
        down = runtime.state in ("retrying", "rejected", "failed")
        if down == runtime.told_down or (not down and runtime.state != "running"):
            return
        kind = "connection.degraded" if down else "connection.recovered"
        data = {"connection_id": policy.connection_id, "state": runtime.state, "detail": runtime.last_error}
        tx.emit(kind, instance_id=policy.instance_id, data=data)
        tx.after_commit(lambda: setattr(runtime, "told_down", down))

    def _on_events(self, events: Sequence[Event]) -> None:
        if any(isinstance(event, Nudge) and event.topic in ("connections", "instances") for event in events):
            self._wake.set()
