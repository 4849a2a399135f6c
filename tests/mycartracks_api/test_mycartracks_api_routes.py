"""MyCarTracks' API over the gateway's devices, as its clients see it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mycartracks_api_fakes import FIX, READ, ROOT, WHEN, Api, FakeGateway

from waybridge_mycartracks_api.requests import LARGEST_BODY

SEED = Path(__file__).parent.parent / "mycartracks" / "seed_dashboard.mjs"


async def test_last_positions_are_the_vendors_rows(api: Api, gateway: FakeGateway) -> None:
    names = {"nickname": "Van 12", "full_name": "John Smith"}
    gateway.put("acme", "van", at=(48.1486, 17.1077), recorded_at=WHEN, fix=FIX, **names)
    gateway.put("acme", "phone", at=(1.0, 2.0), recorded_at=WHEN, online=None)
    gateway.put("acme", "never moved")
    gateway.put("acme", "hides", at=(3.0, 4.0), visible=False)
    gateway.put("other", "stranger", at=(5.0, 6.0))

    status, answer = await api.get()

    assert status == 200
    assert {name: answer[name] for name in ("total", "limit", "page")} == {"total": 2, "limit": 50, "page": 0}
    assert answer["data"][0] == {
        "vehicleId": 1,
        "vehicleName": "Van 12",
        "userId": 1,
        "userName": "John Smith",
        "latitude": 48.1486,
        "longitude": 17.1077,
        "speed": 42.5,
        "heading": 90.0,
        "recordedAt": "2026-06-01T14:21:35Z",
        "receivedAt": "2026-06-01T14:21:38Z",
        "onlineState": "online",
    }
    assert answer["data"][1] | {"receivedAt": None} == {
        "vehicleId": 2,
        "vehicleName": "Device phone",
        "userId": 2,
        "userName": "Device phone",
        "latitude": 1.0,
        "longitude": 2.0,
        "speed": None,
        "heading": None,
        "recordedAt": "2026-06-01T14:21:35Z",
        "receivedAt": None,
        "onlineState": "unknown",
    }


async def test_pages_cover_every_vehicle_once(api: Api, gateway: FakeGateway) -> None:
    for number in range(7):
        gateway.put("acme" if number % 2 else "beta", f"d{number}", at=(1.0, 2.0))
    both = {"Authorization": "bearer read@acme,beta"}

    pages = [(await api.get(f"?limit=3&page={page}", both))[1] for page in range(4)]

    assert [[row["vehicleId"] for row in page["data"]] for page in pages] == [[1, 2, 3], [4, 5, 6], [7], []]
    assert {page["total"] for page in pages} == {7}


@pytest.mark.parametrize("query", ["?limit=0", "?limit=x", "?limit=-1", "?page=-1", "?page=1e3", "?limit=", "?limit=²"])
async def test_a_wrong_page_is_said(api: Api, query: str) -> None:
    assert (await api.get(query))[0] == 422


async def test_a_huge_limit_is_taken_down(api: Api) -> None:
    assert (await api.get("?limit=86400"))[1]["limit"] == 1000


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Basic cmVhZEBhY21l"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer nonsense"}, 401),
        ({"Authorization": "Bearer write+admin@acme"}, 403),
        (READ, 200),
    ],
)
async def test_both_requests_need_a_token_with_read(api: Api, headers: dict[str, str], status: int) -> None:
    assert (await api.get("", headers))[0] == status
    assert (await api.post({}, headers))[0] == (201 if status == 200 else status)


async def test_a_stream_is_answered_as_documented(api: Api, gateway: FakeGateway) -> None:
    status, answer = await api.post({"minIntervalSeconds": 7, "includeSharedVehicles": False})

    assert status == 201
    assert set(answer) == {"streamId", "websocketUrl", "expiresAt", "heartbeatSeconds", "minIntervalSeconds"}
    assert re.fullmatch(r"lps_[0-9A-HJKMNP-TV-Z]{26}", answer["streamId"])
    assert re.fullmatch(
        rf"ws://127\.0\.0\.1:\d+{ROOT}/livePositions/stream/{answer['streamId']}\?token=[\w-]{{32}}",
        answer["websocketUrl"],
    )
    left = datetime.fromisoformat(answer["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    assert (answer["heartbeatSeconds"], answer["minIntervalSeconds"]) == (30, 7)
    gateway.public_base_url = "https://track.example.com/"
    assert (await api.post())[1]["websocketUrl"].startswith("wss://track.example.com/services/")


@pytest.mark.parametrize(
    ("asked", "used"), [({}, 5), ({"minIntervalSeconds": 1}, 5), ({"minIntervalSeconds": 6.5}, 6.5)]
)
async def test_the_interval_is_at_least_five_seconds(api: Api, asked: dict[str, Any], used: float) -> None:
    assert (await api.post(asked))[1]["minIntervalSeconds"] == used


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{", 400),
        ("NaN", 400),
        ('{"vehicleIds": [1], "vehicleIds": [2]}', 400),
        (b"\xff", 400),
        ("[" * 100_000, 413),
        ("[" * 60_000, 400),
        (b" " * (LARGEST_BODY + 1), 413),
        ([], 422),
        ("null", 422),
        ({"vehicleIds": [1], "vehicleGroupIds": [2]}, 422),
        ({"vehicleIds": ["1"]}, 422),
        ({"vehicleIds": [True]}, 422),
        ({"vehicleIds": [0]}, 422),
        ({"vehicleIds": [2**53]}, 422),
        ({"minIntervalSeconds": "5"}, 422),
        ({"minIntervalSeconds": -1}, 422),
        ({"fields": ["colour"]}, 422),
        ({"fields": []}, 422),
        ({"surprise": 1}, 422),
        ({"includeSharedVehicles": 1}, 422),
    ],
)
async def test_wrong_stream_requests_are_refused(api: Api, gateway: FakeGateway, body: Any, status: int) -> None:
    assert (await api.post(body))[0] == status
    assert gateway.tickets == {}
