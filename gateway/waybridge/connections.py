"""Connections as operators make, read, change and remove them, and what can be asked through them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from waybridge.bus import Nudge
from waybridge.egress import TargetRefused, check_url
from waybridge.errors import (
    AskRefused,
    BadGateway,
    ConfigurationError,
    Conflict,
    Invalid,
    NotFound,
    SourceUnavailable,
    TooMany,
    Unavailable,
)
from waybridge.intake import Intake
from waybridge.model import Profile, SourceKey, iso_us
from waybridge.provider import Asked, ProviderSettings
from waybridge.recording import Work
from waybridge.roster import Device, Policy, Roster
from waybridge.runtime import Runtime, shown_settings
from waybridge.store import connections as rows
from waybridge.store.connections import ConnectionRow
from waybridge.store.engine import Store, Tx
from waybridge.store.state import forget_state
from waybridge.supervisor import NATIVE, Supervisor
from waybridge.vault import Vault

UNKNOWN = "there is no such connection"
KEPT = "***"


class Connections:
    """The operator's side of connections. `make_work` makes intake's part for a transaction of our own."""

    def __init__(
        self,
        store: Store,
        roster: Roster,
        vault: Vault,
        supervisor: Supervisor,
        intake: Intake,
        *,
        allow_private: bool,
        make_work: Any,
    ) -> None:
        self._store = store
        self._roster = roster
        self._vault = vault
        self._supervisor = supervisor
        self._intake = intake
        self._allow_private = allow_private
        self._make_work = make_work

    # -- reading

    async def every(self, instance_ids: Iterable[str]) -> list[dict[str, Any]]:
        """Connections of some instances, in the API's shape; each instance's implicit `native` too."""
        allowed = set(instance_ids)
        async with self._store.read() as conn:
            kept = [row for row in await rows.every_connection(conn, self._vault) if row.instance_id in allowed]
        shown = [self._row_view(row) for row in kept]
        have = {(row.instance_id, row.connection_id) for row in kept}
        for runtime in self._supervisor.runtimes():
            key = (runtime.policy.instance_id, runtime.policy.connection_id)
            if key[1] == NATIVE and key[0] in allowed and key not in have:
                shown.append(self._native_view(runtime))
        return sorted(shown, key=lambda each: (each["instance_id"], each["connection_id"]))

    async def one(self, instance_ids: Iterable[str], connection_id: str) -> dict[str, Any]:
        """One connection. Raises NotFound."""
        for each in await self.every(instance_ids):
            if each["connection_id"] == connection_id:
                return each
        raise NotFound(UNKNOWN)

    async def nodes(self) -> list[dict[str, Any]]:
        """The nodes and which connections each of them runs."""
        async with self._store.read() as conn:
            known = await rows.every_node(conn, self._store.now_us())
            kept = await rows.every_connection(conn, self._vault)
        mine = {
            runtime.policy.connection_id
            for runtime in self._supervisor.runtimes()
            if runtime.runs_here and runtime.row_id
        }
        return [
            {
                "node_id": node.node_id,
                "name": node.name,
                "version": node.version,
                "started_at": iso_us(node.started_us),
                "seen_at": iso_us(node.seen_us),
                "alive": node.silent_us < 15_000_000,
                "self": node.node_id == self._supervisor.node.id,
                "connections": sorted(
                    {row.connection_id for row in kept if row.owner_node == node.node_id}
                    | (mine if node.node_id == self._supervisor.node.id else set())
                ),
            }
            for node in known
        ]

    # -- changing

    async def create(
        self,
        *,
        instance_id: str,
        provider: str,
        settings: Mapping[str, Any],
        connection_id: str | None = None,
        check: bool = False,
    ) -> dict[str, Any]:
        """Makes a connection and starts it. Raises Invalid, Conflict when the id is taken."""
        if provider not in self._supervisor.providers:
            known = ", ".join(sorted(self._supervisor.providers))
            raise Invalid("unknown provider", errors=[("provider", f"must be one of {known}")])
        if NATIVE in {provider, connection_id}:
            raise Conflict("every instance has its connection native already; the configuration file sets it")
        connection_id = connection_id or f"{provider.replace('.', '-')}-{secrets.token_hex(4)}"
        validated = self._validated(provider, settings)
        if check:
            await self._check_first(provider, instance_id, connection_id, validated)
        made = await self._store.write(
            lambda tx: self._add(tx, instance_id, connection_id, provider, settings)
        )
        if not made:
            raise Conflict(f"the connection id {connection_id} is taken")
        await self._supervisor.refresh()
        return await self.one([instance_id], connection_id)

    async def _add(
        self, tx: Tx, instance_id: str, connection_id: str, provider: str, settings: Mapping[str, Any]
    ) -> bool:
        tx.publish(Nudge("connections", connection_id))
        return await rows.add_connection(
            tx,
            self._vault,
            instance_id=instance_id,
            connection_id=connection_id,
            provider=provider,
            origin="api",
            settings=settings,
        )

    async def change(
        self, instance_ids: Iterable[str], connection_id: str, settings: Mapping[str, Any], *, check: bool = False
    ) -> dict[str, Any]:
        """Merges settings (null takes one away, *** keeps it) and restarts this connection only."""
        row = await self._mine(instance_ids, connection_id)
        merged = dict(row.settings or {})
        for name, value in settings.items():
            if value is None:
                merged.pop(name, None)
            elif value != KEPT:
                merged[name] = value
        validated = self._validated(row.provider, merged)
        if check:
            await self._check_first(row.provider, row.instance_id, connection_id, validated)

        async def unit(tx: Tx) -> None:
            await rows.change_connection(tx, self._vault, row, settings=merged)
            tx.publish(Nudge("connections", connection_id))

        await self._store.write(unit)
        await self._supervisor.refresh()
        return await self.one([row.instance_id], connection_id)

    async def remove(self, instance_ids: Iterable[str], connection_id: str) -> None:
        """Stops and forgets a connection; its sources' sharing ends, their history stays until it is purged."""
        row = await self._mine(instance_ids, connection_id)

        async def unit(tx: Tx) -> None:
            if not await rows.remove_connection(tx, row.id):
                raise NotFound(UNKNOWN)
            work: Work = self._make_work(tx)
            for device in tuple(self._roster.devices(row.instance_id)):
                for source in tuple(device.sources):
                    if source.connection_id == connection_id:
                        await work.end_sharing(source, "connection_removed")
            work.settle()
            await forget_state(tx, row.instance_id, connection_id)
            tx.publish(Nudge("connections", connection_id))

        await self._store.write(unit, alone=True)
        await self._supervisor.refresh()

    async def restart(self, instance_ids: Iterable[str], connection_id: str) -> dict[str, Any]:
        """Starts a connection anew, wherever it runs; a rejected one is tried again."""
        row = await self._any(instance_ids, connection_id)

        async def unit(tx: Tx) -> None:
            await rows.restart_connection(tx, row.id)
            tx.publish(Nudge("connections", connection_id))

        await self._store.write(unit)
        await self._supervisor.refresh()
        return await self.one([row.instance_id], connection_id)

    async def check(self, instance_ids: Iterable[str], connection_id: str) -> dict[str, Any]:
        """`{ok, detail}`: whether the vendor accepts the credentials now."""
        found = await self.one(instance_ids, connection_id)
        runtime = self._supervisor.runtime(connection_id, found["instance_id"])
        if runtime is None:
            return {"ok": False, "detail": found["last_error"] or "the connection's settings cannot be used"}
        ok, detail = await runtime.check()
        return {"ok": ok, "detail": detail}

    # -- asking

    async def ask(self, instance_ids: Iterable[str], connection_id: str, target: str) -> None:
        """Asks through a connection (a chat, for example) to share. Raises Conflict, TooMany, BadGateway, NotFound."""
        found = await self.one(instance_ids, connection_id)
        runtime = self._supervisor.runtime(connection_id, found["instance_id"])
        if runtime is None:
            raise Unavailable("the connection's settings cannot be used")
        asked = await self._asked(runtime, target)
        if asked.source is not None:
            await self._intake.accept(runtime.policy, [Profile(source=asked.source)])

    async def ask_device(self, instance_id: str, device_token: str) -> None:
        """Asks a device's source to share. Raises as `ask`, and Conflict when it shares already."""
        device = self._roster.device(instance_id, device_token)
        if device is None:
            raise NotFound("there is no such device")
        for source in device.sources:
            runtime = self._supervisor.runtime(source.connection_id, instance_id)
            if runtime is None or not runtime.provider.capabilities.asks:
                continue
            if source.period is not None:
                raise Conflict("already sharing")
            await self._asked(runtime, source.external_id)
            return
        raise Conflict("no source of this device can be asked to share its location")

    async def _asked(self, runtime: Runtime, target: str) -> Asked:
        if not runtime.provider.capabilities.asks:
            raise Conflict("sources of this connection cannot be asked to share their location")
        try:
            return await runtime.provider.ask(target)
        except AskRefused as error:
            raise Conflict("already sharing" if error.already_sharing else error.reason) from error
        except SourceUnavailable as error:
            if error.retry_after is not None:
                raise TooMany("the vendor asks to wait", retry_after=int(error.retry_after + 0.999)) from error
            raise BadGateway(f"the vendor failed: {runtime.redacted(error)}") from error
        except (OSError, TimeoutError) as error:
            raise BadGateway("the vendor did not answer; it may have asked, so it is not asked again") from error
        except Exception as error:
            raise BadGateway(f"the vendor failed: {type(error).__name__}") from error

    async def behind(self, instance_ids: Iterable[str], target: str) -> tuple[Runtime, Sequence[SourceKey]] | None:
        """The connection that knows what can be asked by this name (a chat), and the sources behind it."""
        allowed = set(instance_ids)
        for runtime in self._supervisor.runtimes():
            if runtime.policy.instance_id in allowed and runtime.provider.capabilities.asks:
                keys = await runtime.provider.behind(target)
                if keys is not None:
                    return runtime, keys
        return None

    async def refresh_profile(self, device: Device) -> bool:
        """Fetches a device's profile where its sources have one; False where none has. Raises SourceUnavailable."""
        found = False
        for source in tuple(device.sources):
            runtime = self._supervisor.runtime(source.connection_id, device.instance_id)
            if runtime is None:
                continue
            profile = await runtime.provider.profile(SourceKey(source.connection_id, source.external_id))
            if profile is not None:
                await self._intake.accept(source.policy, [profile])
                found = True
        return found

    # -- parts

    def _validated(self, provider: str, settings: Mapping[str, Any]) -> ProviderSettings:
        try:
            validated = self._supervisor.validated(provider, settings)
        except ConfigurationError as error:
            wrong = [(f"settings.{key}" if key else "settings", said) for key, said in error.errors]
            raise Invalid("the settings are wrong", errors=wrong or [("settings", str(error))]) from None
        for name in type(validated).model_fields:
            value = getattr(validated, name)
            if name.endswith("_url") and isinstance(value, str) and value and name in settings:
                try:
                    check_url(value.replace("{device_token}", "x"), allow_private=self._allow_private)
                except TargetRefused as error:
                    raise Invalid("the settings are wrong", errors=[(f"settings.{name}", str(error))]) from None
        return validated

    async def _check_first(
        self, provider: str, instance_id: str, connection_id: str, settings: ProviderSettings
    ) -> None:
        draft = self._supervisor.draft(
            provider=provider, instance_id=instance_id, connection_id=connection_id, settings=settings
        )
        try:
            ok, detail = await draft.check()
        finally:
            await draft.close()
        if not ok:
            raise Invalid("the vendor does not accept these settings", errors=[("settings", detail)])

    async def _any(self, instance_ids: Iterable[str], connection_id: str) -> ConnectionRow:
        allowed = set(instance_ids)
        async with self._store.read() as conn:
            row = await rows.one_connection(conn, self._vault, connection_id)
        if row is None or row.instance_id not in allowed:
            if connection_id == NATIVE:
                raise Conflict("the connection native is implicit and always there")
            raise NotFound(UNKNOWN)
        return row

    async def _mine(self, instance_ids: Iterable[str], connection_id: str) -> ConnectionRow:
        row = await self._any(instance_ids, connection_id)
        if row.origin != "api":
            raise Conflict("the connection comes from the configuration file; change it there")
        return row

    def _row_view(self, row: ConnectionRow) -> dict[str, Any]:
        runtime = self._supervisor.runtime(row.connection_id, row.instance_id)
        here = runtime is not None and (runtime.runs_here or not runtime.provider.capabilities.streams)
        settings = runtime.settings if runtime is not None and runtime.generation == row.generation else None
        last_us = max(
            self._intake.newest_us.get((row.instance_id, row.connection_id), 0), row.last_position_us or 0
        )
        return {
            "connection_id": row.connection_id,
            "provider": row.provider,
            "instance_id": row.instance_id,
            "origin": row.origin,
            "settings": _shown(settings, runtime.policy) if settings is not None and runtime is not None else {},
            "state": runtime.state if here and runtime is not None else row.state,
            "since": iso_us(runtime.since_us if here and runtime is not None and runtime.since_us else row.since_us),
            "last_error": runtime.last_error if here and runtime is not None else row.last_error,
            "last_position_at": iso_us(last_us or None),
        }

    def _native_view(self, runtime: Runtime) -> dict[str, Any]:
        policy: Policy = runtime.policy
        return {
            "connection_id": NATIVE,
            "provider": NATIVE,
            "instance_id": policy.instance_id,
            "origin": "toml",
            "settings": _shown(runtime.settings, policy),
            "state": "idle",
            "since": iso_us(self._supervisor.started_us),
            "last_error": None,
            "last_position_at": iso_us(self._intake.newest_us.get((policy.instance_id, NATIVE))),
        }


def _shown(settings: ProviderSettings, policy: Policy) -> dict[str, Any]:
    """A connection's settings as operators see them; `stale_after` is the one that holds, in seconds."""
    return {**shown_settings(settings), "stale_after": policy.stale_after_us / 1e6}
