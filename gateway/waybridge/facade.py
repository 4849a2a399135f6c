"""What a plugin is handed: the slice of the gateway that strangers may lean on (Protocols; app.py fills them in)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from waybridge.model import Place, Position

if TYPE_CHECKING:
    import aiohttp

PluginSettings: TypeAlias = Mapping[str, Mapping[str, Any]]
"""`[plugins.NAME]` tables of the configuration, by plugin name; empty where there is none."""


class Filter(Protocol):
    """May refuse a position before it is stored. Must be quick and must not block."""

    name: str

    def refuse(self, position: Position, newest: Position | None) -> str | None:
        """The reason to refuse the position, or None. `newest` is the source's newest position so far."""
        ...


@dataclass(frozen=True, slots=True)
class EtaQuestion:
    """Where the driver is (`speed_mps`: mean of the recent past, None if unknown) and where it goes."""

    latitude: float
    longitude: float
    speed_mps: float | None
    destination: Place


class EtaEstimator(Protocol):
    """Estimates arrival times; may do I/O. None or an exception falls back to the built-in estimate."""

    name: str

    async def seconds(self, question: EtaQuestion) -> float | None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkEvent:
    """What live streams tell, told to a sink.

    `type` is what streams call it (device.position.updated, device.online, device.offline, source.changed), `body`
    the same JSON in UTF-8.
    """

    kind: Literal["position", "event"]
    type: str
    instance_id: str
    device_token: str
    body: bytes


class Sink(Protocol):
    """Is told what live streams are told, after the commit; what may not be seen there never comes here.

    Each device's events come in order. A sink that is slow gets the newest position of each device instead of all.
    A batch for which `take` raised, or took over 30 s, is handed over again later, with newer positions instead of
    older ones; so a sink that can be down needs no memory of its own, and may see an event twice.
    """

    name: str

    async def take(self, events: Sequence[SinkEvent]) -> None:
        """A batch, oldest first. Called again only when it has returned."""
        ...

    async def close(self) -> None:
        """Called once when the gateway stops, after the last `take`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """A device as the API shows it to an operator. `number` is stable, 1 to 2^53-1. Times are aware UTC."""

    instance_id: str
    device_token: str
    number: int
    display_name: str
    handle: str | None
    nickname: str | None
    full_name: str | None
    provider: str | None
    online: bool | None
    sharing: bool
    visible: bool
    stale: bool
    position: Position | None
    track_token: str | None
    last_seen_at: datetime | None
    group_numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the gateway verified the token: its instances ("*" is all) and scopes."""

    subject: str
    instances: frozenset[str]
    scopes: frozenset[str]


class Subscriptions(Protocol):
    """Webhook subscriptions, in the shape that the API answers (dicts as contract section 11 names them)."""

    async def create(self, instance_id: str, fields: Mapping[str, Any]) -> dict[str, Any]: ...
    async def every(self, instance_ids: Sequence[str]) -> list[dict[str, Any]]: ...
    async def one(self, instance_ids: Sequence[str], subscription_id: str) -> dict[str, Any]: ...
    async def replace(
        self, instance_ids: Sequence[str], subscription_id: str, fields: Mapping[str, Any]
    ) -> dict[str, Any]: ...
    async def remove(self, instance_ids: Sequence[str], subscription_id: str) -> None: ...


class Gateway(Protocol):
    """The gateway as a plugin sees it. Errors are `waybridge.errors.RequestError`s with their statuses."""

    session: aiohttp.ClientSession
    public_base_url: str

    async def authenticate(self, token: str) -> Caller:
        """Verifies a gateway token (cached). Raises Unauthorized."""
        ...

    async def client_token(self, client_id: str, client_secret: str, scope: str | None) -> Mapping[str, Any]:
        """A token for an API client: `{access_token, token_type, expires_in, scope}`. Raises Unauthorized/Invalid."""
        ...

    async def instances(self, caller: Caller) -> Sequence[str]:
        """The instances that the caller covers, with "*" spelled out."""
        ...

    async def devices(
        self, instance_id: str, *, tokens: Sequence[str] | None = None, group: str | None = None
    ) -> Sequence[DeviceView]:
        """Devices of an instance, or those of a group or of a list of tokens (unknown ones are left out)."""
        ...

    async def group_by_number(self, instance_id: str, number: int) -> str | None:
        """The id of the group that has this stable number."""
        ...

    async def groups(self, instance_id: str) -> Mapping[str, tuple[int, Sequence[str]]]:
        """Groups: id -> (stable number, device tokens)."""
        ...

    def listen(
        self, instance_id: str, *, tokens: frozenset[str] | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[DeviceView]]]:
        """Views of the devices that changed, newest per device, as they change; a slow reader gets the newest.

        It ends when the gateway stops.
        """
        ...

    async def request_location(self, instance_id: str, device_token: str) -> None:
        """Asks the device's source to share. Raises Conflict, TooMany, BadGateway, NotFound."""
        ...

    async def keep_ticket(self, ticket: str, value: Any, seconds: float) -> None:
        """Keeps a JSON value for the one who comes with the ticket, an unguessable text, on any node."""
        ...

    async def take_ticket(self, ticket: str) -> Any:
        """The value of a ticket: once; None afterwards, and when it is unknown or its time is over."""
        ...

    async def chat_device(self, instance_ids: Sequence[str], chat_id: str) -> tuple[str, Sequence[str]] | None:
        """(instance, device tokens) behind a real chat of a connection, if some connection knows the chat."""
        ...

    async def request_chat_location(self, instance_ids: Sequence[str], chat_id: str) -> None:
        """Asks by a real chat, also one that no connection has heard of yet. Raises as `request_location`, NotFound."""
        ...

    subscriptions: Subscriptions
