"""The instances (tenants): those of the configuration file and those made through the API, kept in memory.

Other nodes are told of a change by the bus; whatever the bus loses is read again every 30 seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

import structlog

from waybridge.bus import Bus, Event, Nudge
from waybridge.errors import Conflict, NotFound, StoreUnavailable
from waybridge.settings import Instance
from waybridge.store import instances as rows
from waybridge.store.engine import Store, Tx
from waybridge.store.instances import InstanceRow

log = structlog.get_logger("waybridge.instances")

REREAD_SECONDS = 30.0
ABSENT = "no such instance"


class Instances:
    """All instances of the gateway. `configured` are those of the file; they cannot be changed at run time."""

    def __init__(self, store: Store, bus: Bus, configured: Sequence[Instance]) -> None:
        self._store = store
        self._bus = bus
        self._configured = {
            each.id: InstanceRow(
                instance_id=each.id,
                name=each.name,
                embed_origins=tuple(each.embed_origins),
                brand={key: value for key, value in each.brand.model_dump().items() if value is not None},
                created_us=0,
                updated_us=0,
            )
            for each in configured
        }
        self._made: dict[str, InstanceRow] = {}
        self._origins: dict[str, frozenset[str]] = {}
        self._all_origins: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._index()

    # -- life

    async def start(self) -> None:
        """Reads the instances and follows their changes. Raises StoreUnavailable."""
        await self.reread()
        self._detach = self._bus.attach(self._on_events)
        self._task = asyncio.create_task(self._follow(), name="instances")

    async def close(self) -> None:
        if self._task is not None:
            self._detach()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def reread(self) -> None:
        async with self._store.read() as conn:
            made = await rows.every_instance(conn)
        self._made = {each.instance_id: each for each in made if each.instance_id not in self._configured}
        self._index()

    # -- what others ask, without waiting

    def ids(self) -> Collection[str]:
        """The ids of all instances."""
        return [*self._configured, *self._made]

    def one(self, instance_id: str) -> InstanceRow | None:
        return self._configured.get(instance_id) or self._made.get(instance_id)

    def every(self) -> Sequence[InstanceRow]:
        """All instances: the file's first, then the oldest first."""
        return [*self._configured.values(), *self._made.values()]

    def origin(self, instance_id: str) -> Literal["toml", "api"]:
        """Where an instance was made."""
        return "toml" if instance_id in self._configured else "api"

    def embed_origins(self, instance_id: str) -> Collection[str]:
        """The origins whose pages may call the API for an instance and frame its tracker."""
        return self._origins.get(instance_id, frozenset())

    def all_embed_origins(self) -> Collection[str]:
        return self._all_origins

    def brand(self, instance_id: str) -> dict[str, str]:
        """An instance's own `name` and `color`, where it has any."""
        found = self.one(instance_id)
        return dict(found.brand) if found is not None else {}

    # -- changes

    async def create(self, instance: InstanceRow) -> InstanceRow:
        """Makes an instance. Raises Conflict when there is one of this id."""
        if instance.instance_id in self._configured:
            raise Conflict("there is an instance of this id")

        async def unit(tx: Tx) -> InstanceRow:
            made = replace(instance, created_us=tx.now_us, updated_us=tx.now_us)
            if not await rows.add_instance(tx, made):
                raise Conflict("there is an instance of this id")
            tx.publish(Nudge("instances", made.instance_id))
            return made

        made = await self._store.write(unit)
        await self.reread()
        return made

    async def change(self, instance: InstanceRow) -> InstanceRow:
        """Keeps an instance's new fields. Raises Conflict for one of the file, NotFound."""
        self._check_changeable(instance.instance_id)

        async def unit(tx: Tx) -> InstanceRow:
            if not await rows.change_instance(tx, instance):
                raise NotFound(ABSENT)
            tx.publish(Nudge("instances", instance.instance_id))
            return replace(instance, updated_us=tx.now_us)

        changed = await self._store.write(unit)
        await self.reread()
        return changed

    async def remove(self, instance_id: str) -> None:
        """Forgets an instance that owns nothing any more. Raises Conflict, NotFound."""
        self._check_changeable(instance_id)

        async def unit(tx: Tx) -> None:
            left = [f"{count} {name}" for name, count in (await rows.belongings(tx.conn, instance_id)).items() if count]
            if left:
                raise Conflict(f"the instance still has {', '.join(left)}; remove them first")
            if not await rows.remove_instance(tx, instance_id):
                raise NotFound(ABSENT)
            tx.publish(Nudge("instances", instance_id))

        await self._store.write(unit)
        await self.reread()

    def _check_changeable(self, instance_id: str) -> None:
        if instance_id in self._configured:
            raise Conflict("this instance is made by the configuration file; change it there")
        if instance_id not in self._made:
            raise NotFound(ABSENT)

    # -- following

    def _index(self) -> None:
        self._origins = {each.instance_id: frozenset(each.embed_origins) for each in self.every()}
        self._all_origins = frozenset().union(*self._origins.values())

    def _on_events(self, events: Sequence[Event]) -> None:
        if any(isinstance(event, Nudge) and event.topic == "instances" for event in events):
            self._wake.set()

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REREAD_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.reread()
            except StoreUnavailable:
                log.warning("The instances could not be read again; the known ones stay")
                await asyncio.sleep(1)
