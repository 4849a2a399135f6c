"""The share page over vendors whose rules show: a booking's journey, and consent that is taken back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from waybridge_imessage.simulator import LinqSimulator

from .kit import INSTANCE, STATION, Gateway, Watch, open_map, running, state, until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

BOOKING = "C-1/B-1"
PICKUP = {"latitude": 60.1710, "longitude": 24.9450, "label": "Central Station"}
DROPOFF = {"latitude": 60.1764, "longitude": 24.9466, "label": "Siltasaarenkatu 4"}
HANDLE = "+358401234567"
WEBHOOK_SECRET = "whsec_dGVzdHMtc2VjcmV0LXRlc3RzLXNlY3JldC10ZXN0czE="


class Taxi:
    """A supplier who sends one booking's events to the gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._at = datetime.now(UTC) - timedelta(minutes=5)

    async def book(self) -> str:
        body = {
            "assigned_at": self._at.isoformat(),
            "driver": {"firstName": "Ann", "lastName": "Lee"},
            "pickup": PICKUP,
            "dropoff": DROPOFF,
        }
        answer = await self._gateway.call("PUT", f"/ingest/taxi/v1/bookings/{BOOKING}", body)
        return str(answer["device_token"])

    async def says(self, kind: str, place: tuple[float, float] = STATION, *, now: bool = False) -> None:
        self._at += timedelta(seconds=1)
        at = datetime.now(UTC) if now else self._at
        body = {
            "event_type": f"DRIVER_{kind}",
            "occurred_at": at.isoformat(),
            "latitude": place[0],
            "longitude": place[1],
        }
        await self._gateway.call("POST", f"/ingest/taxi/v1/bookings/{BOOKING}/driver/events", body)


@pytest_asyncio.fixture(loop_scope="session")
async def taxi(tmp_path: Path) -> AsyncIterator[tuple[Gateway, Taxi]]:
    connection = {"id": "taxi", "provider": "driver_events", "instance_id": INSTANCE}
    settings = {"complete_shares": False}
    async with running(tmp_path, connections=[{**connection, "settings": settings}]) as gateway:
        yield gateway, Taxi(gateway)


async def test_a_booking_is_shown_as_the_customers_journey(taxi: tuple[Gateway, Taxi], watch: Watch) -> None:
    gateway, supplier = taxi
    page = watch.page
    session = await gateway.share(await supplier.book(), share_config={"update_interval_seconds": 1})
    await open_map(page, session["share_url"])
    await state(page, "waiting")
    headline, current = page.locator("#headline"), page.locator("#journey [aria-current=step]")
    await supplier.says("DEPARTED_TO_PICKUP")
    await expect(headline).to_have_text("On the way to you")
    await expect(current).to_have_text("On the way")
    await supplier.says("LIVE_LOCATION", now=True)
    await state(page, "live")
    await expect(page.locator(".puck")).to_have_count(1)
    await expect(headline).to_have_text(re.compile("Arriving"))
    await page.locator("#grip").click()
    await expect(page.locator("#place small")).to_have_text("Pickup point")
    await expect(page.locator("#place .label")).to_have_text("Central Station")
    await supplier.says("ARRIVED_AT_PICKUP")
    await expect(headline).to_have_text("Your driver is here")
    await expect(page.locator("#subline")).to_have_text("Please meet Ann Lee at the pickup point.")
    await supplier.says("DEPARTED_TO_DROPOFF")
    await expect(current).to_have_text("On the trip")
    await expect(page.locator("#place .label")).to_have_text("Siltasaarenkatu 4")
    await supplier.says("ARRIVED_AT_DROPOFF")
    await expect(headline).to_have_text("You have arrived")
    await expect(page.locator(".puck")).to_have_count(0)
    assert watch.errors == []


async def test_a_no_show_is_said_kindly_and_hides_the_driver(taxi: tuple[Gateway, Taxi], watch: Watch) -> None:
    gateway, supplier = taxi
    session = await gateway.share(await supplier.book())
    for kind in ("DEPARTED_TO_PICKUP", "ARRIVED_AT_PICKUP"):
        await supplier.says(kind)
    await watch.page.goto(session["share_url"])
    await expect(watch.page.locator("#headline")).to_have_text("Your driver is here")
    await supplier.says("SUBMITTED_CUSTOMER_NO_SHOW")
    await expect(watch.page.locator("#headline")).to_have_text("Marked as no-show")
    await expect(watch.page.locator("#journey")).to_be_hidden()


async def test_who_takes_consent_back_vanishes_from_the_map(tmp_path: Path, watch: Watch) -> None:
    linq = LinqSimulator(api_key="simulated-key")
    address = await linq.start()
    chat = linq.add_chat(HANDLE)
    settings: dict[str, Any] = {
        "api_key": "simulated-key",
        "base_url": address,
        "chats": [chat],
        "poll_interval_seconds": 1,
        "webhook_signing_secret": WEBHOOK_SECRET,
    }
    connection = {"id": "chats", "provider": "imessage", "instance_id": INSTANCE, "settings": settings}
    linq.share(chat, HANDLE, *STATION)
    async with running(tmp_path, connections=[connection]) as gateway:
        linq.subscribe(f"{gateway.url}/ingest/chats/webhook", secret=WEBHOOK_SECRET)

        async def known() -> Any:
            query = f"instance_id={INSTANCE}&connection_id=chats&external_id=%2B358401234567"
            found = (await gateway.call("GET", f"/api/v1/devices?{query}"))["devices"]
            return [each for each in found if each["position"] is not None]

        device = (await until(known))[0]["device_token"]
        session = await gateway.share(device, share_config={"update_interval_seconds": 1})
        await open_map(watch.page, session["share_url"])
        await state(watch.page, "live")
        await expect(watch.page.locator(".puck")).to_have_count(1)
        await expect(watch.page.locator("#driver strong")).to_have_text("Your driver")
        assert HANDLE not in await watch.page.content()
        linq.stop_sharing(HANDLE)
        await expect(watch.page.locator("#headline")).to_have_text("Location not shared", timeout=20_000)
        await expect(watch.page.locator(".puck")).to_have_count(0)
        await state(watch.page, "paused")
    await linq.stop()
