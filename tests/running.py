"""A real gateway inside the test's loop, and the counts of long tests."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import aiohttp

from waybridge.cli.serve import serving
from waybridge.settings import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from waybridge.house import House

SOAK = os.environ.get("SOAK_TESTS") == "1"


def soak(small: int, long: int) -> int:
    """The count of a long test: small in `make test`, long in `make soak`."""
    return long if SOAK else small


class RunningGateway:
    """A real gateway on a port of its own: its house, its address, tokens, and a client session."""

    def __init__(self, house: House, url: str, http: aiohttp.ClientSession) -> None:
        self.house = house
        self.url = url
        self.http = http

    def token(self, scope: str = "read write ingest admin", *instances: str, device: str | None = None) -> str:
        return self.house.auth.issue(
            subject="test", instances=list(instances) or ["default"], scope=scope, ttl=86_400, device_token=device
        )

    def headers(self, scope: str = "read write ingest admin", *instances: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(scope, *instances)}"}


@contextlib.asynccontextmanager
async def running_gateway(database_url: str, folder: Path, **overrides: Any) -> AsyncIterator[RunningGateway]:
    """Serves a gateway on a free port until the block ends."""
    settings = load(
        None,
        cwd=folder,
        environ={},
        overrides={
            "database_url": database_url,
            "server": {"host": "127.0.0.1", "port": 0},
            "metrics_listen": "",
            **overrides,
        },
    )
    async with serving(settings) as (house, url), aiohttp.ClientSession() as http:
        yield RunningGateway(house, url, http)
