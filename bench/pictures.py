"""Takes the pictures of docs/images from `waybridge demo`: `python bench/pictures.py` (needs Chromium)."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "images"
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}
PATIENCE_MS = 60_000
SETTLE_MS = 4000


async def main() -> None:
    chromium = next(path for name in ("chromium", "google-chrome") if (path := shutil.which(name)))
    IMAGES.mkdir(exist_ok=True)
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "waybridge", "demo", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        tracker, token, share = await addresses(demo)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            await pictures(browser, tracker, token, share)
            await browser.close()
    finally:
        demo.terminate()
        await demo.wait()


async def addresses(demo: asyncio.subprocess.Process) -> tuple[str, str, str]:
    """The tracker's address, the token and the link to the native device, as the demo prints them."""
    if demo.stdout is None:
        raise RuntimeError("the demo was started without a pipe")
    tracker = token = ""
    async with asyncio.timeout(120):
        while line := (await demo.stdout.readline()).decode():
            if found := re.match(r"Tracker (\S+)", line):
                tracker = found[1]
            elif found := re.match(r"Token (\S+)", line):
                token = found[1]
            elif found := re.match(r"Share (\S+) .*\(native\)", line):
                return tracker, token, found[1]
    raise RuntimeError("the demo ended early")


async def pictures(browser: Browser, tracker: str, token: str, share: str) -> None:
    for view, size in (("phone", PHONE), ("desktop", DESK)):
        for scheme in ("light", "dark"):
            tail = "" if scheme == "light" else "-dark"
            page = await open_page(browser, size, scheme)
            await page.goto(share)
            await page.wait_for_selector("html[data-map=ready]", timeout=PATIENCE_MS)
            await page.wait_for_selector("#conn[data-state=live]")
            await keep(page, f"share-live-{view}{tail}")
            if view == "phone" and scheme == "light":
                await page.click("#grip")
                await keep(page, "share-details-phone")
            await page.context.close()
            page = await open_page(browser, size, scheme)
            await page.goto(tracker)
            await page.wait_for_selector("live-tracker[data-map=ready]", timeout=PATIENCE_MS)
            await page.click(".row >> nth=0")
            await keep(page, f"tracker-{view}{tail}")
            await page.click("#share")
            await page.wait_for_selector("share-drawer h3")
            await keep(page, f"tracker-share-{view}{tail}")
            await page.context.close()
    for scheme in ("light", "dark"):
        tail = "" if scheme == "light" else "-dark"
        for view, size in (("phone", PHONE), ("desktop", DESK)):
            for kind in ("stale", "ended"):
                page = await open_page(browser, size, scheme)
                await special(page, tracker, token, kind)
                await keep(page, f"share-{kind}-{view}{tail}")
                await page.context.close()


async def special(page: Page, tracker: str, token: str, kind: str) -> None:
    """A device that fell silent four minutes ago, and a link that ends while it is open."""
    root = tracker.partition("/embed")[0]
    api = page.context.request
    auth = {"Authorization": f"Bearer {token}"}
    ago = 240 if kind == "stale" else 0
    device = f"pictures-{kind}"
    now = await page.evaluate("Date.now() / 1000")
    await api.put(
        f"{root}/api/v1/devices/{device}/metadata/profile?instance_id=default",
        headers=auth,
        data={"full_name": "John Smith"},
    )
    place = {"latitude": 60.1690, "longitude": 24.9420, "speed": 8, "heading": 75}
    fix = {"instance_id": "default", "device_token": device, "timestamp": now - ago, **place}
    await api.post(f"{root}/ingest/native/positions", headers=auth, data=fix)
    body: dict[str, Any] = {
        "device_token": device,
        "instance_id": "default",
        "recipient_name": "Jane",
        "notes": "Your package is on the way! Please have your ID ready.",
        "order_id": "ORD-2024-1234",
        "destination": {"latitude": 60.1764, "longitude": 24.9466, "label": "Siltasaarenkatu 4, Helsinki"},
    }
    made = await (await api.post(f"{root}/api/v1/sharing/sessions", headers=auth, data=body)).json()
    await page.goto(made["share_url"])
    await page.wait_for_selector("html[data-map=ready]", timeout=PATIENCE_MS)
    path = f"{root}/api/v1/sharing/sessions/{made['id']}"
    if kind == "ended":
        await page.wait_for_selector("#conn[data-state=live]")
        await api.post(f"{path}/complete?instance_id=default", headers=auth)
        await page.wait_for_selector("#veil:not([hidden])")
    else:
        await page.wait_for_selector("#conn[data-state=stale]")
        await page.wait_for_timeout(SETTLE_MS)


async def open_page(browser: Browser, size: dict[str, int], scheme: Any) -> Page:
    context = await browser.new_context(
        viewport={"width": size["width"], "height": size["height"]}, color_scheme=scheme, locale="en-GB"
    )
    return await context.new_page()


async def keep(page: Page, name: str) -> None:
    await page.wait_for_timeout(SETTLE_MS)
    await page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    asyncio.run(main())
