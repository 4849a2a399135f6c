"""The REST of the vendor from recorded answers, at the vendor's own address, without any network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import vcr
from mycartracks_harness import START, Bench, HandClock

from waybridge import CredentialsRejected

if TYPE_CHECKING:
    import aiohttp

FOLDER = Path(__file__).parent / "cassettes"
PLAYER = vcr.VCR(record_mode="none", match_on=["method", "scheme", "host", "port", "path", "query"])
ACCOUNT = {"client_id": "anybody.mycartracks.com", "client_secret": "anything"}


async def test_recorded_answers_give_positions_and_a_stream(http: aiohttp.ClientSession, clock: HandClock) -> None:
    bench = Bench(http, clock, ACCOUNT | {"page_size": 2})
    rest = bench.provider._rest

    with PLAYER.use_cassette(str(FOLDER / "last_positions_and_stream.yaml")) as cassette:
        await bench.provider.check()
        fixes = [fix async for page in rest.last_positions() for fix in page]
        opening = await rest.create_stream()

    assert cassette.all_played
    assert [(fix.vehicle_id, fix.vehicle_name, fix.user_name) for fix in fixes] == [
        ("123", "Van 12", "John Smith"),
        ("125", "Van 14", "Jana Nováková"),
    ]
    assert fixes[0].speed_mps == pytest.approx(42.5 / 3.6)
    assert (fixes[1].speed_mps, fixes[1].heading_deg) == (0.0, None)
    assert bench.counts["row_without_position"] == 1
    assert opening.vendor_now == START
    assert opening.session.websocket_url.startswith("wss://mycartracks.com/")


async def test_a_recorded_refusal_is_final(http: aiohttp.ClientSession, clock: HandClock) -> None:
    with (
        PLAYER.use_cassette(str(FOLDER / "wrong_secret.yaml")),
        pytest.raises(CredentialsRejected, match="invalid_client"),
    ):
        await Bench(http, clock, ACCOUNT).provider.check()


def test_cassettes_say_where_they_come_from_and_hold_no_secret() -> None:
    cassettes = sorted(FOLDER.glob("*.yaml"))
    assert len(cassettes) == 2
    for cassette in cassettes:
        text = cassette.read_text()
        assert text.startswith("# Recorded from the project's own MyCarTracks stand-in")
        assert "127.0.0.1" not in text
        assert "Authorization" not in text
        assert "simulated" not in text
