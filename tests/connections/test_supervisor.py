"""Connections at work in a real gateway, against the vendors' stand-ins."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from running import RunningGateway, running_gateway

from waybridge_mycartracks import MyCarTracksSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


async def eventually(ask, seconds: float = 20.0) -> Any:
    """What `ask()` says once it is true; fails with what it last said."""
    deadline = time.monotonic() + seconds
    while not (said := await ask()):
        assert time.monotonic() < deadline, said
        await asyncio.sleep(0.05)
    return said


@pytest.fixture
async def vendor() -> AsyncIterator[MyCarTracksSimulator]:
    simulator = MyCarTracksSimulator()
    await simulator.start()
    yield simulator
    await simulator.stop()


@pytest.fixture
async def open_gateway(database_url: str, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A gateway whose API-made connections may reach loopback, as in development."""
    async with running_gateway(database_url, tmp_path, webhooks={"allow_private_targets": True}) as running:
        yield running


class Api:
    def __init__(self, gateway: RunningGateway) -> None:
        self._gateway = gateway
        self._headers = gateway.headers()

    async def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self._gateway.http.request(
            method, f"{self._gateway.url}/api/v1{path}", json=body, headers=self._headers
        ) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None


async def _connect(api: Api, vendor: MyCarTracksSimulator, connection_id: str = "vans", **settings: Any) -> Any:
    return await api(
        "POST",
        "/connections",
        {
            "connection_id": connection_id,
            "provider": "mycartracks",
            "instance_id": "default",
            "settings": {**vendor.settings(), **settings},
        },
    )


async def test_a_connection_made_at_run_time_brings_vehicles_in_and_survives_a_restart(
    database_url: str, tmp_path: Path, vendor: MyCarTracksSimulator
) -> None:
    (van,) = vendor.staff(1)
    vendor.move(van, 60.17, 24.94, 42.5, 90.0)
    options = {"webhooks": {"allow_private_targets": True}}
    async with running_gateway(database_url, tmp_path, **options) as gateway:
        api = Api(gateway)
        status, made = await _connect(api, vendor)
        assert status == 201
        assert made["origin"] == "api"
        assert made["settings"]["client_secret"] == "***"
        found = await eventually(
            lambda: _devices(api, f"&connection_id=vans&external_id={van}")
        )
        assert found[0]["position"]["speed"] == pytest.approx(42.5 / 3.6, abs=0.01)
        assert found[0]["provider"] == "mycartracks"
        running = await eventually(lambda: _connection(api, "vans", "running"))
        assert running["last_position_at"] is not None
        assert running["last_error"] is None
    async with running_gateway(database_url, tmp_path, **options) as gateway:
        api = Api(gateway)
        await eventually(lambda: _connection(api, "vans", "running"))
        assert (await _devices(api, ""))[0]["sources"] == [
            {"connection_id": "vans", "external_id": str(van), "provider": "mycartracks"}
        ]


async def test_refused_credentials_stop_the_connection_and_say_so_without_the_secret(
    open_gateway: RunningGateway, vendor: MyCarTracksSimulator
) -> None:
    api = Api(open_gateway)
    status, _ = await _connect(api, vendor, client_secret="CANARY-wrong-secret-0123456789")
    assert status == 201
    rejected = await eventually(lambda: _connection(api, "vans", "rejected"))
    assert rejected["last_error"]
    assert "CANARY" not in json.dumps(rejected)
    tokens = vendor.tokens_issued
    await asyncio.sleep(0)
    assert vendor.tokens_issued == tokens
    status, checked = await api("POST", "/connections/vans/check?instance_id=default")
    assert (status, checked["ok"]) == (200, False)
    status, _ = await api("PATCH", "/connections/vans?instance_id=default", {"settings": vendor.settings()})
    assert status == 200
    await eventually(lambda: _connection(api, "vans", "running"))
    status, checked = await api("POST", "/connections/vans/check?instance_id=default")
    assert checked["ok"] is True


async def test_check_at_creation_keeps_nothing_that_the_vendor_refuses(
    open_gateway: RunningGateway, vendor: MyCarTracksSimulator
) -> None:
    api = Api(open_gateway)
    body = {
        "connection_id": "vans",
        "provider": "mycartracks",
        "instance_id": "default",
        "settings": {**vendor.settings(), "client_secret": "CANARY-wrong-secret-0123456789"},
        "check": True,
    }
    status, answer = await api("POST", "/connections", body)
    assert status == 422
    assert "CANARY" not in json.dumps(answer)
    assert (await api("GET", "/connections/vans?instance_id=default"))[0] == 404
    body["settings"] = vendor.settings()
    assert (await api("POST", "/connections", body))[0] == 201
    assert (await api("POST", "/connections", body))[0] == 409
    for wrong, field in (
        ({"vehicle_ids": [1], "vehicle_group_ids": [2]}, "settings"),
        ({"nonsense": 1}, "settings.nonsense"),
        ({"page_size": "many"}, "settings.page_size"),
    ):
        body |= {"connection_id": "more", "check": False, "settings": {**vendor.settings(), **wrong}}
        status, answer = await api("POST", "/connections", body)
        assert status == 422, answer
        assert answer["errors"][0]["field"].startswith(field), answer


async def test_private_addresses_of_api_made_connections_are_refused(
    gateway: RunningGateway, vendor: MyCarTracksSimulator
) -> None:
    status, answer = await _connect(Api(gateway), vendor)
    assert status == 422
    assert {each["field"] for each in answer["errors"]} <= {"settings.base_url", "settings.token_url"}
    assert vendor.tokens_issued == 0


async def test_one_vendor_that_fails_disturbs_no_other_and_heals_by_itself(
    open_gateway: RunningGateway, vendor: MyCarTracksSimulator
) -> None:
    api = Api(open_gateway)
    other = MyCarTracksSimulator()
    url = await other.start()
    port = int(url.split(":")[2].split("/")[0])
    for simulator, name in ((vendor, "steady"), (other, "shaky")):
        (van,) = simulator.staff(1)
        simulator.move(van, 60.17, 24.94, 30.0, 0.0)
        assert (await _connect(api, simulator, name))[0] == 201
        await eventually(lambda name=name: _connection(api, name, "running"))
    await other.stop()
    down = await eventually(lambda: _connection(api, "shaky", "retrying"))
    assert down["last_error"]
    assert await _connection(api, "steady", "running")
    again = MyCarTracksSimulator()
    try:
        await again.start(port=port)
        again.staff(1)
        await eventually(lambda: _connection(api, "shaky", "running"), 60)
    finally:
        await api("DELETE", "/connections/shaky?instance_id=default")
        await again.stop()
    assert await _connection(api, "steady", "running")


async def test_removing_a_connection_ends_its_sharing_with_the_cause_and_keeps_its_devices(
    open_gateway: RunningGateway, vendor: MyCarTracksSimulator
) -> None:
    api = Api(open_gateway)
    (van,) = vendor.staff(1)
    vendor.move(van, 60.17, 24.94, 42.5, 90.0)
    await _connect(api, vendor)
    await eventually(lambda: _devices(api, "&connection_id=vans"))
    status, _ = await api("DELETE", "/connections/vans?instance_id=default")
    assert status == 204
    assert (await api("GET", "/connections/vans?instance_id=default"))[0] == 404
    (device,) = await _devices(api, "")
    assert device["sharing"] is False
    async with open_gateway.house.store.read() as conn:
        rows = await conn.exec_driver_sql("SELECT event_type, cause FROM outbox ORDER BY id")
        told = [tuple(row) for row in rows]
    assert ("location.sharing.stopped", "connection_removed") in told


async def test_a_connection_that_changes_is_never_without_somebody_to_push_to(
    open_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(open_gateway)
    wanted = {"connection_id": "cabs", "provider": "driver_events", "instance_id": "default", "settings": {}}
    assert (await api("POST", "/connections", wanted))[0] == 201
    supervisor = open_gateway.house.supervisor
    before = supervisor.runtime("cabs")
    close, found = before.close, []

    async def closing() -> None:
        found.append(supervisor.runtime("cabs"))
        await close()

    monkeypatch.setattr(before, "close", closing)
    assert (await api("PATCH", "/connections/cabs", {"settings": {"stale_after": 5}}))[0] == 200
    assert len(found) == 1
    assert found[0] is not None
    assert found[0] is not before
    assert found[0] is supervisor.runtime("cabs")


async def _devices(api: Api, query: str) -> list[Any]:
    status, answer = await api("GET", f"/devices?instance_id=default{query}")
    assert status == 200
    return [each for each in answer["devices"] if each["position"] is not None]


async def _connection(api: Api, connection_id: str, state: str) -> Any:
    status, answer = await api("GET", f"/connections/{connection_id}?instance_id=default")
    assert status == 200
    return answer if answer["state"] == state else None
