"""The service itself: health, readiness, its own description and the page that shows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from waybridge.api import answers
from waybridge.api.operations import Call, Operation
from waybridge.api.problems import BASE_HEADERS

Check = Callable[[], Awaitable[Mapping[str, Any]]]
"""What a part says of itself: `{"ok": bool, ...}`."""


class ServiceApi:
    """Health for load balancers. `checks` are asked for readiness: database, bus, connections.

    Alive is who answers; ready is who can serve: the database and the bus must be there. Connections are told
    but never make the gateway unready: a vendor that is down is no reason to take a node out.
    """

    def __init__(
        self, *, version: str, alive: Callable[[], bool], checks: Mapping[str, Check], informative: frozenset[str]
    ) -> None:
        self._version = version
        self._alive = alive
        self._checks = dict(checks)
        self._informative = informative

    def operations(self) -> list[Operation]:
        """Those below the API's prefixes."""
        common: dict[str, Any] = {"method": "GET", "tag": "Service", "scope": None, "instance": "none"}
        return [
            Operation(
                path="/health", handler=self._health, summary="Whether the gateway works",
                answers={200: answers.Health, 503: answers.Health}, **common,
            ),
            Operation(
                path="/health/ready", handler=self._ready, summary="Whether the gateway can serve",
                answers={200: answers.Ready, 503: answers.Ready}, **common,
            ),
        ]  # fmt: skip

    async def _health(self, call: Call) -> web.StreamResponse:
        del call
        return self.health()

    async def _ready(self, call: Call) -> web.StreamResponse:
        del call
        return await self.ready()

    def health(self) -> web.Response:
        """200 while the process serves and its database answered last, else 503."""
        alive = self._alive()
        return _answer({"status": "ok" if alive else "unavailable", "version": self._version}, 200 if alive else 503)

    async def ready(self) -> web.Response:
        """Asks every part now."""
        told = {name: dict(await check()) for name, check in self._checks.items()}
        fit = all(each.get("ok") for name, each in told.items() if name not in self._informative)
        payload = {"status": "ok" if fit else "unavailable", "version": self._version, "checks": told}
        return _answer(payload, 200 if fit else 503)


def _answer(payload: Mapping[str, Any], status: int) -> web.Response:
    headers = {**BASE_HEADERS, "Content-Type": "application/json"}
    if status == 503:
        headers["Retry-After"] = "5"
    return web.Response(status=status, body=msgspec.json.encode(payload), headers=headers)
