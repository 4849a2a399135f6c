"""The embedded tracker in a real browser against a real gateway: fleet, share form, links, embedding."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from .kit import INSTANCE, MAP_READY, STATION, Gateway, Watch, axe, fleet, open_tracker, row, running, until, watched

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

DESK = {"viewport": {"width": 1280, "height": 800}}


@pytest.fixture
def options() -> dict[str, Any]:
    return DESK


async def open_drawer(page: Page, device: str = "van-7") -> None:
    await row(page, device).click()
    await page.locator("#share").click()
    await expect(page.locator("share-drawer h3")).to_be_visible()


async def test_the_list_fills_and_follows(gateway: Gateway, watch: Watch) -> None:
    await fleet(gateway)
    await open_tracker(watch.page, gateway)
    await expect(watch.page.locator(".conn")).to_have_attribute("data-state", "live")
    await expect(watch.page.locator(".row b")).to_have_text(["Bike 3", "Van 7", "Van 12"])
    await expect(row(watch.page, "van-7").locator(".speed")).to_have_text(re.compile("22"))
    await gateway.push("van-7", *STATION, speed=20.0)
    await expect(row(watch.page, "van-7").locator(".speed")).to_have_text(re.compile("45"))
    await gateway.push("van-99", *STATION)
    await expect(row(watch.page, "van-99")).to_be_visible()
    assert "token=" not in watch.page.url
    assert watch.hosts <= {gateway.url.removeprefix("http://")}
    assert await watch.violations() == []
    assert watch.errors == []


async def test_search_narrows_and_says_when_nothing_matches(gateway: Gateway, watch: Watch) -> None:
    await fleet(gateway)
    await open_tracker(watch.page, gateway)
    search = watch.page.get_by_role("searchbox")
    await search.fill("van 1")
    await expect(watch.page.locator(".row b")).to_have_text(["Van 12"])
    await search.fill("lorry")
    await expect(watch.page.locator(".empty")).to_have_text("No device matches your search.")


async def test_an_empty_fleet_says_what_it_waits_for(gateway: Gateway, watch: Watch) -> None:
    await open_tracker(watch.page, gateway)
    await expect(watch.page.locator(".empty")).to_have_text(re.compile("Waiting for the first position"))


async def test_an_old_position_is_told_as_old(gateway: Gateway, watch: Watch) -> None:
    await gateway.name("van-7", "Van 7")
    await gateway.push("van-7", *STATION, ago=600)
    await open_tracker(watch.page, gateway)
    await expect(row(watch.page, "van-7").locator("small")).to_have_text(re.compile(r"Last seen 1\d"))


async def test_a_row_opens_a_card_that_stays_where_it_is(gateway: Gateway, watch: Watch) -> None:
    await fleet(gateway)
    await open_tracker(watch.page, gateway)
    await row(watch.page, "van-7").click()
    card = watch.page.locator(".card")
    await expect(card.locator("h3")).to_have_text("Van 7")
    await expect(card.locator("dd")).to_have_text([re.compile("22"), "E", "just now"])
    before = await card.bounding_box()
    await gateway.push("van-7", STATION[0] + 0.001, STATION[1])
    await expect(row(watch.page, "van-7")).to_have_attribute("aria-current", "true")
    assert await card.bounding_box() == before
    await card.get_by_role("button", name="Close").click()
    await expect(card).to_have_count(0)


async def test_a_marker_can_be_clicked(gateway: Gateway, watch: Watch) -> None:
    await gateway.name("van-7", "Van 7")
    await gateway.push("van-7", *STATION)
    await open_tracker(watch.page, gateway)
    stage = await watch.page.locator(".stage").bounding_box()
    assert stage is not None
    # the only device stands in the middle of the first view
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2

    async def opened() -> bool:
        await watch.page.mouse.click(x, y)
        return await watch.page.locator(".card").count() == 1

    await until(opened, seconds=30)


async def test_a_link_is_made_with_everything_and_can_be_opened(
    gateway: Gateway, watch: Watch, context: BrowserContext
) -> None:
    page = watch.page
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    await fleet(gateway)
    await open_tracker(page, gateway)
    await open_drawer(page)
    await expect(page.locator("share-drawer h2")).to_have_text("Share Van 7")
    await expect(page.locator("[name=show_eta]")).to_be_disabled()
    await page.locator("#recipient").fill("Jane Doe")
    await page.locator("#order").fill("ORD-2024-1234")
    await page.locator("#notes").fill("Ring twice.")
    await page.locator("#hours").select_option("4")
    await page.locator("#label").fill("123 Main Street")
    await page.locator("#set-pin").click()
    await expect(page.locator(".pin")).to_be_visible()
    await page.mouse.click(600, 300)
    await expect(page.locator("[name=show_eta]")).to_be_enabled()
    await page.locator("[name=show_speed]").uncheck()
    await page.locator("#create").click()
    await expect(page.locator(".ready")).to_have_text(re.compile("Link ready"))
    url = await page.locator("#url").input_value()
    assert url.startswith(f"{gateway.url}/share/")
    await page.locator("#copy").click()
    await expect(page.locator("#copy")).to_have_text(re.compile("Copied"))
    assert await page.evaluate("navigator.clipboard.readText()") == url
    await expect(page.locator("share-drawer h3")).to_have_text("Active links (1 of 10)")
    await expect(page.locator("share-drawer li b")).to_have_text("Jane Doe")
    await expect(page.locator("share-drawer li small")).to_have_text(re.compile(r"ORD-2024-1234 · expires in 4"))
    made = (await gateway.call("GET", f"/api/v1/sharing/sessions?instance_id={INSTANCE}"))["sessions"][0]
    assert made["notes"] == "Ring twice."
    assert made["destination"]["label"] == "123 Main Street"
    assert made["share_config"]["show_speed"] is False
    assert made["share_config"]["show_eta"] is True
    assert made["expires_at"] - made["created_at"] == 4 * 3600
    viewer = await context.new_page()
    await viewer.goto(url)
    await viewer.wait_for_selector("#conn[data-state=live]")
    assert await watch.violations() == []
    assert watch.errors == []


async def test_without_the_clipboard_permission_copying_works_all_the_same(gateway: Gateway, watch: Watch) -> None:
    await watch.page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    await watch.page.add_init_script(
        "window.__copied = []; document.addEventListener('copy', () => window.__copied.push(String(getSelection())))"
    )
    await fleet(gateway)
    await open_tracker(watch.page, gateway)
    await open_drawer(watch.page)
    await watch.page.locator("#create").click()
    await watch.page.locator("#copy").click()
    await expect(watch.page.locator("#copy")).to_have_text(re.compile("Copied"))
    assert len(await watch.page.evaluate("window.__copied")) == 1


async def test_ending_a_link_ends_it_at_once_and_says_so(
    gateway: Gateway, watch: Watch, context: BrowserContext
) -> None:
    session = await gateway.live_share()
    viewer = await context.new_page()
    await viewer.goto(session["share_url"])
    await viewer.wait_for_selector("#conn[data-state=live]")
    await open_tracker(watch.page, gateway)
    await open_drawer(watch.page)
    await watch.page.get_by_role("button", name="End the link of Jane").click()
    await expect(watch.page.locator(".status")).to_have_text("The link of Jane has ended.")
    await expect(watch.page.locator("share-drawer .none")).to_have_text("No active links for this device.")
    await expect(viewer.locator("#card-text")).to_have_text("Live location sharing was stopped.")


async def test_the_eleventh_link_is_refused_kindly(gateway: Gateway, watch: Watch) -> None:
    await fleet(gateway)
    for number in range(9):
        await gateway.share("van-7", recipient_name=f"Reader {number}")
    await open_tracker(watch.page, gateway)
    await open_drawer(watch.page)
    await expect(watch.page.locator("share-drawer h3")).to_have_text("Active links (9 of 10)")
    await gateway.share("van-7", recipient_name="Reader 9")  # somebody else was faster
    await watch.page.locator("#create").click()
    await expect(watch.page.locator("#problem")).to_have_text("10 active links is the maximum. End one first.")
    await expect(watch.page.locator("share-drawer h3")).to_have_text("Active links (10 of 10)")
    await expect(watch.page.locator("#create")).to_be_disabled()
    await watch.page.get_by_role("button", name="End the link of Reader 3").click()
    await expect(watch.page.locator("#create")).to_be_enabled()


async def test_escape_closes_the_form_and_focus_goes_back(gateway: Gateway, watch: Watch) -> None:
    await fleet(gateway)
    await open_tracker(watch.page, gateway)
    await open_drawer(watch.page)
    await watch.page.locator("#recipient").focus()
    await watch.page.keyboard.press("Escape")
    await expect(watch.page.locator("share-drawer")).to_have_count(0)
    await expect(watch.page.locator("#share")).to_be_focused()


async def test_a_token_that_may_only_read_is_told_so(gateway: Gateway, watch: Watch) -> None:
    await fleet(gateway)
    await open_tracker(watch.page, gateway, token=gateway.token("read"))
    await open_drawer(watch.page)
    await watch.page.locator("#create").click()
    await expect(watch.page.locator("#problem")).to_have_text("Your access does not allow this.")


@pytest.mark.parametrize("token", ["nonsense", "a.b.c"])
async def test_a_bad_token_says_that_the_session_has_expired(gateway: Gateway, watch: Watch, token: str) -> None:
    await watch.page.goto(f"{gateway.url}/embed/tracker?instance_id={INSTANCE}#token={token}")
    await expect(watch.page.locator(".banner")).to_have_text(re.compile("Your session has expired."))


async def test_without_a_token_it_says_who_has_to_send_one(gateway: Gateway, watch: Watch) -> None:
    await watch.page.goto(f"{gateway.url}/embed/tracker?instance_id={INSTANCE}")
    await expect(watch.page.locator(".empty")).to_have_text(re.compile("Sign-in needed"))


async def test_the_operator_is_told_how_to_get_streets(tmp_path: Path, watch: Watch) -> None:
    async with running(tmp_path, map={"basemap": "builtin"}) as gateway:
        await fleet(gateway)
        await open_tracker(watch.page, gateway)
        await expect(watch.page.locator(".hint")).to_have_text(re.compile(r"map\.basemap"))
        session = await gateway.live_share()
        await watch.page.goto(session["share_url"])
        await watch.page.wait_for_selector("html[data-map=ready]", timeout=MAP_READY)
        assert "basemap" not in await watch.page.locator("body").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_in_the_tracker(gateway: Gateway, browser: Browser, scheme: Any) -> None:
    context = await browser.new_context(**DESK, color_scheme=scheme, bypass_csp=True)
    page = (await watched(context)).page
    await fleet(gateway)
    await gateway.share("van-7", recipient_name="Jane")
    await open_tracker(page, gateway)
    assert await axe(page) == []
    await row(page, "van-7").click()
    assert await axe(page) == []
    await page.locator("#share").click()
    await expect(page.locator("share-drawer li")).to_have_count(1)
    assert await axe(page) == []
    await page.locator("#create").click()
    await expect(page.locator(".ready")).to_be_visible()
    assert await axe(page) == []
    await context.close()
