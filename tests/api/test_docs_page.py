"""The page at /docs in a real browser: it draws every operation under its own strict policy."""

from __future__ import annotations

import shutil

import pytest


@pytest.mark.browser
async def test_the_page_draws_every_operation_and_breaks_no_policy(site):
    playwright = pytest.importorskip("playwright.async_api", reason="needs playwright (extra dev)")
    path = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if path is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    async with site.running.http.get(f"{site.running.url}/openapi.json") as response:
        described = await response.json()
    wanted = sum(len(methods) for methods in described["paths"].values()) + len(described["x-websockets"])
    said: list[str] = []

    async with playwright.async_playwright() as play:
        browser = await play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = await browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        await page.goto(f"{site.running.url}/docs")
        await page.wait_for_selector("main details")
        drawn = await page.locator("main details").count()
        await browser.close()

    assert (drawn, said) == (wanted, [])
