"""The gateway as plugins see it: facade.Gateway, filled in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from waybridge.bus import Bus, DeviceEvent, Listener, PositionEvent
from waybridge.errors import AskRefused, Conflict, NotFound, Unavailable
from waybridge.facade import Caller, DeviceView, Subscriptions
from waybridge.model import Position, SourceKey, canonical_token, from_us
from waybridge.roster import Device, Roster
from waybridge.store import groups as group_rows
from waybridge.store import tickets
from waybridge.vault import digest

if TYPE_CHECKING:
    import aiohttp

    from waybridge.auth import Auth, Clients, Principal
    from waybridge.connections import Connections
    from waybridge.instances import Instances
    from waybridge.store.engine import Store

LISTENER_SIZE = 10_000


class GatewaySlice:
    """What a plugin may ask of the gateway."""

    def __init__(
        self,
        *,
        store: Store,
        roster: Roster,
        bus: Bus,
        auth: Auth,
        clients: Clients,
        instances: Instances,
        connections: Connections,
        subscriptions: Subscriptions,
        session: aiohttp.ClientSession,
        public_base_url: str,
    ) -> None:
        self._store = store
        self._roster = roster
        self._bus = bus
        self._auth = auth
        self._clients = clients
        self._instances = instances
        self._connections = connections
        self.subscriptions = subscriptions
        self.session = session
        self.public_base_url = public_base_url
        self._listeners: set[Listener] = set()

    def close(self) -> None:
        """Ends what plugins listen to, so that their live connections end with the gateway's."""
        for listener in self._listeners:
            listener.close()

    async def authenticate(self, token: str) -> Caller:
        principal: Principal = self._auth.cached(token) or await self._auth.verify(token)
        return Caller(principal.subject, principal.instances, principal.scopes)

    async def client_token(self, client_id: str, client_secret: str, scope: str | None) -> Mapping[str, Any]:
        return await self._clients.token(client_id, client_secret, scope)

    async def instances(self, caller: Caller) -> Sequence[str]:
        known = list(self._instances.ids())
        return known if "*" in caller.instances else [each for each in known if each in caller.instances]

    async def devices(
        self, instance_id: str, *, tokens: Sequence[str] | None = None, group: str | None = None
    ) -> Sequence[DeviceView]:
        numbers, members = await self._memberships(instance_id)
        if group is not None:
            tokens = sorted(members.get(group, frozenset()))
        if tokens is None:
            found = list(self._roster.devices(instance_id))
        else:
            found = [
                device
                for token in tokens
                if (device := self._roster.device(instance_id, _canonical(token))) is not None
            ]
        now_us = self._store.now_us()
        return [view(device, now_us, _numbers(device, numbers, members)) for device in found]

    async def group_by_number(self, instance_id: str, number: int) -> str | None:
        numbers, _ = await self._memberships(instance_id)
        return next((group for group, each in numbers.items() if each == number), None)

    async def groups(self, instance_id: str) -> Mapping[str, tuple[int, Sequence[str]]]:
        numbers, members = await self._memberships(instance_id)
        return {group: (number, sorted(members.get(group, ()))) for group, number in numbers.items()}

    @contextlib.asynccontextmanager
    async def listen(
        self, instance_id: str, *, tokens: frozenset[str] | None = None
    ) -> AsyncIterator[AsyncIterator[Sequence[DeviceView]]]:
        listener = self._bus.listen("plugin", size=LISTENER_SIZE)
        self._listeners.add(listener)

        async def changes() -> AsyncIterator[Sequence[DeviceView]]:
            async for events in listener:
                changed: dict[int, Device] = {}
                for event in events:
                    if not isinstance(event, (PositionEvent, DeviceEvent)) or event.instance_id != instance_id:
                        continue
                    device = self._roster.by_id(event.device_id)
                    if device is not None and (tokens is None or device.token in tokens):
                        changed[device.id] = device
                if changed:
                    now_us = self._store.now_us()
                    yield [view(device, now_us) for device in changed.values()]

        try:
            yield changes()
        finally:
            self._listeners.discard(listener)
            listener.close()
            await asyncio.sleep(0)

    async def request_location(self, instance_id: str, device_token: str) -> None:
        await self._connections.ask_device(instance_id, _canonical(device_token))

    async def keep_ticket(self, ticket: str, value: Any, seconds: float) -> None:
        expires_us = self._store.now_us() + int(seconds * 1_000_000)
        await self._store.write(lambda tx: tickets.keep_ticket(tx, digest(ticket), value, expires_us))

    async def take_ticket(self, ticket: str) -> Any:
        return await self._store.write(lambda tx: tickets.take_ticket(tx, digest(ticket)))

    async def chat_device(self, instance_ids: Sequence[str], chat_id: str) -> tuple[str, Sequence[str]] | None:
        found = await self._connections.behind(instance_ids, chat_id)
        if found is None:
            return None
        runtime, keys = found
        instance_id = runtime.policy.instance_id
        devices = [
            source.device.token
            for key in keys
            if (source := self._roster.source(instance_id, key.connection_id, key.external_id)) is not None
        ]
        return instance_id, devices

    async def request_chat_location(self, instance_ids: Sequence[str], chat_id: str) -> None:
        found = await self._connections.behind(instance_ids, chat_id)
        if found is not None:
            return await self._connections.ask(instance_ids, found[0].policy.connection_id, chat_id)
        for each in await self._connections.every(instance_ids):
            try:
                return await self._connections.ask([each["instance_id"]], each["connection_id"], chat_id)
            except Conflict as refusal:
                cause = refusal.__cause__
                if isinstance(cause, AskRefused) and not cause.unknown:
                    raise
            except Unavailable:
                continue  # it cannot run as it is configured
        raise NotFound("there is no such chat")

    async def _memberships(self, instance_id: str) -> tuple[dict[str, int], dict[str, frozenset[str]]]:
        async with self._store.read() as conn:
            known, _ = await group_rows.groups_of(conn, instance_id)
        return (
            {each.group_id: each.number for each in known},
            {each.group_id: frozenset(each.device_tokens) for each in known},
        )


def view(device: Device, now_us: int, group_numbers: tuple[int, ...] = ()) -> DeviceView:
    """A device as plugins see it; its position only where streams may see it."""
    fix = device.public_fix
    winner = device.winner
    known = device.profile or {}
    position = None
    if fix is not None and winner is not None:
        extra: dict[str, Any] = msgspec.json.decode(fix.extra) if fix.extra is not None else {}
        position = Position(
            source=SourceKey(winner.connection_id, winner.external_id),
            latitude=fix.latitude,
            longitude=fix.longitude,
            recorded_at=from_us(fix.recorded_us),
            received_at=from_us(fix.received_us),
            altitude_m=fix.altitude,
            accuracy_m=fix.accuracy,
            speed_mps=fix.speed,
            heading_deg=fix.heading,
            address=extra.get("address"),
            locality=extra.get("locality"),
            battery=extra.get("battery"),
        )
    return DeviceView(
        instance_id=device.instance_id,
        device_token=device.token,
        number=device.id,
        display_name=device.display_name,
        handle=device.handle,
        nickname=known.get("nickname"),
        full_name=known.get("full_name"),
        provider=device.provider,
        online=None if device.online is None else device.online_at(now_us),
        sharing=device.sharing,
        visible=fix is not None,
        stale=device.stale(now_us),
        position=position,
        track_token=device.trip.track_token if device.trip is not None else None,
        last_seen_at=from_us(fix.recorded_us) if fix is not None else None,
        group_numbers=group_numbers,
    )


def _numbers(
    device: Device, numbers: Mapping[str, int], members: Mapping[str, frozenset[str]]
) -> tuple[int, ...]:
    return tuple(number for group, number in numbers.items() if device.token in members.get(group, ()))


def _canonical(token: str) -> str:
    try:
        return canonical_token(token)
    except ValueError:
        return token
