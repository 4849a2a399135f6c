"""Metadata: which profile field names a device, and the profiles themselves (seed 001, contract section 5)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field

from waybridge import devices, names
from waybridge.api import answers
from waybridge.api.bodies import Body, Paging
from waybridge.api.operations import Call, Operation
from waybridge.api.times import Format, Times
from waybridge.devices import UNKNOWN, Devices
from waybridge.errors import Invalid
from waybridge.model import canonical_token
from waybridge.roster import Device, Roster

TAG = "Device metadata"
BULK = 500
ALLOWED = ", ".join(names.DISPLAY_FIELDS)

DisplayFieldName = Literal["full_name", "first_name", "last_name", "nickname", "email", "phone", "client_id"]
Text = Annotated[str, Field(max_length=200)]


class MetadataListing(Paging, Times):
    """Paging and times."""


class DisplayField(Body):
    display_field: DisplayFieldName


class Mappings(Body):
    """`mappings` are `{device_token, display_field}`; each stands for itself."""

    mappings: Annotated[list[dict[str, Any]], Field(max_length=BULK)]
    instance_id: str | None = None


class Refresh(Body):
    """Which devices; none or an empty list means all of the instance."""

    device_tokens: Annotated[list[str], Field(max_length=10_000)] | None = None
    instance_id: str | None = None


class ProfileBody(Body):
    """The whole profile; what is left out is unknown."""

    first_name: Text | None = None
    last_name: Text | None = None
    full_name: Text | None = None
    nickname: Text | None = None
    email: Text | None = None
    phone: Text | None = None
    client_id: Text | None = None


class MetadataApi:
    """The operations on metadata. `bulk_body_bytes` limits the body of the bulk operations."""

    def __init__(self, roster: Roster, devices: Devices, *, bulk_body_bytes: int = 1_048_576) -> None:
        self._roster = roster
        self._devices = devices
        self._bulk_body_bytes = bulk_body_bytes

    def operations(self) -> list[Operation]:
        one: dict[str, Any] = {"tag": TAG, "absent": UNKNOWN}
        many: dict[str, Any] = {
            "tag": TAG, "absent": "there is no such instance", "instance": "body_or_query",
            "max_body": self._bulk_body_bytes, "scope": "write",
        }  # fmt: skip
        at = "/devices/{device_token}/metadata"
        return [
            Operation(
                method="GET", path="/devices/metadata", handler=self.page, summary="List the metadata of devices",
                scope="read", tag=TAG, query=MetadataListing, answers={200: answers.MetadataPage},
                absent="there is no such instance",
            ),
            Operation(
                method="POST", path="/devices/metadata/display-field/bulk", handler=self.choose_many,
                summary="Choose display fields of many devices", body=Mappings, answers={200: answers.Updated}, **many,
            ),
            Operation(
                method="POST", path="/devices/metadata/refresh", handler=self.refresh_many,
                summary="Fetch profiles of many devices anew", body=Refresh, body_required=False,
                answers={200: answers.Refreshed}, **many,
            ),
            Operation(
                method="GET", path=at, handler=self.one, summary="Metadata of a device", scope="read", query=Times,
                answers={200: answers.Metadata}, **one,
            ),
            Operation(
                method="PATCH", path=f"{at}/display-field", handler=self.choose, summary="Choose the display field",
                scope="write", body=DisplayField, answers={200: answers.Metadata}, **one,
            ),
            Operation(
                method="POST", path=f"{at}/refresh", handler=self.refresh, summary="Fetch the profile anew",
                scope="write", body=Refresh, body_required=False, instance="body_or_query",
                answers={200: answers.Refreshed}, **one,
            ),
            Operation(
                method="PUT", path=f"{at}/profile", handler=self.profile, scope="write", body=ProfileBody,
                summary="Set the profile of a device, and make the device if it is new",
                answers={200: answers.Metadata}, **one,
            ),
        ]  # fmt: skip

    async def one(self, call: Call) -> web.StreamResponse:
        return call.json(shown(self._found(call), call.query.format_us()))

    async def page(self, call: Call) -> web.StreamResponse:
        query: MetadataListing = call.query
        found = sorted(self._roster.devices(str(call.instance_id)), key=lambda device: device.id)
        some = found[query.offset : query.offset + query.limit]
        when = query.format_us()
        return call.json(
            {
                "devices": [shown(device, when) for device in some],
                "total": len(found),
                "limit": query.limit,
                "offset": query.offset,
            }
        )

    async def choose(self, call: Call) -> web.StreamResponse:
        device = self._found(call)
        await self._devices.choose_fields(device.instance_id, {device.token: call.body.display_field})
        return call.json(shown(device, Times().format_us()))

    async def choose_many(self, call: Call) -> web.StreamResponse:
        chosen: dict[str, str] = {}
        asked: list[tuple[Any, str | None]] = []
        for mapping in call.body.mappings:
            given, problem = mapping.get("device_token"), _problem_of(mapping)
            if problem is None:
                given = canonical_token(given)
                if given not in chosen:
                    asked.append((given, None))
                chosen[given] = mapping["display_field"]
            else:
                asked.append((given, problem))
        unknown = set(await self._devices.choose_fields(str(call.instance_id), chosen))
        failed = [
            {"device_token": given, "error": problem or UNKNOWN}
            for given, problem in asked
            if problem is not None or given in unknown
        ]
        return call.json({"updated": len(chosen) - len(unknown), "failed": failed})

    async def refresh(self, call: Call) -> web.StreamResponse:
        if call.body is not None and call.body.device_tokens is not None:
            raise Invalid("the body is not valid", errors=[("device_tokens", "belongs to the refresh of many devices")])
        return await self._refreshed(call, [self._found(call)], [])

    async def refresh_many(self, call: Call) -> web.StreamResponse:
        instance_id = str(call.instance_id)
        tokens = call.body.device_tokens if call.body is not None else None
        if not tokens:
            return await self._refreshed(call, [*self._roster.devices(instance_id)], [])
        found: dict[int, Device] = {}
        failed: list[dict[str, Any]] = []
        for token in tokens:
            device = self._by_text(instance_id, token)
            if device is None:
                failed.append({"device_token": token, "error": UNKNOWN})
            else:
                found[device.id] = device
        return await self._refreshed(call, [*found.values()], failed)

    async def _refreshed(self, call: Call, found: list[Device], failed: list[dict[str, Any]]) -> web.StreamResponse:
        refreshed, problems = await self._devices.refresh(found)
        failed = failed + [{"device_token": token, "error": error} for token, error in problems]
        return call.json({"refreshed": refreshed, "failed": failed})

    async def profile(self, call: Call) -> web.StreamResponse:
        given = {field: _stripped(value) for field, value in call.body.model_dump().items()}
        device = await self._devices.keep_profile(str(call.instance_id), call.device_token, given)
        return call.json(shown(device, Times().format_us()))

    def _found(self, call: Call) -> Device:
        return self._devices.find(call.instances, call.device_token)

    def _by_text(self, instance_id: str, text: str) -> Device | None:
        try:
            return self._roster.device(instance_id, canonical_token(text))
        except ValueError:
            return None


def shown(device: Device, when: Format) -> dict[str, Any]:
    """Metadata as it is answered."""
    return {**devices.metadata(device), "updated_at": when(device.profile_updated_us)}


def _problem_of(mapping: dict[str, Any]) -> str | None:
    """What is wrong with one mapping of a bulk, or None."""
    token, field = mapping.get("device_token"), mapping.get("display_field")
    if not isinstance(token, str):
        return "device_token must be text"
    try:
        canonical_token(token)
    except ValueError as error:
        return f"device_token {error}"
    if field not in names.DISPLAY_FIELDS:
        return f"display_field must be one of {ALLOWED}"
    unknown = mapping.keys() - {"device_token", "display_field"}
    return f"unknown field {min(unknown)}" if unknown else None


def _stripped(value: str | None) -> str | None:
    return (value.strip() or None) if value is not None else None
