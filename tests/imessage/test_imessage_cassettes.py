"""Linq's REST, replayed from cassettes. They were recorded from the stand-in and scrubbed; each says so itself.

Record them anew with RECORD_CASSETTES=1.
"""

from __future__ import annotations

import os
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import vcr
import yaml
from imessage_harness import Gateway, OwnClock

from waybridge import AskRefused, SourceKey
from waybridge_imessage.linq import Linq
from waybridge_imessage.simulator import LinqSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CASSETTES = Path(__file__).parent / "cassettes"
RECORDING = os.environ.get("RECORD_CASSETTES") == "1"
HEADER = (
    "# Recorded from the project's own stand-in of Linq (waybridge_imessage.simulator), "
    "not from the vendor; scrubbed.\n"
)
VENDOR = "https://api.linqapp.com/api/partner"
KEY = "not-a-real-key"
CHAT, GROUP = "550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440001"
ANNA = "+14155550101"


class Annotated:
    """YAML with a first line that says where it comes from."""

    @staticmethod
    def serialize(cassette: dict[str, Any]) -> str:
        return HEADER + yaml.safe_dump(cassette, sort_keys=True)

    @staticmethod
    def deserialize(text: str) -> Any:
        return yaml.safe_load(text)


def _request(request: Any) -> Any:
    request.uri = re.sub(r"^http://127\.0\.0\.1:\d+/api/partner", VENDOR, request.uri)
    request.headers.pop("Host", None)
    return request


def _response(response: dict[str, Any]) -> dict[str, Any]:
    kept = {"Content-Type", "Retry-After"}
    response["headers"] = {k: v for k, v in response["headers"].items() if k in kept}
    response.pop("url", None)
    text = response["body"]["string"].decode()
    text = re.sub(r'"trace_id": "[0-9a-f]{32}"', '"trace_id": "' + "0" * 32 + '"', text)
    text = re.sub(r"whsec_[A-Za-z0-9+/=]+", "whsec_c2NydWJiZWQ=", text)
    response["body"]["string"] = text.encode()
    return response


def recorder() -> vcr.VCR:
    made = vcr.VCR(
        cassette_library_dir=str(CASSETTES),
        serializer="annotated",
        record_mode="all" if RECORDING else "none",
        match_on=["method", "uri"],
        filter_headers=["Authorization", "User-Agent"],
        before_record_request=_request,
        before_record_response=_response,
    )
    made.register_serializer("annotated", Annotated)
    return made


@asynccontextmanager
async def talking(cassette: str) -> AsyncIterator[tuple[Gateway, LinqSimulator | None]]:
    """A provider that talks to the cassette, or, when recording, to the stand-in."""
    clock = OwnClock()
    async with aiohttp.ClientSession() as session:
        door = Gateway(session, clock)
        door.url = "https://track.example/ingest/imessage"
        if not RECORDING:
            door.connect(api_key=KEY, base_url=VENDOR)
            with recorder().use_cassette(f"{cassette}.yaml"):
                yield door, None
            return
        async with LinqSimulator(api_key=KEY, clock=clock.now, retry_delays=()) as linq:
            linq.add_chat(ANNA, chat_id=CHAT)
            linq.add_chat(ANNA, "+14155550102", chat_id=GROUP)
            door.connect(api_key=KEY, base_url=linq.base_url)
            with recorder().use_cassette(f"{cassette}.yaml"):
                yield door, linq


def client(door: Gateway) -> Linq:
    return door.shown._linq


async def test_a_location_is_read() -> None:
    async with talking("location") as (door, linq):
        if linq:
            linq.share(CHAT, ANNA, 60.17, 24.94, altitude=12.5, address="Mannerheimintie 1", locality="Helsinki")
        feature = (await client(door).location(CHAT)).features[ANNA]
    assert (feature.latitude, feature.longitude, feature.altitude_m) == (60.17, 24.94, 12.5)
    assert feature.updated_at == datetime(2026, 4, 12, 13, 20, tzinfo=UTC)


async def test_a_chat_is_asked_and_looked_up() -> None:
    async with talking("request") as (door, _):
        assert (await door.shown.ask(CHAT)).source == SourceKey("imessage", ANNA)


async def test_a_group_is_refused() -> None:
    async with talking("group") as (door, _):
        with pytest.raises(AskRefused, match="2016"):
            await door.shown.ask(GROUP)


async def test_subscriptions_are_made_and_listed() -> None:
    async with talking("subscriptions") as (door, _):
        made = await client(door).create_subscription(
            {"target_url": "https://track.example/hook", "subscribed_events": ["location.sharing.started"]}
        )
        assert made["signing_secret"].startswith("whsec_")
        assert [one["id"] for one in await client(door).subscriptions()] == [made["id"]]


def test_every_cassette_says_where_it_is_from_and_holds_no_secret() -> None:
    paths = sorted(CASSETTES.glob("*.yaml"))
    assert [path.stem for path in paths] == ["group", "location", "request", "subscriptions"]
    for path in paths:
        text = path.read_text()
        assert text.startswith(HEADER)
        assert KEY not in text
        assert "Bearer" not in text
        assert "127.0.0.1" not in text
