"""A gateway of two instances, as plugins see one, and a server that mounts the dialect over it."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from waybridge import Caller, DeviceView, Position, RequestError, SourceKey
from waybridge.errors import Conflict, Invalid, NotFound, Unauthorized
from waybridge_linq_api import waybridge_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

AT = datetime(2026, 4, 12, 13, 20, tzinfo=UTC)
VAN, ANNA, PARKED = "van-1", "7d5f7a3e-9c3c-4a63-9a4e-0c1b2a3d4e5f", "van-2"
CHAT = "550e8400-e29b-41d4-a716-446655440000"


def device(
    token: str, *, handle: str | None = None, at: tuple[float, float] | None = None, **position: Any
) -> DeviceView:
    seen = None
    if at is not None:
        seen = Position(source=SourceKey("c", "x"), latitude=at[0], longitude=at[1], recorded_at=AT, **position)
    return DeviceView(
        instance_id="acme",
        device_token=token,
        number=1,
        display_name=f"Driver of {token}",
        handle=handle,
        nickname=None,
        full_name=None,
        provider="native",
        online=True,
        sharing=at is not None,
        visible=at is not None,
        stale=False,
        position=seen,
        track_token=None,
        last_seen_at=AT if at else None,
    )


class FakeSubscriptions:
    """Keeps subscriptions in the gateway's own shape, wildcards and all."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    async def create(self, instance_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        if not str(fields["target_url"]).startswith("https://"):
            raise Invalid("the subscription is not valid", errors=[("target_url", "must be https")])
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        made = {
            "id": str(uuid.uuid4()),
            "instance_id": instance_id,
            "device_tokens": None,
            "groups": None,
            "causes": None,
            "phone_numbers": None,
            "is_active": True,
            "disabled_reason": None,
            "failing_since": None,
            "created_at": now,
            "updated_at": now,
            **fields,
        }
        self.kept[made["id"]] = made
        return {**made, "signing_secret": "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}

    async def every(self, instance_ids: Sequence[str]) -> list[dict[str, Any]]:
        return [one for one in self.kept.values() if one["instance_id"] in instance_ids]

    async def one(self, instance_ids: Sequence[str], subscription_id: str) -> dict[str, Any]:
        found = self.kept.get(subscription_id)
        if found is None or found["instance_id"] not in instance_ids:
            raise NotFound("there is no such webhook subscription")
        return found

    async def replace(
        self, instance_ids: Sequence[str], subscription_id: str, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        found = await self.one(instance_ids, subscription_id)
        found.update(fields)
        return found

    async def remove(self, instance_ids: Sequence[str], subscription_id: str) -> None:
        await self.one(instance_ids, subscription_id)
        del self.kept[subscription_id]


class FakeGateway:
    """Tokens are `INSTANCES:SCOPES`, e.g. `acme:read write`."""

    public_base_url = "https://track.example"

    def __init__(self) -> None:
        self.subscriptions = FakeSubscriptions()
        self.known = {
            "acme": [
                device(VAN, at=(48.14, 17.1), altitude_m=150.0),
                device(PARKED),
                device(
                    ANNA, handle="+14155550101", at=(60.17, 24.94), address="Mannerheimintie 1", locality="Helsinki"
                ),
            ],
            "other": [device(VAN, at=(1.0, 2.0))],
        }
        self.group_members = {"acme": {"vans": [VAN, PARKED]}, "other": {}}
        self.asked: list[str] = []
        self.refusal: RequestError | None = None
        self.calls = 0

    async def authenticate(self, token: str) -> Caller:
        instances, _, scopes = token.partition(":")
        if not scopes:
            raise Unauthorized("the token is not valid")
        return Caller("test", frozenset(instances.split(",")), frozenset(scopes.split()))

    async def instances(self, caller: Caller) -> Sequence[str]:
        return [one for one in self.known if one in caller.instances or "*" in caller.instances]

    async def devices(
        self, instance_id: str, *, tokens: Sequence[str] | None = None, group: str | None = None
    ) -> Sequence[DeviceView]:
        chosen = self.group_members[instance_id].get(group, []) if group is not None else tokens
        return [one for one in self.known[instance_id] if chosen is None or one.device_token in chosen]

    async def groups(self, instance_id: str) -> Mapping[str, tuple[int, Sequence[str]]]:
        return {name: (n, tokens) for n, (name, tokens) in enumerate(self.group_members[instance_id].items(), 1)}

    async def chat_device(self, instance_ids: Sequence[str], chat_id: str) -> tuple[str, Sequence[str]] | None:
        return ("acme", [ANNA]) if chat_id == CHAT and "acme" in instance_ids else None

    async def request_location(self, _instance_id: str, device_token: str) -> None:
        self.calls += 1
        if self.refusal is not None:
            raise self.refusal
        if device_token != ANNA:
            raise Conflict("no source of this device can be asked to share its location")
        self.asked.append(device_token)

    async def request_chat_location(self, _instance_ids: Sequence[str], chat_id: str) -> None:
        self.calls += 1
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(chat_id)


@asynccontextmanager
async def mounted(gateway: Any) -> AsyncIterator[str]:
    """The base URL of a server with nothing but the dialect."""
    app = web.Application()
    app.add_routes(list(waybridge_routes(gateway)))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/api/partner"
    finally:
        await runner.cleanup()
