"""Connections to outside systems, and the nodes that run them (contract sections 3 and 12)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Protocol

from aiohttp import web
from pydantic import AfterValidator, Field

from waybridge.api import answers
from waybridge.api.bodies import Body, InstanceId, Paging, keepable
from waybridge.api.operations import Call, Operation
from waybridge.errors import NotFound

TAG = "Connections"
ABSENT = "there is no such connection"
ConnectionId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


def _one_line(text: str) -> str:
    if not keepable(text):
        raise ValueError("must not hold control characters")
    return text


class ConnectionBody(Body):
    """A new connection. `settings` are its provider's; `check` proves them before anything is kept."""

    connection_id: ConnectionId | None = None
    provider: Annotated[str, Field(min_length=1, max_length=64)]
    instance_id: InstanceId | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    check: bool = False


class ConnectionChange(Body):
    """Settings that change: null takes one away, "***" keeps a secret."""

    settings: dict[str, Any]
    check: bool = False


class ChatRequest(Body):
    """What is asked: a chat, or another target of the provider."""

    chat_id: Annotated[str, AfterValidator(_one_line), Field(min_length=1, max_length=500)]
    instance_id: str | None = None


class ConnectionParts(Protocol):
    """What the API does to connections (waybridge.connections)."""

    async def every(self, instance_ids: Iterable[str]) -> list[dict[str, Any]]: ...
    async def one(self, instance_ids: Iterable[str], connection_id: str) -> dict[str, Any]: ...
    async def create(
        self,
        *,
        instance_id: str,
        provider: str,
        settings: Mapping[str, Any],
        connection_id: str | None = None,
        check: bool = False,
    ) -> dict[str, Any]: ...
    async def change(
        self, instance_ids: Iterable[str], connection_id: str, settings: Mapping[str, Any], *, check: bool = False
    ) -> dict[str, Any]: ...
    async def remove(self, instance_ids: Iterable[str], connection_id: str) -> None: ...
    async def restart(self, instance_ids: Iterable[str], connection_id: str) -> dict[str, Any]: ...
    async def check(self, instance_ids: Iterable[str], connection_id: str) -> dict[str, Any]: ...
    async def ask(self, instance_ids: Iterable[str], connection_id: str, target: str) -> None: ...
    async def nodes(self) -> list[dict[str, Any]]: ...


class ConnectionApi:
    """The operations on connections."""

    def __init__(self, connections: ConnectionParts) -> None:
        self._connections = connections

    def operations(self) -> list[Operation]:
        common: dict[str, Any] = {"tag": TAG, "scope": "admin", "absent": ABSENT, "instance": "optional"}
        one = "/connections/{connection_id}"
        shown = {200: answers.Connection}
        return [
            Operation(
                method="GET", path="/connections", handler=self.page, summary="List connections", query=Paging,
                answers={200: answers.ConnectionPage}, **common,
            ),
            Operation(
                method="POST", path="/connections", handler=self.create, summary="Make a connection",
                body=ConnectionBody, answers={201: answers.Connection, 409: None},
                **{**common, "instance": "body_or_query", "absent": "there is no such instance"},
            ),
            Operation(method="GET", path=one, handler=self.get, summary="A connection", answers=shown, **common),
            Operation(
                method="PATCH", path=one, handler=self.change, summary="Change a connection's settings",
                body=ConnectionChange, answers={**shown, 409: None}, **common,
            ),
            Operation(
                method="DELETE", path=one, handler=self.remove, summary="Remove a connection",
                answers={204: None, 409: None}, **common,
            ),
            Operation(
                method="POST", path=f"{one}/check", handler=self.check, summary="Prove a connection's credentials",
                answers={200: answers.Checked}, **common,
            ),
            Operation(
                method="POST", path=f"{one}/restart", handler=self.restart, summary="Start a connection anew",
                answers={**shown, 409: None}, **common,
            ),
            Operation(
                method="POST", path=f"{one}/location/request", handler=self.ask, body=ChatRequest,
                summary="Ask by a chat, before a device exists",
                answers={202: answers.Asked, 409: None, 429: None, 502: None}, **{**common, "scope": "write"},
            ),
            Operation(
                method="GET", path="/nodes", handler=self.nodes, summary="Nodes, and what runs where", query=Paging,
                answers={200: answers.NodePage}, tag="Service", scope="admin", instance="none",
            ),
        ]  # fmt: skip

    async def page(self, call: Call) -> web.StreamResponse:
        return call.json(_page(call, "connections", await self._connections.every(call.instances)))

    async def create(self, call: Call) -> web.StreamResponse:
        body: ConnectionBody = call.body
        made = await self._connections.create(
            instance_id=str(call.instance_id),
            provider=body.provider,
            settings=body.settings,
            connection_id=body.connection_id,
            check=body.check,
        )
        return call.json(made, status=201)

    async def get(self, call: Call) -> web.StreamResponse:
        return call.json(await self._one(call))

    async def change(self, call: Call) -> web.StreamResponse:
        await self._one(call)
        body: ConnectionChange = call.body
        connection_id = call.path["connection_id"]
        changed = await self._connections.change(call.instances, connection_id, body.settings, check=body.check)
        return call.json(changed)

    async def remove(self, call: Call) -> web.StreamResponse:
        await self._one(call)
        await self._connections.remove(call.instances, call.path["connection_id"])
        return call.empty()

    async def check(self, call: Call) -> web.StreamResponse:
        await self._one(call)
        return call.json(await self._connections.check(call.instances, call.path["connection_id"]))

    async def restart(self, call: Call) -> web.StreamResponse:
        await self._one(call)
        return call.json(await self._connections.restart(call.instances, call.path["connection_id"]))

    async def ask(self, call: Call) -> web.StreamResponse:
        await self._one(call)
        await self._connections.ask(call.instances, call.path["connection_id"], call.body.chat_id)
        return call.json({"status": "requested"}, status=202)

    async def nodes(self, call: Call) -> web.StreamResponse:
        found = await self._connections.nodes()
        allowed = {each["connection_id"] for each in await self._connections.every(call.instances)}
        for node in found:
            node["connections"] = [each for each in node["connections"] if each in allowed]
        return call.json(_page(call, "nodes", found))

    async def _one(self, call: Call) -> dict[str, Any]:
        """The connection, or the 404 that everybody gets alike."""
        try:
            return await self._connections.one(call.instances, call.path["connection_id"])
        except NotFound:
            raise call.absent() from None


def _page(call: Call, key: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    query: Paging = call.query
    return {
        key: found[query.offset : query.offset + query.limit],
        "total": len(found),
        "limit": query.limit,
        "offset": query.offset,
    }
