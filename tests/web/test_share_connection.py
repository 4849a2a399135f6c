"""The share page's connection: drops, outages, ends, limits and many viewers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, expect

from waybridge.web import site

from .kit import FOR_AXE, Gateway, Watch, Wire, axe, open_map, running, state

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
FAST_MS = 60


async def test_the_end_wipes_the_page_and_leaves_one_dialog(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share()
    await open_map(watch.page, session["share_url"])
    await state(watch.page, "live")
    await gateway.session("POST", session, tail="/complete")
    await expect(watch.page.locator("#card-title")).to_have_text("Session ended")
    await expect(watch.page.locator("#card-text")).to_have_text(
        "The trip is complete. Live location is no longer shared."
    )
    assert await watch.page.title() == "Session ended"
    await expect(watch.page.locator(".puck")).to_have_count(0)
    await expect(watch.page.locator("canvas")).to_have_count(0)
    assert await watch.page.evaluate("document.activeElement.id") == "card"
    text = await watch.page.evaluate("document.documentElement.outerHTML.replace(/<script[^>]*>.*?<\\/script>/gs, '')")
    for secret in ("John Smith", "Jane", "ORD-2024", "Siltasaari", "Arriving", "package"):
        assert secret not in text
    sockets = len(watch.sockets)
    await watch.page.evaluate(
        "document.dispatchEvent(new Event('visibilitychange')); dispatchEvent(new Event('online'))"
    )
    await watch.page.wait_for_timeout(3000)
    assert len(watch.sockets) == sockets


@pytest.mark.parametrize(
    ("tail", "method", "words"),
    [("/complete", "POST", "The trip is complete."), ("", "DELETE", "Live location sharing was stopped.")],
)
async def test_a_link_that_is_over_says_so_with_its_status(
    gateway: Gateway, watch: Watch, tail: str, method: str, words: str
) -> None:
    session = await gateway.live_share()
    await gateway.session(method, session, tail=tail)
    answer = await watch.page.goto(session["share_url"])
    assert answer is not None
    assert answer.status == 410
    await expect(watch.page.locator("h1")).to_have_text("Session ended")
    await expect(watch.page.locator(".card p")).to_have_text(re.compile(words))


async def test_a_wrong_link_is_not_found(gateway: Gateway, watch: Watch) -> None:
    answer = await watch.page.goto(f"{gateway.url}/share/no-such-token")
    assert answer is not None
    assert answer.status == 404
    await expect(watch.page.locator("h1")).to_have_text("Link not found")


async def test_a_link_that_runs_out_while_open_says_so(gateway: Gateway, watch: Watch) -> None:
    session = await gateway.live_share(expires_in_hours=4 / 3600)
    await watch.page.goto(session["share_url"])
    await expect(watch.page.locator("#card-text")).to_have_text("This link has expired.", timeout=15_000)


@pytest_asyncio.fixture(loop_scope="session")
async def hasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A gateway whose pages reconnect fast, behind a wire that can be cut."""
    monkeypatch.setattr(site, "RECONNECT_MS", FAST_MS)
    async with running(tmp_path) as gateway:
        wire = Wire(int(gateway.url.rpartition(":")[2]))
        await wire.mend()
        yield gateway, wire
        await wire.cut()


def through(wire: Wire, session: dict[str, Any]) -> str:
    return f"http://127.0.0.1:{wire.port}/share/{session['share_token']}"


async def test_a_dropped_connection_comes_back_by_itself(hasty: tuple[Gateway, Wire], watch: Watch) -> None:
    gateway, wire = hasty
    session = await gateway.live_share()
    await watch.page.goto(through(wire, session))
    await state(watch.page, "live")
    await watch.page.evaluate(
        """() => { window.__states = []; const conn = document.getElementById('conn');
        new MutationObserver(() => window.__states.push(conn.dataset.state)).observe(conn, { attributes: true }) }"""
    )
    await wire.cut()
    await state(watch.page, "reconnecting")
    await wire.mend()
    await state(watch.page, "live")
    assert "lost" not in await watch.page.evaluate("window.__states")


@pytest.mark.parametrize("options", [FOR_AXE])
async def test_after_five_attempts_the_page_asks_and_try_again_recovers(
    hasty: tuple[Gateway, Wire], watch: Watch
) -> None:
    gateway, wire = hasty
    session = await gateway.live_share()
    await watch.page.goto(through(wire, session))
    await state(watch.page, "live")
    attempts: list[str] = []
    watch.page.on("requestfailed", lambda request: attempts.append(request.url))
    await wire.cut()
    await expect(watch.page.locator("#card-title")).to_have_text("Connection lost")
    assert len([url for url in attempts if "/api/v1/share/" in url]) == 5
    assert await watch.page.evaluate("document.getElementById('page').inert")
    assert await axe(watch.page) == []
    await wire.mend()
    await watch.page.get_by_role("button", name="Try again").click()
    await state(watch.page, "live")
    await expect(watch.page.locator("#veil")).to_be_hidden()


async def test_an_end_during_an_outage_is_learnt_when_the_connection_returns(
    hasty: tuple[Gateway, Wire], watch: Watch
) -> None:
    gateway, wire = hasty
    session = await gateway.live_share()
    await watch.page.goto(through(wire, session))
    await state(watch.page, "live")
    await wire.cut()
    await state(watch.page, "reconnecting")
    await gateway.session("DELETE", session)
    await wire.mend()
    await expect(watch.page.locator("#card-title")).to_have_text("Session ended")


async def test_the_page_says_when_the_phone_is_offline(gateway: Gateway, context: BrowserContext, watch: Watch) -> None:
    session = await gateway.live_share()
    await watch.page.goto(session["share_url"])
    await state(watch.page, "live")
    await context.set_offline(True)
    await state(watch.page, "offline")
    await context.set_offline(False)
    await state(watch.page, "live")


@pytest.mark.parametrize("options", [FOR_AXE])
async def test_too_many_requests_show_a_card_that_waits(tmp_path: Path, watch: Watch) -> None:
    async with running(tmp_path, limits={"public_requests_per_minute": 1}) as gateway:
        session = await gateway.live_share()
        await gateway.http.get(f"{gateway.url}/api/v1/share/{session['share_token']}")
        await watch.page.goto(session["share_url"])
        await expect(watch.page.locator("#card-title")).to_have_text("Too many requests")
        await expect(watch.page.locator("#card-wait")).to_have_text(re.compile(r"Trying again in \d+"))
        assert await axe(watch.page) == []


async def test_a_hundred_viewers_of_one_link_all_see_the_same(gateway: Gateway) -> None:
    session = await gateway.live_share()
    url = f"{gateway.url}/api/v1/share/{session['share_token']}/live"
    sockets = await asyncio.gather(*(gateway.http.ws_connect(url) for _ in range(100)))
    first = await asyncio.gather(*(socket.receive_json(timeout=10) for socket in sockets))
    assert {frame["type"] for frame in first} == {"position"}
    await gateway.push("van-7", 60.1710, 24.9420)

    async def moved(socket: Any) -> float:
        while (frame := await socket.receive_json(timeout=10))["latitude"] != 60.1710:
            pass
        return float(frame["longitude"])

    assert set(await asyncio.gather(*map(moved, sockets))) == {24.9420}
    await asyncio.gather(*(socket.close() for socket in sockets))
