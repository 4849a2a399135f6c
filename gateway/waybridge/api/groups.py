"""Groups: named sets of devices (contract section 5)."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from pydantic import AfterValidator, Field

from waybridge.api import answers
from waybridge.api.bodies import Body, Paging, keepable
from waybridge.api.operations import Call, Operation
from waybridge.bus import Nudge
from waybridge.errors import Invalid
from waybridge.model import canonical_token
from waybridge.store import groups as rows
from waybridge.store.engine import Store, Tx
from waybridge.store.groups import Group

MOST_DEVICES = 10_000
ABSENT = "there is no such group"


def _one_line(text: str) -> str:
    if not keepable(text):
        raise ValueError("must not hold control characters")
    return text


class GroupBody(Body):
    """A group's whole content. Tokens of devices that do not exist yet may be named."""

    name: Annotated[str, AfterValidator(_one_line), Field(max_length=200)] | None = None
    device_tokens: Annotated[list[Annotated[str, AfterValidator(canonical_token)]], Field(max_length=MOST_DEVICES)]


class GroupApi:
    """The operations on groups. `body_bytes` limits the body of PUT."""

    def __init__(self, store: Store, *, body_bytes: int = 1_048_576) -> None:
        self._store = store
        self._body_bytes = body_bytes

    def operations(self) -> list[Operation]:
        one: dict[str, Any] = {"tag": "Groups", "path": "/groups/{group_id}", "absent": ABSENT}
        return [
            Operation(
                method="GET", path="/groups", handler=self.page, summary="List groups", scope="read", tag="Groups",
                query=Paging, answers={200: answers.GroupPage}, absent="there is no such instance",
            ),
            Operation(
                method="GET", handler=self.get, summary="A group", scope="read", answers={200: answers.Group}, **one
            ),
            Operation(
                method="PUT", handler=self.put, summary="Make or replace a group", scope="write", body=GroupBody,
                max_body=self._body_bytes, answers={200: answers.Group}, **one,
            ),
            Operation(
                method="DELETE", handler=self.remove, summary="Remove a group", scope="write", answers={204: None},
                **one,
            ),
        ]  # fmt: skip

    async def members(self, instance_id: str, group_ids: Any) -> frozenset[str]:
        """The device tokens in any of the groups."""
        async with self._store.read() as conn:
            return await rows.members(conn, instance_id, group_ids)

    async def page(self, call: Call) -> web.StreamResponse:
        query: Paging = call.query
        async with self._store.read() as conn:
            found, total = await rows.groups_of(conn, str(call.instance_id), limit=query.limit, offset=query.offset)
        return call.json(
            {"groups": [_shown(each) for each in found], "total": total, "limit": query.limit, "offset": query.offset}
        )

    async def get(self, call: Call) -> web.StreamResponse:
        async with self._store.read() as conn:
            found = await rows.group_by_id(conn, str(call.instance_id), call.path["group_id"])
        if found is None:
            raise call.absent()
        return call.json(_shown(found))

    async def put(self, call: Call) -> web.StreamResponse:
        instance_id, group_id = str(call.instance_id), call.path["group_id"]
        if len(group_id) > 200:
            raise Invalid("the address is not valid", errors=[("group_id", "must be at most 200 characters")])
        body: GroupBody = call.body

        async def unit(tx: Tx) -> Group:
            group, _ = await rows.put_group(tx, instance_id, group_id, body.name, body.device_tokens)
            tx.publish(Nudge("groups", instance_id))
            return group

        return call.json(_shown(await self._store.write(unit)))

    async def remove(self, call: Call) -> web.StreamResponse:
        instance_id = str(call.instance_id)

        async def unit(tx: Tx) -> bool:
            tx.publish(Nudge("groups", instance_id))
            return await rows.remove_group(tx, instance_id, call.path["group_id"])

        if not await self._store.write(unit):
            raise call.absent()
        return call.empty()


def _shown(group: Group) -> dict[str, Any]:
    return {
        "group_id": group.group_id,
        "instance_id": group.instance_id,
        "name": group.name,
        "device_tokens": group.device_tokens,
        "created_at": group.created_us // 1_000_000,
        "updated_at": group.updated_us // 1_000_000,
    }
