"""What the share page must keep to in every state: layout, languages, keyboard, axe, security."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, expect
from running import soak

from .kit import DESTINATION, STATION, Gateway, Watch, axe, open_map, running, state, until, watched

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SIZES = [(320, 568), (375, 667), (390, 844), (740, 360), (1280, 800)]
HOSTILE = '</script><img src=x onerror="window.__hacked=1"><b>bold</b>\u202e'
MEASURE = """
window.__lcp = 0
window.__cls = 0
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.element?.closest('#map')) window.__lcp = entry.startTime
}).observe({ type: 'largest-contentful-paint', buffered: true })
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.__cls += entry.value
}).observe({ type: 'layout-shift', buffered: true })
"""
BOXES = ["#brand", "#conn", "#in", "#out", "#fit", "#centre", "#panel", "#credit"]


@pytest.mark.parametrize("language", ["en-GB", "ar-EG"])
async def test_nothing_overlaps_or_overflows_at_any_size(gateway: Gateway, browser: Browser, language: str) -> None:
    session = await gateway.live_share()
    context = await browser.new_context(viewport={"width": 390, "height": 844}, locale=language)
    page = (await watched(context)).page
    await open_map(page, session["share_url"])
    await state(page, "live")
    assert await page.evaluate("document.documentElement.dir") == ("rtl" if language == "ar-EG" else "ltr")
    await gateway.push("van-7", *STATION, speed=None, heading=None)
    await expect(page.locator("#chips")).to_be_hidden()
    face, name = await page.evaluate(
        """() => ['#driver .avatar', '#driver strong'].map((place) => {
          const words = document.createRange()
          words.selectNode(document.querySelector(place).lastChild)
          const { x, width } = words.getBoundingClientRect()
          return { x, width }
        })"""
    )
    apart = max(face["x"], name["x"]) - min(face["x"] + face["width"], name["x"] + name["width"])
    assert 0 < apart < 40, "a name stands beside its picture, whatever it is written in"
    await gateway.push("van-7", *STATION)
    await expect(page.locator("#chips")).to_be_visible()
    for width, height in SIZES:
        await page.set_viewport_size({"width": width, "height": height})
        await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        shown = {box: await page.locator(box).bounding_box() for box in BOXES}
        boxes = {name: box for name, box in shown.items() if box is not None}
        for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
            apart = (
                a["x"] + a["width"] <= b["x"]
                or b["x"] + b["width"] <= a["x"]
                or a["y"] + a["height"] <= b["y"]
                or b["y"] + b["height"] <= a["y"]
            )
            assert apart, f"{one} and {other} overlap at {width}x{height}"
        credit = boxes["#credit"]
        assert credit["x"] >= 0
        assert credit["x"] + credit["width"] <= width
        assert 0 <= credit["y"] <= height - credit["height"]
    await context.close()


@pytest.mark.parametrize(
    ("language", "speed", "live"),
    [
        ("en-US", "22 mph", "Live"),
        ("en-GB", "22 mph", "Live"),
        ("de-DE", "36 km/h", "Live"),
        ("fr-FR", "36 km/h", "En direct"),
        ("es-ES", "36 km/h", "En vivo"),
        ("sk-SK", "36 km/h", "Naživo"),
        ("ar-EG", "٣٦ كم/س", "مباشر"),
    ],
)
async def test_units_and_words_are_the_readers(
    gateway: Gateway, browser: Browser, language: str, speed: str, live: str
) -> None:
    session = await gateway.live_share()
    context = await browser.new_context(locale=language)
    page = await context.new_page()
    await page.goto(session["share_url"])
    await state(page, "live")
    await expect(page.locator("#conn .text")).to_have_text(live)
    text = await page.locator("#speed b").inner_text()
    assert text.translate({0xA0: " ", 0x202F: " ", 0x200F: None}) == speed
    assert await page.evaluate("document.documentElement.lang") == language[:2]
    await context.close()


async def test_the_page_asks_its_own_host_alone_and_breaks_no_policy(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share()
    await open_map(watch.page, session["share_url"])
    await state(watch.page, "live")
    await watch.page.locator("#grip").click()
    await watch.page.locator("#centre").click()
    await gateway.session("POST", session, tail="/complete")
    await expect(watch.page.locator("#card-title")).to_be_visible()
    assert watch.hosts <= {gateway.url.removeprefix("http://")}
    assert watch.errors == []
    assert await watch.violations() == []


async def test_what_people_wrote_is_shown_as_text(gateway: Gateway, watch: Watch) -> None:
    await gateway.name("van-7", HOSTILE)
    await gateway.push("van-7", *STATION)
    session = await gateway.share(
        "van-7",
        destination={**DESTINATION, "label": HOSTILE},
        recipient_name=HOSTILE,
        notes=HOSTILE,
        order_id=HOSTILE,
    )
    await open_map(watch.page, session["share_url"])
    await state(watch.page, "live")
    await watch.page.locator("#grip").click()
    for place in ("#driver strong", "#note p", "#place .label", "#order bdi"):
        assert await watch.page.locator(place).text_content() == HOSTILE
    assert await watch.page.locator("#page img, #page b b").count() == 0
    assert await watch.page.evaluate("window.__hacked") is None
    assert await watch.violations() == []
    async with gateway.http.get(session["share_url"]) as answer:
        assert "onerror" not in await answer.text()


@pytest_asyncio.fixture(loop_scope="session")
async def foreign_tiles() -> AsyncIterator[tuple[str, list[str | None]]]:
    """A tile host of somebody else, and the Referer of each request to it."""
    referers: list[str | None] = []

    async def tile(request: web.Request) -> web.Response:
        referers.append(request.headers.get("Referer"))
        return web.Response(status=204, headers={"Access-Control-Allow-Origin": "*"})

    app = web.Application()
    app.add_routes([web.get("/{z}/{x}/{y}.png", tile)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://localhost:{runner.addresses[0][1]}", referers
    await runner.cleanup()


async def test_a_foreign_tile_host_sees_the_origin_and_never_the_link(
    tmp_path: Path, watch: Watch, foreign_tiles: tuple[str, list[str | None]]
) -> None:
    host, referers = foreign_tiles
    async with running(tmp_path, map={"basemap": f"raster:{host}/{{z}}/{{x}}/{{y}}.png"}) as gateway:
        session = await gateway.live_share()
        await watch.page.goto(session["share_url"])
        await until(lambda: _later(referers))
        assert set(referers) == {gateway.url + "/"}
        assert await watch.violations() == []


async def _later(found: list[Any]) -> bool:
    return bool(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_in_any_state(gateway: Gateway, browser: Browser, scheme: Any) -> None:
    context = await browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce"
    )
    page = (await watched(context)).page
    live = await gateway.live_share()
    await gateway.name("van-8", "Anna")
    waiting = await gateway.share("van-8", destination=DESTINATION)
    await gateway.push("van-9", *STATION, ago=300)
    stale = await gateway.share("van-9", destination=DESTINATION)

    async def check(what: str) -> None:
        assert await axe(page) == [], what

    await open_map(page, live["share_url"])
    await state(page, "live")
    await check("live")
    await page.locator("#grip").click()
    await check("details")
    await page.goto(waiting["share_url"])
    await state(page, "waiting")
    await check("waiting")
    await page.goto(stale["share_url"])
    await state(page, "stale")
    await check("stale")
    await gateway.session("POST", stale, tail="/complete")
    await expect(page.locator("#card-title")).to_have_text("Session ended")
    await check("ended")
    await page.goto(stale["share_url"])
    await check("gone")
    await page.goto(f"{gateway.url}/share/none")
    await check("not found")
    await context.close()


@pytest.mark.parametrize("options", [{"viewport": {"width": 1280, "height": 800}}])
async def test_everything_is_reached_by_tab_in_order(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share()
    await open_map(watch.page, session["share_url"])
    await state(watch.page, "live")
    order: list[str] = []
    for _ in range(12):
        await watch.page.keyboard.press("Tab")
        order.append(
            await watch.page.evaluate(
                "(document.activeElement.id || document.activeElement.className || document.activeElement.tagName)"
            )
        )
    wanted = ["skip", "maplibregl-canvas", "A", "in", "out", "fit", "centre"]
    kept = [name for name, _ in itertools.groupby(order) if name in wanted]
    assert kept[: len(wanted)] == wanted


async def test_the_sheet_opens_and_closes_by_key_and_by_drag(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share()
    await watch.page.goto(session["share_url"])
    await state(watch.page, "live")
    grip = watch.page.locator("#grip")
    await expect(watch.page.locator("#place")).to_be_hidden()
    await grip.focus()
    await watch.page.keyboard.press("Enter")
    await expect(grip).to_have_attribute("aria-expanded", "true")
    await expect(watch.page.locator("#place .label")).to_have_text(DESTINATION["label"])
    await expect(watch.page.locator("#order bdi")).to_have_text("ORD-2024-1234")
    box = await grip.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + 10
    await watch.page.mouse.move(x, y)
    await watch.page.mouse.down()
    await watch.page.mouse.move(x, y + 80, steps=5)
    await watch.page.mouse.up()
    await expect(grip).to_have_attribute("aria-expanded", "false")
    await expect(watch.page.locator("#place")).to_be_hidden()


async def test_the_live_region_speaks_of_states_and_not_of_seconds(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share()
    await watch.page.goto(session["share_url"])
    await state(watch.page, "live")
    await watch.page.evaluate(
        """() => { window.__spoken = 0; new MutationObserver((all) => (window.__spoken += all.length))
        .observe(document.getElementById('conn'), { childList: true, subtree: true, characterData: true }) }"""
    )
    for _ in range(3):
        await gateway.push("van-7", *STATION)
        await watch.page.wait_for_timeout(1100)
    assert await watch.page.evaluate("window.__spoken") == 0


async def test_the_text_is_there_soon_on_a_slow_phone(gateway: Gateway, browser: Browser) -> None:
    """Slow 4G (1.6 Mbit/s, 150 ms) and a CPU four times slower; the best of three visits, as machines are shared.

    The limit in milliseconds is judged in `make soak` alone, which has the machine for itself.
    """
    session = await gateway.live_share()
    best = {"lcp": float("inf"), "cls": float("inf")}
    for _ in range(3):
        context = await browser.new_context(viewport={"width": 390, "height": 844})
        page = await context.new_page()
        devtools = await context.new_cdp_session(page)
        await devtools.send("Network.enable")
        speed = 1.6e6 / 8
        await devtools.send(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 150, "downloadThroughput": speed, "uploadThroughput": speed},
        )
        await devtools.send("Emulation.setCPUThrottlingRate", {"rate": 4})
        await page.add_init_script(MEASURE)
        await page.goto(session["share_url"])
        await state(page, "live")
        best["lcp"] = min(best["lcp"], await page.evaluate("window.__lcp"))
        best["cls"] = min(best["cls"], await page.evaluate("window.__cls"))
        await context.close()
    assert 0 < best["lcp"] <= soak(60_000, 1_500), best
    assert best["cls"] <= 0.02, best
