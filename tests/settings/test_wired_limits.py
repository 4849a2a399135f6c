"""Limits that an operator sets reach the part that keeps them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from running import running_gateway

if TYPE_CHECKING:
    from pathlib import Path


async def test_ingest_refuses_the_future_and_the_batch_that_settings_name(tmp_path: Path) -> None:
    overrides = {
        "limits": {"future_reject_seconds": 120.0},
        "connections": [{"id": "native", "provider": "native", "settings": {"positions_per_batch": 2}}],
    }
    async with running_gateway(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", tmp_path, **overrides) as gateway:

        async def push(*seconds: float) -> tuple[int, dict]:
            now = time.time()
            positions = [
                {"device_token": "van", "latitude": 1.0, "longitude": 2.0, "timestamp": now + each} for each in seconds
            ]
            address = f"{gateway.url}/ingest/native/positions"
            async with gateway.http.post(address, json={"positions": positions}, headers=gateway.headers()) as response:
                return response.status, await response.json()

        assert (await push(0, 60))[0] == 200
        status, answer = await push(3, 600)
        assert (status, [each["field"] for each in answer["rejected"]]) == (200, ["recorded_at"])
        assert "120 seconds" in answer["rejected"][0]["error"]
        assert (await push(4, 5, 6))[0] == 422
