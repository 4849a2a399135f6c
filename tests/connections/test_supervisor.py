"""Connections at work in a real gateway, against the vendors' stand-ins."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from running import RunningGateway, running_gateway

from waybridge import metrics
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


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_vendor_that_stops_turns_only_its_devices_stale_and_they_move_again_when_it_is_back(
    open_gateway: RunningGateway, vendor: MyCarTracksSimulator
) -> None:
    api = Api(open_gateway)
    other = MyCarTracksSimulator()
    port = int((await other.start()).rsplit(":", 1)[1].split("/")[0])
    for simulator, name in ((vendor, "steady"), (other, "shaky")):
        simulator.staff(2)
        assert (await _connect(api, simulator, name, stale_after=8))[0] == 201

    async def drive(*simulators: MyCarTracksSimulator) -> None:
        step = 0
        while True:
            step += 1
            for simulator in simulators:
                for vehicle in (101, 102):
                    simulator.move(vehicle, 60.17 + step * 1e-5, 24.94, 30.0, 0.0)
            await open_gateway.http.post(
                f"{open_gateway.url}/ingest/native/positions",
                json={"device_token": "phone", "latitude": 53.4, "longitude": -2.9, "timestamp": time.time()},
                headers=open_gateway.headers(),
            )
            await asyncio.sleep(0.5)

    async def stale(*expected: str) -> bool:
        listed = await _devices(api, "")
        kinds = {each["device_token"]: name for name in ("shaky", "steady") for each in await _of(api, name)}
        shown = {kinds.get(each["device_token"], "native") for each in listed if each["stale"]}
        return len(listed) == 5 and shown == set(expected)

    driving = asyncio.create_task(drive(vendor, other))
    again = MyCarTracksSimulator()
    try:
        await eventually(stale, 60)
        driving.cancel()
        driving = asyncio.create_task(drive(vendor))
        await other.stop()
        await eventually(lambda: stale("shaky"), 60)
        await eventually(lambda: _connection(api, "shaky", "retrying"), 60)
        assert await _connection(api, "steady", "running")
        await again.start(port=port)
        again.staff(2)
        driving.cancel()
        driving = asyncio.create_task(drive(vendor, again))
        await eventually(stale, 60)
        await eventually(lambda: _connection(api, "shaky", "running"))
    finally:
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        await api("DELETE", "/connections/shaky?instance_id=default")
        await again.stop()


@pytest.mark.parametrize(("fault", "said"), [("still", "silent"), ("stale_by", "all_stale")])
async def test_a_stream_that_brings_nothing_fresh_is_opened_anew_without_alarm(
    open_gateway: RunningGateway, vendor: MyCarTracksSimulator, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    monkeypatch.setattr("waybridge.runtime.quiet_seconds", lambda *_: 1.0)
    api = Api(open_gateway)
    (van,) = vendor.staff(1)
    vendor.move(van, 60.17, 24.94, 42.5, 90.0)
    vendor.faults.stale_by = 600.0 if fault == "stale_by" else 0.0
    assert (await _connect(api, vendor))[0] == 201
    await eventually(lambda: _devices(api, ""))
    before = vendor.streams_created
    vendor.faults.still = fault == "still"

    async def opened_anew() -> bool:
        vendor.move(van, 60.17, 24.94, 42.5, 90.0)
        return vendor.streams_created > before

    await eventually(opened_anew)

    counted = metrics.CONNECTION_EVENTS.labels("default", "vans", said)._value.get()
    assert counted >= 1
    shown = await _connection(api, "vans", "running")
    assert shown is not None
    assert shown["last_error"] is None


async def test_a_refused_connection_says_why_although_its_row_lags(
    open_gateway: RunningGateway, vendor: MyCarTracksSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def kept(*_: Any, **__: Any) -> None:
        """The row stays as it was."""

    monkeypatch.setattr("waybridge.supervisor.rows.keep_state", kept)
    api = Api(open_gateway)
    assert (await _connect(api, vendor, client_secret="wrong-0123456789"))[0] == 201
    await eventually(lambda: _connection(api, "vans", "rejected"))
    runtime = open_gateway.house.supervisor.runtime("vans")
    assert runtime is not None
    assert runtime._task is not None
    await runtime._task

    shown = await _connection(api, "vans", "rejected")

    assert shown is not None
    assert "invalid_client" in shown["last_error"]


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


async def _of(api: Api, connection_id: str) -> list[Any]:
    return await _devices(api, f"&connection_id={connection_id}")


async def _connection(api: Api, connection_id: str, state: str) -> Any:
    status, answer = await api("GET", f"/connections/{connection_id}?instance_id=default")
    assert status == 200
    return answer if answer["state"] == state else None
