"""Fixtures for the pages: Chromium and a gateway, each new for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext

from .kit import Gateway, chromium, running

PHONE = {"width": 390, "height": 844}


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as made:
        yield made


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path) as made:
        yield made


@pytest.fixture
def options() -> dict[str, Any]:
    """How the browser context is made; tests override it by parametrizing."""
    return {}


@pytest.fixture
async def context(browser: Browser, options: dict[str, Any]) -> AsyncIterator[BrowserContext]:
    made = await browser.new_context(**({"viewport": PHONE, "locale": "en-GB"} | options))
    yield made
    await made.close()
