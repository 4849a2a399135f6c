"""Fixtures for the pages: one Chromium for all of them, a gateway and a browser context new for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, expect

from .kit import Gateway, Watch, chromium, running, watched

PHONE = {"width": 390, "height": 844}
expect.set_options(timeout=20_000)  # a software renderer on a shared machine takes its time


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path) as made:
        yield made


@pytest.fixture
def options() -> dict[str, Any]:
    """How the browser context is made; tests override it by parametrizing."""
    return {}


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser, options: dict[str, Any]) -> AsyncIterator[BrowserContext]:
    made = await browser.new_context(**({"viewport": PHONE, "locale": "en-GB"} | options))
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def watch(context: BrowserContext) -> Watch:
    return await watched(context)
