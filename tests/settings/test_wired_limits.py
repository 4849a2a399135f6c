"""Limits that an operator sets reach the part that keeps them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from running import running_gateway

import waybridge
from waybridge.configuration import _entry
from waybridge.settings import Settings


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
        assert (status, [each["field"] for each in answer["rejected"]]) == (200, ["timestamp"])
        assert "120 seconds" in answer["rejected"][0]["error"]
        assert (await push(4, 5, 6))[0] == 422


def test_every_setting_is_read_by_some_part() -> None:
    gateway = Path(waybridge.__file__).parent
    text = "\n".join(each.read_text() for each in gateway.rglob("*.py") if each.name != "settings_tables.py")

    assert [name for name in names_of(Settings) if not re.search(rf"\.{name}\b", text)] == []


def names_of(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        below = _entry(field.annotation) or field.annotation
        if isinstance(below, type) and issubclass(below, BaseModel):
            yield from names_of(below)
