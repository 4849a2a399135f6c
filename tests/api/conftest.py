"""A gateway with two instances, for the API's tests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from running import RunningGateway, running_gateway

ACME, OTHER = "acme", "other"


@dataclass
class Site:
    """Two tenants on one gateway."""

    running: RunningGateway

    def headers(self, *instances: str, scope: str = "read write ingest admin") -> dict[str, str]:
        return self.running.headers(scope, *(instances or (ACME,)))

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """(status, JSON or bytes) of a request below /api/v1, as ACME unless headers say otherwise."""
        options.setdefault("headers", self.headers())
        async with self.running.http.request(method, f"{self.running.url}/api/v1{path}", **options) as response:
            if response.content_type.endswith("json"):
                return response.status, await response.json(content_type=None)
            return response.status, await response.read()

    async def push(self, *positions: dict[str, Any], instance: str = ACME) -> dict[str, Any]:
        """Pushes native positions; what is left out is filled in."""
        filled = [{"latitude": 1.0, "longitude": 2.0, "timestamp": time.time(), **each} for each in positions]
        async with self.running.http.post(
            f"{self.running.url}/ingest/native/positions",
            json={"instance_id": instance, "positions": filled},
            headers=self.headers(instance),
        ) as response:
            assert response.status == 200, await response.text()
            return await response.json()


@pytest.fixture
async def site(database_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    instances = [{"id": ACME, "embed_origins": ["https://portal.acme.example"]}, {"id": OTHER}]
    async with running_gateway(database_url, tmp_path, instances=instances) as running:
        yield Site(running)
