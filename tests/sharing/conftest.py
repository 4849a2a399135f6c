"""Worlds on each database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .world import World, make_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """On SQLite and on PostgreSQL."""
    made = await make_world(database_url)
    yield made
    await made.store.close()


@pytest.fixture
async def small_world(tmp_path: Any) -> AsyncIterator[World]:
    """On SQLite alone, for rules that no database decides."""
    made = await make_world(f"sqlite+aiosqlite:///{tmp_path / 'waybridge.db'}")
    yield made
    await made.store.close()
