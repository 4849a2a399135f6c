"""`/v3/chats/{chatId}/location`: where a device is, the devices of a group, or the people of a real chat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from waybridge import RequestError, canonical_token
from waybridge_linq_api.dialect import (
    CONFLICT,
    GROUP,
    NOT_FOUND,
    ROOT,
    SERVICE,
    UNAVAILABLE,
    Refusal,
    json_answer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from waybridge import DeviceView, Gateway
    from waybridge_linq_api.dialect import Call, Dialect

LOCATION = f"{ROOT}/chats/{{chat_id}}/location"
CONFLICT_STATUS = 409
LONGEST_ID = 200


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a chat id names: one device, a group of them, or a real chat of a connection."""

    devices: Sequence[DeviceView]
    kind: str
    instance_id: str


class Locations:
    """The handlers of locations."""

    def __init__(self, gateway: Gateway, dialect: Dialect) -> None:
        self._gateway = gateway
        self._dialect = dialect

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.get(LOCATION, self._dialect.served("read", self.read)),
            web.post(f"{LOCATION}/request", self._dialect.served("write", self.request, once=True)),
        ]

    async def read(self, call: Call) -> web.Response:
        """Everybody of the chat who may be seen; nobody is an empty list, as at the vendor."""
        named = await self._named(call)
        if named is None:
            raise _absent()
        features = [_feature(device) for device in named.devices if device.visible and device.position is not None]
        return json_answer({"success": True, "data": {"type": "FeatureCollection", "features": features}})

    async def request(self, call: Call) -> web.Response:
        """Prompts a person, once: no refusal and no failure may be tried again by the client itself.

        What nothing is known of may be a chat that the vendor has, and nobody has been asked in yet.
        """
        named = await self._named(call)
        try:
            if named is None or named.kind == "chat":
                await self._gateway.request_chat_location(call.instances, call.request.match_info["chat_id"])
            elif named.kind == "group":
                raise Refusal(CONFLICT_STATUS, GROUP, "GroupChatNotSupported: only one device can be asked at a time")
            else:
                await self._gateway.request_location(named.instance_id, named.devices[0].device_token)
        except RequestError as error:
            if error.status != CONFLICT_STATUS:
                raise
            raise Refusal(CONFLICT_STATUS, _conflict(error.detail), error.detail) from error
        return json_answer({"success": True, "message": "Location request sent"})

    async def _named(self, call: Call) -> Conversation | None:
        """A device token wins over a group's id, and that over a real chat that is known; None for what is not."""
        chat_id = call.request.match_info["chat_id"]
        try:
            token = canonical_token(chat_id)
        except ValueError:
            raise _absent() from None
        found = [
            Conversation(devices, "device", instance_id)
            for instance_id in call.instances
            if (devices := await self._gateway.devices(instance_id, tokens=[token]))
        ]
        if not found:
            found = [
                Conversation(await self._gateway.devices(instance_id, group=chat_id), "group", instance_id)
                for instance_id in call.instances
                if chat_id in await self._gateway.groups(instance_id)
            ]
        if len(found) > 1:
            message = "The chat id is known in more than one instance; name one by ?instance_id="
            raise Refusal(CONFLICT_STATUS, CONFLICT, message)
        if found:
            return found[0]
        real = await self._gateway.chat_device(call.instances, chat_id)
        if real is None:
            return None
        instance_id, tokens = real
        devices = await self._gateway.devices(instance_id, tokens=list(tokens)) if tokens else []
        return Conversation(devices, "chat", instance_id)


def _absent() -> Refusal:
    return Refusal(404, NOT_FOUND, "Chat not found")


def _conflict(reason: str) -> int:
    """The vendor's code of a refusal to ask; a device that no source of which can be asked is no iMessage chat."""
    for code in (UNAVAILABLE, GROUP, SERVICE):
        if str(code) in reason:
            return code
    return SERVICE if "cannot be asked" in reason or "can be asked" in reason else CONFLICT


def _feature(device: DeviceView) -> dict[str, Any]:
    position = device.position
    if position is None:
        raise ValueError("a device without a position is no feature")
    coordinates = [position.longitude, position.latitude]
    if position.altitude_m is not None:
        coordinates.append(position.altitude_m)
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": coordinates},
        "properties": {
            "handle": device.handle or device.display_name,
            "address": position.address,
            "locality": position.locality,
            "updated_at": _iso(position.recorded_at),
        },
    }


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
