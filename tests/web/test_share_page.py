"""The share page in a real browser against a real gateway: states, motion, camera, connection."""

from __future__ import annotations

import asyncio
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from .kit import (
    DESTINATION,
    FOR_AXE,
    STATION,
    Gateway,
    Watch,
    axe,
    centre_of,
    open_map,
    running,
    state,
    until,
    varied,
)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
FAST_MS = 60

# the puck's place on the map, each frame
RECORD_PUCK = """() => {
  window.__seen = []
  const puck = document.querySelector('.puck')
  const map = document.querySelector('#map canvas')
  const step = () => {
    const a = puck.getBoundingClientRect()
    const b = map.getBoundingClientRect()
    window.__seen.push([a.x - b.x, a.y - b.y])
    requestAnimationFrame(step)
  }
  step()
}"""
PUCK_RESTS = """() => {
  const seen = window.__seen
  const moved = seen.some(([x, y]) => Math.hypot(x - seen[0][0], y - seen[0][1]) > 5)
  const tail = seen.slice(-30)
  return moved && tail.length === 30 && tail.every(([x, y]) => x === tail[0][0] && y === tail[0][1])
}"""
# the context is given back a moment after it was lost, as a browser does
LOSE_AND_RESTORE = """async () => {
  const canvas = document.querySelector('#map canvas')
  const extension = canvas.getContext('webgl2').getExtension('WEBGL_lose_context')
  const event = (name) => new Promise((done) => canvas.addEventListener(name, () => done(), { once: true }))
  const gone = event('webglcontextlost')
  extension.loseContext()
  await gone
  await new Promise((done) => setTimeout(done, 200))
  const back = event('webglcontextrestored')
  extension.restoreContext()
  await back
}"""
HIDE_AND_SHOW = """() => {
  for (const hidden of [true, false]) {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })
    const state = hidden ? 'hidden' : 'visible'
    Object.defineProperty(document, 'visibilityState', { value: state, configurable: true })
    document.dispatchEvent(new Event('visibilitychange'))
  }
}"""


async def test_a_live_page_tells_arrival_driver_and_place(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share()
    await open_map(watch.page, session["share_url"])
    await state(watch.page, "live")
    await expect(watch.page.locator("#headline")).to_have_text(re.compile("Arriving"))
    await expect(watch.page.locator("#subline")).to_have_text(re.compile(r"Estimated arrival \d{1,2}:\d\d"))
    await expect(watch.page.locator("#driver strong")).to_have_text("John Smith")
    await expect(watch.page.locator("#note p")).to_have_text(re.compile("^Your package"))
    await expect(watch.page.locator(".puck")).to_have_count(1)
    await expect(watch.page.locator(".pin")).to_have_count(1)
    await expect(watch.page.locator("#brand .name")).to_have_text("Northwind Couriers")
    assert await watch.page.title() == "Live location · Northwind Couriers"
    assert watch.errors == []


async def test_the_marker_glides_in_small_steps_and_holds_at_the_last_fix(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share(share_config={"update_interval_seconds": 5})
    await open_map(watch.page, session["share_url"])
    await state(watch.page, "live")
    await watch.page.evaluate(RECORD_PUCK)
    await gateway.push("van-7", STATION[0] + 0.0004, STATION[1] + 0.0004, heading=45)

    async def at_rest() -> bool:
        return bool(await watch.page.evaluate(PUCK_RESTS))

    await until(at_rest, seconds=30)
    seen: list[list[float]] = await watch.page.evaluate("window.__seen")
    distinct = [point for before, point in itertools.pairwise(seen) if point != before]
    steps = [((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5 for a, b in itertools.pairwise(seen)]
    assert len(distinct) >= 30
    assert max(steps) < 3


async def test_the_arrow_turns_and_becomes_a_dot_when_the_vehicle_stands(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share()
    await open_map(watch.page, session["share_url"])
    await watch.page.wait_for_selector(".puck:not(.is-dot)")
    await gateway.push("van-7", *STATION, speed=0.0)
    await watch.page.wait_for_selector(".puck.is-dot")
    await expect(watch.page.locator("#speed b")).to_have_text("Stopped")


@pytest.mark.parametrize("hidden", ["show_speed", "show_heading", "show_eta", "show_destination_on_map"])
async def test_what_the_sender_hides_is_nowhere(gateway: Gateway, watch: Watch, hidden: str) -> None:
    frames: list[str] = []
    watch.page.on("websocket", lambda ws: ws.on("framereceived", lambda data: frames.append(str(data))))
    session = await gateway.live_share(share_config={hidden: False, "update_interval_seconds": 1})
    await open_map(watch.page, session["share_url"])
    await state(watch.page, "live")
    await until(lambda: asyncio.sleep(0, bool(frames)))
    rest = await gateway.call("GET", f"/api/v1/share/{session['share_token']}")
    async with gateway.http.get(session["share_url"]) as answer:
        html = await answer.text()
    for place in (html, "".join(frames)):
        assert DESTINATION["label"] not in place
    frame = re.sub(r"\s", "", frames[0])
    match hidden:
        case "show_speed":
            assert rest["driver"]["speed"] is None
            assert '"speed":null' in frame
            await expect(watch.page.locator("#speed")).to_be_hidden()
        case "show_heading":
            assert rest["driver"]["heading"] is None
            assert '"heading":null' in frame
            await expect(watch.page.locator("#heading")).to_be_hidden()
        case "show_eta":
            assert rest["eta_seconds"] is None
            assert '"eta_seconds":null' in frame
            await expect(watch.page.locator("#headline")).to_have_text("Live location")
        case _:
            assert rest["destination"] is None
            await expect(watch.page.locator(".pin")).to_have_count(0)
            await expect(watch.page.locator("#place")).to_be_hidden()
            await expect(watch.page.locator("#fit")).to_be_hidden()


async def test_without_destination_the_page_follows_the_driver_by_name(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share(destination=None)
    await watch.page.goto(session["share_url"])
    await state(watch.page, "live")
    await expect(watch.page.locator("#headline")).to_have_text("Live location")
    await expect(watch.page.locator("#subline")).to_have_text("Follow John Smith on the map")


async def test_arriving_now_close_to_the_destination(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share(destination={"latitude": STATION[0], "longitude": STATION[1], "label": "Here"})
    await watch.page.goto(session["share_url"])
    await expect(watch.page.locator("#headline")).to_have_text("Arriving now")


async def test_a_change_by_the_sender_is_seen_at_once(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share()
    await open_map(watch.page, session["share_url"])
    await state(watch.page, "live")
    await gateway.session("PATCH", session, {"notes": "Ring twice.", "share_config": {"show_speed": False}})
    await expect(watch.page.locator("#note p")).to_have_text("Ring twice.")
    await expect(watch.page.locator("#speed")).to_be_hidden()
    await gateway.session("PATCH", session, {"destination": None})
    await expect(watch.page.locator(".pin")).to_have_count(0)


async def test_a_device_that_never_reported_shows_where_it_will_come(gateway: Gateway, watch: Watch) -> None:
    await gateway.name("van-9", "Anna")
    session = await gateway.share("van-9", destination=DESTINATION)
    await open_map(watch.page, session["share_url"])
    await state(watch.page, "waiting")
    await expect(watch.page.locator("#headline")).to_have_text("Waiting for location")
    await expect(watch.page.locator(".pin")).to_have_count(1)
    await expect(watch.page.locator(".puck")).to_have_count(0)
    await gateway.push("van-9", *STATION)
    await state(watch.page, "live")
    await expect(watch.page.locator(".puck")).to_have_count(1)


async def test_an_old_position_is_grey_and_says_its_age_until_the_next_fix(gateway: Gateway, watch: Watch) -> None:
    await gateway.name("van-7", "John Smith")
    await gateway.push("van-7", *STATION, ago=240)
    session = await gateway.share("van-7", destination=DESTINATION, share_config={"update_interval_seconds": 1})
    await open_map(watch.page, session["share_url"])
    await state(watch.page, "stale")
    await expect(watch.page.locator("#conn .text")).to_have_text("Signal lost")
    await expect(watch.page.locator("#driver .seen")).to_have_text(re.compile(r"Last seen 4"))
    await expect(watch.page.locator(".puck.is-stale")).to_have_count(1)
    await expect(watch.page.locator("#chips")).to_be_hidden()
    assert "Arriving" not in await watch.page.locator("#headline").inner_text()
    await gateway.push("van-7", *STATION)
    await state(watch.page, "live", seconds=10)
    await expect(watch.page.locator(".puck.is-stale")).to_have_count(0)


async def test_dragging_stops_following_and_the_button_brings_the_driver_back(gateway: Gateway, watch: Watch) -> None:
    page = watch.page
    session = await gateway.live_share()
    await open_map(page, session["share_url"])
    await expect(page.locator("#centre")).to_have_attribute("aria-pressed", "true")
    await page.mouse.move(150, 250)
    await page.mouse.down()
    await page.mouse.move(250, 420, steps=8)
    await page.mouse.up()
    await expect(page.locator("#centre")).to_have_attribute("aria-pressed", "false")
    before = await centre_of(page, ".puck")
    await gateway.push("van-7", STATION[0] + 0.0002, STATION[1])
    await page.locator("#centre").click()
    await expect(page.locator("#centre")).to_have_attribute("aria-pressed", "true")
    panel = await page.locator("#panel").bounding_box()
    assert panel is not None
    middle = (195.0, (64 + panel["y"] - 34) / 2)

    async def centred() -> bool:
        x, y = await centre_of(page, ".puck")
        return abs(x - middle[0]) < 25 and abs(y - middle[1]) < 45

    await until(centred)
    assert before != await centre_of(page, ".puck")


@pytest.mark.parametrize("options", [{"reduced_motion": "reduce"}])
async def test_reduced_motion_snaps_and_has_no_halo(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share(share_config={"update_interval_seconds": 5})
    await open_map(watch.page, session["share_url"])
    await state(watch.page, "live")
    await expect(watch.page.locator(".puck-halo")).to_be_hidden()
    await watch.page.evaluate(
        """() => { window.__places = new Set(); const puck = document.querySelector('.puck');
        const step = () => { window.__places.add(puck.style.transform); requestAnimationFrame(step) }; step() }"""
    )
    await gateway.push("van-7", STATION[0] + 0.0004, STATION[1] + 0.0004)
    await until(lambda: watch.page.evaluate("window.__places.size === 2"))
    await watch.page.wait_for_timeout(1500)
    assert await watch.page.evaluate("window.__places.size") == 2


async def test_the_map_survives_a_lost_context_and_a_dead_worker(gateway: Gateway, watch: Watch) -> None:
    page = watch.page
    session = await gateway.live_share()
    await open_map(page, session["share_url"])
    await page.evaluate(LOSE_AND_RESTORE)
    await until(lambda: varied(page))
    workers = list(page.workers)
    assert workers
    started: list[Any] = []
    page.on("worker", lambda worker: started.append(worker))  # noqa: PLW0108 - a builtin takes no attributes
    for worker in workers:
        await worker.evaluate("self.close()")
    await page.evaluate(HIDE_AND_SHOW)
    await until(lambda: asyncio.sleep(0, bool(started)), seconds=30)
    assert watch.errors == []


@pytest.mark.parametrize("options", [FOR_AXE | {"viewport": {"width": 740, "height": 360}}])
async def test_a_browser_without_webgl_keeps_telling_and_offers_its_own_maps(gateway: Gateway, watch: Watch) -> None:
    await watch.page.add_init_script(
        "const own = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext ="
        " function (kind, ...more) { return kind === 'webgl2' ? null : own.call(this, kind, ...more) }"
    )
    session = await gateway.live_share()
    await watch.page.goto(session["share_url"])
    await watch.page.wait_for_selector("html[data-map=failed]")
    await expect(watch.page.locator("#nomap span")).to_have_text("The map cannot be shown on this browser.")
    await expect(watch.page.locator("#nomap a")).to_have_attribute("href", re.compile(r"^geo:60\.17\d*,24\.941"))
    await expect(watch.page.locator("#tools")).to_be_hidden()
    words, panel = await watch.page.locator("#nomap").bounding_box(), await watch.page.locator("#panel").bounding_box()
    assert words is not None
    assert panel is not None
    assert words["x"] >= panel["x"] + panel["width"]
    assert await axe(watch.page) == []
    await gateway.push("van-7", *STATION, speed=20.0)
    await expect(watch.page.locator("#speed b")).to_have_text(re.compile("45"))
    assert watch.errors == []


@pytest.mark.parametrize("options", [{"java_script_enabled": False}])
async def test_without_a_script_the_page_says_what_it_needs(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share()
    await watch.page.goto(session["share_url"])
    await expect(watch.page.locator(".noscript")).to_have_text(re.compile("needs JavaScript"))


async def test_a_bare_map_for_embedding_has_no_sheet(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share()
    await open_map(watch.page, session["share_url"] + "?embed=map")
    await expect(watch.page.locator("#panel")).to_be_hidden()
    await expect(watch.page.locator("#brand")).to_be_hidden()
    await expect(watch.page.locator(".puck")).to_be_visible()
    await expect(watch.page.locator("#credit")).to_be_visible()


async def test_the_built_in_world_draws_a_grid_and_a_scale_at_street_zoom(tmp_path: Path, watch: Watch) -> None:
    async with running(tmp_path, map={"basemap": "builtin"}) as gateway:
        session = await gateway.live_share()
        await open_map(watch.page, session["share_url"])
        await expect(watch.page.locator("#scale")).to_be_visible()
        await expect(watch.page.locator("#scale span")).to_have_text(re.compile(r"\d+\s?(ft|mi)"))
        await expect(watch.page.locator("#credit")).to_have_text(re.compile("Natural Earth.*GeoNames"))
