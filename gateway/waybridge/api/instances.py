"""Instances: the tenants of the gateway; only tokens for all instances may make and change them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Self

from aiohttp import web
from pydantic import AfterValidator, Field, model_validator

from waybridge.api import answers
from waybridge.api.bodies import Body, InstanceId, Paging, keepable
from waybridge.api.operations import Call, Operation
from waybridge.errors import Forbidden
from waybridge.instances import ABSENT, Instances
from waybridge.model import iso_us
from waybridge.settings_tables import Instance as InstanceSettings
from waybridge.store.instances import InstanceRow


def _one_line(text: str) -> str:
    if not keepable(text):
        raise ValueError("must not hold control characters")
    return text


def _origins(origins: list[str]) -> list[str]:
    return list(InstanceSettings(id="x", embed_origins=tuple(origins)).embed_origins)


Name = Annotated[str, AfterValidator(_one_line), Field(max_length=200)]
Origins = Annotated[list[str], Field(max_length=100), AfterValidator(_origins)]


class BrandBody(Body):
    """What differs from the gateway's own brand."""

    name: Annotated[str, AfterValidator(_one_line), Field(min_length=1, max_length=100)] | None = None
    color: Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")] | None = None


class InstanceBody(Body):
    """A new instance; its id as `instance_id` or, as in the configuration file, `id`."""

    instance_id: InstanceId | None = None
    id: InstanceId | None = None
    name: Name | None = None
    embed_origins: Origins = Field(default_factory=list)
    brand: BrandBody = BrandBody()

    @model_validator(mode="after")
    def _one_id(self) -> Self:
        if self.instance_id is None and self.id is None:
            raise ValueError("instance_id is required")
        if self.instance_id is not None and self.id is not None and self.id != self.instance_id:
            raise ValueError("id and instance_id differ")
        return self


class InstanceChange(Body):
    """What changes; null takes the name or the brand away."""

    name: Name | None = None
    embed_origins: Origins = Field(default_factory=list)
    brand: BrandBody | None = None


class InstanceApi:
    """The operations on instances."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances

    def operations(self) -> list[Operation]:
        common: dict[str, Any] = {"tag": "Instances", "scope": "admin", "instance": "none", "absent": ABSENT}
        one = "/instances/{id}"
        return [
            Operation(
                method="GET", path="/instances", handler=self.page, summary="List instances", query=Paging,
                answers={200: answers.InstancePage}, **common,
            ),
            Operation(
                method="POST", path="/instances", handler=self.create, summary="Make an instance", body=InstanceBody,
                answers={201: answers.Instance, 409: None}, **common,
            ),
            Operation(
                method="GET", path=one, handler=self.get, summary="An instance", answers={200: answers.Instance},
                **common,
            ),
            Operation(
                method="PATCH", path=one, handler=self.change, summary="Change an instance", body=InstanceChange,
                answers={200: answers.Instance, 409: None}, **common,
            ),
            Operation(
                method="DELETE", path=one, handler=self.remove, summary="Remove an instance that owns nothing",
                answers={204: None, 409: None}, **common,
            ),
        ]  # fmt: skip

    async def page(self, call: Call) -> web.StreamResponse:
        _check_all(call)
        query: Paging = call.query
        found = self._instances.every()
        some = found[query.offset : query.offset + query.limit]
        return call.json(
            {
                "instances": [self._shown(each) for each in some],
                "total": len(found),
                "limit": query.limit,
                "offset": query.offset,
            }
        )

    async def create(self, call: Call) -> web.StreamResponse:
        _check_all(call)
        body: InstanceBody = call.body
        made = await self._instances.create(
            InstanceRow(
                instance_id=str(body.instance_id or body.id),
                name=body.name,
                embed_origins=tuple(body.embed_origins),
                brand=body.brand.model_dump(exclude_none=True),
                created_us=0,
                updated_us=0,
            )
        )
        return call.json(self._shown(made), status=201)

    async def get(self, call: Call) -> web.StreamResponse:
        return call.json(self._shown(self._found(call)))

    async def change(self, call: Call) -> web.StreamResponse:
        found = self._found(call)
        body: InstanceChange = call.body
        changes: dict[str, Any] = {}
        if "name" in body.model_fields_set:
            changes["name"] = body.name
        if "embed_origins" in body.model_fields_set:
            changes["embed_origins"] = tuple(body.embed_origins)
        if "brand" in body.model_fields_set:
            changes["brand"] = body.brand.model_dump(exclude_none=True) if body.brand is not None else {}
        return call.json(self._shown(await self._instances.change(replace(found, **changes))))

    async def remove(self, call: Call) -> web.StreamResponse:
        found = self._found(call)
        await self._instances.remove(found.instance_id)
        return call.empty()

    def _found(self, call: Call) -> InstanceRow:
        _check_all(call)
        found = self._instances.one(call.path["id"])
        if found is None:
            raise call.absent()
        return found

    def _shown(self, row: InstanceRow) -> dict[str, Any]:
        return {
            "id": row.instance_id,
            "instance_id": row.instance_id,
            "name": row.name,
            "embed_origins": list(row.embed_origins),
            "brand": dict(row.brand),
            "origin": self._instances.origin(row.instance_id),
            "created_at": iso_us(row.created_us or None),
            "updated_at": iso_us(row.updated_us or None),
        }


def _check_all(call: Call) -> None:
    if call.principal is None or "*" not in call.principal.instances:
        raise Forbidden("only a token for all instances may do this")
