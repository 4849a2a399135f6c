"""Phones through the real gateway, on both databases: their tokens, their devices."""

import base64
from datetime import UTC, datetime

import pytest
from running import running_gateway

CONNECTIONS = [
    {"id": "tracks", "provider": "owntracks", "instance_id": "default", "settings": {}},
    {"id": "clients", "provider": "osmand", "instance_id": "default", "settings": {"stale_after": 120}},
]


@pytest.fixture
async def gateway(database_url, tmp_path):
    async with running_gateway(database_url, tmp_path, connections=CONNECTIONS) as gateway:
        yield gateway


async def position(gateway, token):
    url = f"{gateway.url}/api/v1/devices/{token}/position?instance_id=default"
    async with gateway.http.get(url, headers=gateway.headers("read")) as response:
        return response.status, await response.json()


def location(**more):
    now = int(datetime.now(UTC).timestamp())
    return {"_type": "location", "lat": 60.1, "lon": 24.9, "tst": now, "vel": 36, "tid": "JN", "batt": 50, **more}


async def test_owntracks_logs_in_with_a_bound_token_as_password_and_is_that_device(gateway):
    token = gateway.token("ingest", device="jana-phone")
    basic = {"Authorization": "Basic " + base64.b64encode(f"jana:{token}".encode()).decode()}
    body = location(topic="owntracks/jana/phone")
    for _ in range(2):
        async with gateway.http.post(f"{gateway.url}/ingest/tracks/", json=body, headers=basic) as response:
            assert (response.status, await response.json()) == (200, [])
    status, shown = await position(gateway, "jana-phone")
    assert status == 200
    assert (shown["latitude"], shown["speed"], shown["provider"], shown["online"]) == (60.1, 10.0, "owntracks", True)


async def test_traccar_client_logs_in_by_the_query_and_is_that_device(gateway):
    token = gateway.token("ingest", device="van-7")
    now = datetime.now(UTC)
    query = {"id": "123456", "lat": "60.2", "lon": "24.8", "speed": "10", "timestamp": str(int(now.timestamp()))}
    url = f"{gateway.url}/ingest/clients/"
    async with gateway.http.get(url, params={"token": token, **query}) as response:
        assert response.status == 200
    later = {
        "device_id": "123456",
        "location": {
            "timestamp": datetime.now(UTC).isoformat(),
            "coords": {"latitude": 60.3, "longitude": 24.8, "speed": 5, "heading": 90},
        },
    }
    async with gateway.http.post(url, params={"token": token}, json=later) as response:
        assert response.status == 200
    status, shown = await position(gateway, "van-7")
    assert status == 200
    assert (shown["latitude"], shown["speed"], shown["heading"], shown["provider"]) == (60.3, 5.0, 90.0, "osmand")


async def test_a_bound_token_never_writes_another_device(gateway):
    bound = gateway.token("ingest", device="mine")
    free = gateway.headers("ingest")
    url = f"{gateway.url}/ingest/tracks/"
    async with gateway.http.post(url, json=location(topic="owntracks/other/phone"), headers=free) as response:
        assert response.status == 200
    body = location(topic="owntracks/other/phone", lat=1.0, tst=int(datetime.now(UTC).timestamp()) + 1)
    async with gateway.http.post(url, json=body, headers={"Authorization": f"Bearer {bound}"}) as response:
        assert response.status == 200
    shown = {}
    list_url = f"{gateway.url}/api/v1/devices?instance_id=default"
    async with gateway.http.get(list_url, headers=gateway.headers("read")) as response:
        for device in (await response.json())["devices"]:
            shown[device["sources"][0]["external_id"]] = device["position"]["latitude"]
    assert shown == {"other/phone": 60.1, "mine": 1.0}


@pytest.mark.parametrize("connection", ["tracks", "clients"])
async def test_a_phone_without_a_token_is_turned_away(gateway, connection):
    for headers in ({}, gateway.headers("read"), {"Authorization": "Basic Og=="}):
        url = f"{gateway.url}/ingest/{connection}/"
        async with gateway.http.post(url, json=location(), headers=headers) as response:
            assert response.status in {401, 403}
            assert response.content_type == "application/problem+json"
