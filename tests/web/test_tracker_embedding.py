"""The tracker on other people's pages: who may frame it, who may send it a token, what it tells its host."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import expect

from .kit import INSTANCE, MAP_READY, Gateway, Watch, fleet, row, running, until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture
def options() -> dict[str, Any]:
    return {"viewport": {"width": 1280, "height": 800}}


@pytest_asyncio.fixture(loop_scope="session")
async def host() -> AsyncIterator[tuple[str, dict[str, str]]]:
    """A portal of somebody else on another origin; what it answers is put in the dictionary."""
    pages: dict[str, str] = {}

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=pages["/"], content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/", page)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://localhost:{runner.addresses[0][1]}", pages
    await runner.cleanup()


def frame_of(gateway: Gateway, script: str = "") -> str:
    """A host's page with the tracker in a frame, and a script of its own."""
    address = f"{gateway.url}/embed/tracker?instance_id={INSTANCE}"
    return f'<body><iframe id="t" width="1200" height="700" src="{address}"></iframe><script>{script}</script>'


def instances(*origins: str) -> dict[str, Any]:
    return {"instances": [{"id": INSTANCE, "embed_origins": list(origins)}]}


async def test_a_portal_embeds_the_frame_and_sends_the_token(
    tmp_path: Path, watch: Watch, host: tuple[str, dict[str, str]]
) -> None:
    origin, pages = host
    async with running(tmp_path, **instances(origin)) as gateway:
        await fleet(gateway)
        answer = json.dumps({"type": "waybridge:token", "token": gateway.token()})
        pages["/"] = frame_of(
            gateway,
            f"""
            window.heard = []
            addEventListener('message', (event) => {{
              if (event.origin !== '{gateway.url}') return
              window.heard.push(event.data.type)
              if (event.data.type === 'waybridge:hello') event.source.postMessage({answer}, event.origin)
            }})""",
        )
        await watch.page.goto(origin + "/")
        frame = watch.page.frame_locator("#t")
        await expect(row(frame, "van-7")).to_be_visible(timeout=20_000)
        await row(frame, "van-7").click()
        await until(lambda: watch.page.evaluate("window.heard.includes('waybridge:select')"))
        await frame.locator("#share").click()
        await frame.locator("#create").click()
        await until(lambda: watch.page.evaluate("window.heard.includes('waybridge:share-created')"))


async def test_a_token_from_an_origin_that_is_not_allowed_is_ignored(
    tmp_path: Path, watch: Watch, host: tuple[str, dict[str, str]]
) -> None:
    origin, pages = host
    async with running(tmp_path, **instances("https://portal.acme.example")) as gateway:
        await fleet(gateway)
        pages["/"] = f"""<body><button id="b">open</button><script>
        document.getElementById('b').onclick = () => {{
          const other = open('{gateway.url}/embed/tracker?instance_id={INSTANCE}')
          window.sent = 0
          const message = {{ type: 'waybridge:token', token: '{gateway.token()}' }}
          setInterval(() => {{ other.postMessage(message, '*'); window.sent++ }}, 100) }}
        </script>"""
        await watch.page.goto(origin + "/")
        async with watch.page.expect_popup() as opened:
            await watch.page.locator("#b").click()
        tracker = await opened.value
        await expect(tracker.locator(".empty")).to_have_text(re.compile("Sign-in needed"))
        await until(lambda: watch.page.evaluate("window.sent > 20"))
        await expect(tracker.locator(".row")).to_have_count(0)


async def test_a_parent_outside_the_list_is_refused(
    tmp_path: Path, watch: Watch, host: tuple[str, dict[str, str]]
) -> None:
    origin, pages = host
    async with running(tmp_path, **instances("https://portal.acme.example")) as gateway:
        refused: list[str] = []
        watch.page.on("console", lambda message: refused.append(message.text))
        pages["/"] = frame_of(gateway)
        await watch.page.goto(origin + "/")

        async def said() -> bool:
            return any("frame-ancestors" in text for text in refused)

        await until(said)
        await expect(watch.page.frame_locator("#t").locator("live-tracker")).to_have_count(0)


async def test_the_element_lives_on_a_portals_own_page_and_asks_for_a_new_token(
    tmp_path: Path, watch: Watch, host: tuple[str, dict[str, str]]
) -> None:
    origin, pages = host
    async with running(tmp_path, **instances(origin)) as gateway:
        await fleet(gateway)
        pages["/"] = f"""<body style="height:700px;margin:0"><script>
          window.asked = 0; window.heard = []
          window.tokens = () => (window.asked++ === 0 ? 'expired' : '{gateway.token()}')
          for (const name of ['ready', 'select', 'share-created', 'auth-required'])
            addEventListener('tracker:' + name, (e) => window.heard.push(name + ' ' + JSON.stringify(e.detail)))
        </script><script type="module" src="{gateway.url}/live-tracker.js"></script>
        <live-tracker instance-id="{INSTANCE}" jwt-provider="tokens"></live-tracker>"""
        await watch.page.goto(origin + "/")
        await expect(row(watch.page, "van-7")).to_be_visible(timeout=20_000)
        assert await watch.page.evaluate("window.asked") >= 2
        await watch.page.wait_for_selector("live-tracker[data-map=ready]", timeout=MAP_READY)
        await row(watch.page, "van-7").click()
        await until(lambda: watch.page.evaluate("""window.heard.includes('select {"deviceToken":"van-7"}')"""))
        assert watch.errors == []


async def test_an_element_whose_token_stays_bad_tells_its_host(
    tmp_path: Path, watch: Watch, host: tuple[str, dict[str, str]]
) -> None:
    origin, pages = host
    async with running(tmp_path, **instances(origin)) as gateway:
        pages["/"] = f"""<body style="height:700px"><script>
          window.heard = []; window.tokens = () => 'bad'
          addEventListener('tracker:auth-required', () => window.heard.push('auth-required'))
        </script><script type="module" src="{gateway.url}/live-tracker.js"></script>
        <live-tracker instance-id="{INSTANCE}" jwt-provider="tokens"></live-tracker>"""
        await watch.page.goto(origin + "/")
        await until(lambda: watch.page.evaluate("window.heard.length > 0"))
        await expect(watch.page.locator(".banner")).to_have_text(re.compile("Your session has expired."))
