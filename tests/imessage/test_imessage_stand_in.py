"""The stand-in against the vendor's own client and pages, and our receiver's signatures against theirs."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import linq as vendor_sdk
import pytest
from aiohttp import web
from linq import AsyncLinqAPIV3

from waybridge_imessage.simulator import LinqSimulator
from waybridge_imessage.simulator_command import STROLL, along, parse_faults, run
from waybridge_imessage.wire import normalise_handle, parse_error, parse_reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ANNA = "+14155550101"
NOW = datetime(2026, 4, 12, 13, 20, tzinfo=UTC)


@pytest.fixture
async def linq() -> AsyncIterator[LinqSimulator]:
    async with LinqSimulator(retry_delays=()) as made:
        yield made


@pytest.fixture
async def sdk(linq: LinqSimulator) -> AsyncIterator[AsyncLinqAPIV3]:
    """The vendor's client, strict: every field of every answer is validated."""
    async with AsyncLinqAPIV3(
        api_key=linq.api_key, base_url=linq.base_url, max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


async def test_the_vendors_client_asks_and_reads(linq: LinqSimulator, sdk: AsyncLinqAPIV3) -> None:
    chat = linq.add_chat(ANNA)
    answer = await sdk.chats.location.request(chat)
    assert (answer.success, answer.message) == (True, "Location request sent")
    empty = await sdk.chats.location.retrieve(chat)
    assert empty.data.features == []

    linq.share(chat, ANNA, 60.17, 24.94, address="Mannerheimintie 1", locality="Helsinki")

    read = await sdk.chats.location.retrieve(chat)
    [feature] = read.data.features
    assert (feature.geometry.coordinates, feature.properties.handle) == ([24.94, 60.17], ANNA)
    assert (await sdk.chats.retrieve(chat)).handles[1].handle == ANNA
    stopped = await sdk.chats.location.stop(chat, handle=ANNA)
    assert stopped.success
    assert (await sdk.chats.location.retrieve(chat)).data.features == []


async def test_the_vendors_client_sees_the_vendors_errors(linq: LinqSimulator, sdk: AsyncLinqAPIV3) -> None:
    group = linq.add_chat(ANNA, "+14155550102")
    with pytest.raises(vendor_sdk.ConflictError) as conflict:
        await sdk.chats.location.request(group)
    assert conflict.value.code == 2016
    assert len(conflict.value.response.headers["X-Trace-ID"]) == 32
    chat = linq.add_chat(ANNA)
    await sdk.chats.location.request(chat)
    with pytest.raises(vendor_sdk.RateLimitError) as limited:
        await sdk.chats.location.request(chat)
    assert limited.value.retry_after == int(limited.value.response.headers["Retry-After"])
    with pytest.raises(vendor_sdk.NotFoundError):
        await sdk.chats.location.retrieve("a/../b c")


async def test_the_vendors_client_manages_subscriptions(linq: LinqSimulator, sdk: AsyncLinqAPIV3) -> None:
    made = await sdk.webhook_subscriptions.create(
        target_url="https://example.com/hook?line=1", subscribed_events=["location.sharing.started"]
    )
    assert made.signing_secret.startswith("whsec_")
    assert [one.id for one in (await sdk.webhook_subscriptions.list()).subscriptions] == [made.id]
    changed = await sdk.webhook_subscriptions.update(made.id, is_active=False)
    assert not changed.is_active
    await sdk.webhook_subscriptions.delete(made.id)
    with pytest.raises(vendor_sdk.NotFoundError):
        await sdk.webhook_subscriptions.retrieve(made.id)
    events = await sdk.webhook_events.list()
    assert "location.sharing.stopped" in events.events


async def test_the_vendors_client_unwraps_what_the_stand_in_signs(linq: LinqSimulator, sdk: AsyncLinqAPIV3) -> None:
    secret = linq.subscribe("http://127.0.0.1:1/nobody-listens")
    chat = linq.add_chat(ANNA)
    linq.share(chat, ANNA, 60.17, 24.94, seconds=3600)
    linq.stop_sharing(ANNA)
    await linq.delivered()
    assert len(linq.attempts) == 2
    by_type = {}
    for attempt in linq.attempts:
        event = sdk.webhooks.unwrap(attempt["body"], headers=attempt["headers"], key=secret)
        by_type[event.event_type] = event
    started, stopped = by_type["location.sharing.started"], by_type["location.sharing.stopped"]
    assert (started.data.shared_by, started.data.shared_with, started.data.chat_id) == (ANNA, linq.line, chat)
    assert (started.data.ends_at - started.data.began_at).total_seconds() == 3600
    assert stopped.data.began_at == started.data.began_at
    assert started.data.began_at <= stopped.data.ended_at


async def test_webhooks_are_tried_again_after_a_5xx_and_never_after_a_4xx() -> None:
    statuses = iter([503, 429, 200, 404])
    seen: list[str] = []

    async def take(request: web.Request) -> web.Response:
        seen.append(request.headers["webhook-id"])
        return web.Response(status=next(statuses))

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with LinqSimulator(retry_delays=(0, 0, 0, 0)) as linq:
        linq.subscribe(f"http://127.0.0.1:{runner.addresses[0][1]}/hook")
        first = linq.send("location.sharing.started", {})
        await linq.delivered()
        second = linq.send("location.sharing.stopped", {})
        await linq.delivered()
    await runner.cleanup()
    assert seen == [first, first, first, second]


def test_the_parser_reads_the_literal_example_of_the_vendors_page() -> None:
    body = json.dumps(
        {
            "success": True,
            "data": {
                "type": "FeatureCollection",
                "features": [
                    {
                        "type": "Feature",
                        "geometry": {"type": "Point", "coordinates": [-122.4194, 37.7749, 16.0]},
                        "properties": {
                            "handle": "+14155551234",
                            "address": "1 Market St, San Francisco, CA 94105",
                            "locality": "San Francisco",
                            "updated_at": "2026-04-12T13:19:30Z",
                        },
                    }
                ],
            },
        }
    ).encode()
    reading = parse_reading(body, NOW)
    feature = reading.features["+14155551234"]
    assert (feature.latitude, feature.longitude, feature.altitude_m) == (37.7749, -122.4194, 16.0)
    assert (feature.locality, feature.updated_at) == ("San Francisco", datetime(2026, 4, 12, 13, 19, 30, tzinfo=UTC))
    assert parse_reading(json.dumps(json.loads(body)["data"]).encode(), NOW) == reading


@pytest.mark.parametrize(
    ("geometry", "properties"),
    [
        (None, {"handle": "+1415"}),
        ({"type": "Point", "coordinates": [1]}, {"handle": "+1415"}),
        ({"type": "Point", "coordinates": ["1", "2"]}, {"handle": "+1415"}),
        ({"type": "Point", "coordinates": [True, False]}, {"handle": "+1415"}),
        ({"type": "Point", "coordinates": [181, 2]}, {"handle": "+1415"}),
        ({"type": "Point", "coordinates": [1, -91]}, {"handle": "+1415"}),
        ({"type": "Point", "coordinates": [10**400, 2]}, {"handle": "+1415"}),
        ({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}, {"handle": "+1415"}),
        ({"type": "Point", "coordinates": [1, 2]}, {}),
        ({"type": "Point", "coordinates": [1, 2]}, None),
        ({"type": "Point", "coordinates": [1, 2]}, {"handle": 5}),
        ({"type": "Point", "coordinates": [1, 2]}, {"handle": "+1415", "updated_at": "2126-01-01T00:00:00Z"}),
    ],
)
def test_a_feature_of_no_use_is_skipped_and_hides_nobody(geometry: object, properties: object) -> None:
    good = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [1, 2, 3, 4]},
        "properties": {"handle": "a@b"},
    }
    bad = {"type": "Feature", "geometry": geometry, "properties": properties}
    text = json.dumps({"type": "FeatureCollection", "features": [bad, good]})
    reading = parse_reading(text.encode(), NOW)
    assert (list(reading.features), reading.skipped) == (["a@b"], 1)


@pytest.mark.parametrize(
    ("text", "handle"),
    [
        ("+1 (415) 555-0101", "+14155550101"),
        (" +358\u00a040\u20111234567 ", "+358401234567"),
        ("Anna@iCloud.Example", "anna@icloud.example"),
        ("", None),
        ("\x00", None),
        (None, None),
        ("x" * 151, None),
    ],
)
def test_handles_have_one_form(text: object, handle: str | None) -> None:
    assert normalise_handle(text) == handle


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "text"}', b'{"error": {"code": true}}'])
def test_errors_without_the_envelope_are_read_too(body: bytes) -> None:
    assert (parse_error(body).code, parse_error(body).retry_after) == (0, None)


async def test_the_command_serves_people_who_walk_and_says_how_to_connect() -> None:
    said: list[str] = []
    stop = asyncio.Event()
    task = asyncio.create_task(run(stop=stop, people=2, say=said.append, faults=parse_faults(["bare", "hold=0.0"])))
    async with asyncio.timeout(10):
        while len(said) < 5:
            await asyncio.sleep(0)
    stop.set()
    await task
    assert said[0].startswith("Linq stand-in at http://127.0.0.1:")
    assert said[1] == 'api_key = "simulated-linq-key"'
    assert len([line for line in said if line.startswith("chat ")]) == 2


def test_a_walk_goes_there_and_back() -> None:
    assert along(STROLL, 0) == (STROLL[0][1], STROLL[0][0])
    assert along(STROLL, 100) != along(STROLL, 200)
    whole = 1_000_000.0
    latitude, longitude = along(STROLL, whole)
    assert 60.16 < latitude < 60.18
    assert 24.93 < longitude < 24.96


@pytest.mark.parametrize("switch", ["no_such_fault", "hold=abc"])
def test_an_unknown_fault_is_said(switch: str) -> None:
    with pytest.raises(ValueError, match=r"fault|JSON|Expecting"):
        parse_faults([switch])
