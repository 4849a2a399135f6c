"""As a newcomer has it: a fresh gateway, `waybridge listen`, one POST; then everything that can share does."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import standardwebhooks
from linq import LinqAPIV3
from processes import GatewayProcess, gateway_process
from webhooks_harness import Received, Receiver
from webhooks_programs import HERE, free_port, install, line, running

from waybridge import vendor_device_token
from waybridge_imessage.simulator import LinqSimulator

ANNA = "+14155550101"
CHAT = "550e8400-e29b-41d4-a716-446655440000"
JOURNEY = (
    "DRIVER_DEPARTED_TO_PICKUP", "DRIVER_LIVE_LOCATION", "DRIVER_ARRIVED_AT_PICKUP", "DRIVER_DEPARTED_TO_DROPOFF",
    "DRIVER_LIVE_LOCATION", "DRIVER_ARRIVED_AT_DROPOFF",
)  # fmt: skip
CONFIGURATION = """
[webhooks]
allow_private_targets = true

[trips]
gap_seconds = 1

[[connections]]
id = "line"
provider = "imessage"
instance_id = "default"
settings = {{ api_key = "{key}", base_url = "{url}", subscribe = true, poll_interval_seconds = 1 }}

[[connections]]
id = "taxi"
provider = "driver_events"
instance_id = "default"
"""


@pytest.fixture
async def linq() -> AsyncIterator[LinqSimulator]:
    async with LinqSimulator(retry_delays=(0.1, 0.2, 0.4)) as made:
        made.add_chat(ANNA, chat_id=CHAT)
        yield made


@pytest.mark.node
@pytest.mark.timeout(300)
async def test_each_source_tells_one_start_and_one_stop_in_order_signed_and_the_libraries_accept_them(
    linq: LinqSimulator, receiver: Receiver, tmp_path: Path
) -> None:
    await install(tmp_path)
    (tmp_path / "waybridge.toml").write_text(CONFIGURATION.format(key=linq.api_key, url=linq.base_url))
    port = free_port()
    async with gateway_process(tmp_path) as gateway, aiohttp.ClientSession() as http:
        newcomer = Newcomer(gateway, http)
        secret = await newcomer.subscribes(f"http://127.0.0.1:{port}/")
        command = [sys.executable, "-m", "waybridge", "listen", "--port", str(port), "--secret", secret]
        async with running(*command, cwd=tmp_path) as listener:
            assert await line(listener) == f"Listening on http://127.0.0.1:{port}/"
            kept = await newcomer.subscribes(receiver.url)
            while not linq.subscriptions:
                await asyncio.sleep(0.02)

            lines: list[str] = []

            async def told(count: int) -> None:
                """Waits for the next events at both, so that one source after the other is heard."""
                lines.extend([await line(listener) for _ in range(count)])
                await receiver.until(len(lines))

            session = await newcomer.shares("van-7")
            await told(2)
            linq.share(CHAT, ANNA, 60.17, 24.94)
            await told(1)
            linq.stop_sharing(ANNA)
            await told(1)
            booking = await newcomer.drives()
            await told(2)
            await newcomer.reports("van-1")
            await told(2)
            await newcomer.call("POST", f"/webhook-subscriptions/{newcomer.made[0]}/test")
            last = await line(listener)  # nothing else was told

    started, stopped = "location.sharing.started", "location.sharing.stopped"
    anna = vendor_device_token("default", "line", ANNA)
    expected = [
        (started, "van-7", "share_created"), (stopped, "van-7", "completed"),
        (started, anna, "consent"), (stopped, anna, "consent_withdrawn"),
        (started, booking, "first_live_location"), (stopped, booking, "arrived_at_dropoff"),
        (started, "van-1", "online"), (stopped, "van-1", "offline"),
    ]  # fmt: skip
    assert [printed(each) for each in lines] == expected
    assert "  verified    webhook.test  " in last
    got = receiver.received
    assert [what_it_says(each) for each in got] == expected
    every_stop_is_of_its_start(got)
    assert got[0].event["data"]["share_session_id"] == session
    the_python_libraries_accept(got, kept)
    await the_npm_library_accepts(got, kept, tmp_path)


class Newcomer:
    """Calls the gateway as the pages say; the ids of what was subscribed are in `made`."""

    def __init__(self, gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
        self._gateway = gateway
        self._http = http
        self.made: list[str] = []

    async def call(self, method: str, path: str, body: Any = None, *, base: str = "/api/v1") -> Any:
        headers = {"Authorization": f"Bearer {self._gateway.token()}"}
        url = self._gateway.url + base + path
        async with self._http.request(method, url, json=body, headers=headers) as response:
            assert response.status < 300, await response.text()
            return await response.json()

    async def subscribes(self, target_url: str) -> str:
        fields = {"instance_id": "default", "target_url": target_url, "subscribed_events": ["location.sharing.*"]}
        made = await self.call("POST", "/webhook-subscriptions", fields)
        self.made.append(made["id"])
        return str(made["signing_secret"])

    async def shares(self, device: str) -> str:
        made = {"instance_id": "default", "device_token": device}
        await self.call("PUT", f"/devices/{device}/metadata/profile?instance_id=default", {"full_name": "Ann Lee"})
        session = await self.call("POST", "/sharing/sessions", made)
        await self.call("POST", f"/sharing/sessions/{session['id']}/complete?instance_id=default")
        return str(session["id"])

    async def drives(self) -> str:
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
        fields = {"assigned_at": start.isoformat(), "driver": {"firstName": "Ann", "lastName": "Lee"}}
        booking = await self.call("PUT", "/v1/bookings/C/B", fields, base="/ingest/taxi")
        for number, kind in enumerate(JOURNEY, start=1):
            at = (start + timedelta(seconds=10 * number)).isoformat().replace("+00:00", "Z")
            event = {"event_type": kind, "occurred_at": at, "latitude": 53.48, "longitude": -2.24}
            await self.call("POST", "/v1/bookings/C/B/driver/events", event, base="/ingest/taxi")
        return str(booking["device_token"])

    async def reports(self, device: str) -> None:
        fix = {"device_token": device, "latitude": 60.17, "longitude": 24.94, "timestamp": time.time()}
        await self.call("POST", "/native/positions", fix, base="/ingest")


def printed(text: str) -> tuple[str, str, str]:
    """What a line of `waybridge listen` tells: (event, device, cause)."""
    found = re.fullmatch(r"\d\d:\d\d:\d\d  verified    (\S+)  evt_\w+  device_token=(\S+)  .*?cause=(\S+).*", text)
    assert found, text
    return found[1], found[2], found[3]


def what_it_says(got: Received) -> tuple[str, str, str]:
    data = got.event["data"]
    return got.event["event_type"], data["device_token"], data["cause"]


def every_stop_is_of_its_start(got: Sequence[Received]) -> None:
    for begun, ended in zip(got[::2], got[1::2], strict=True):
        start, stop = begun.event["data"], ended.event["data"]
        assert start.keys() | {"ended_at"} == stop.keys()
        assert {key: start[key] for key in start if key != "cause"} == {
            key: stop[key] for key in start if key != "cause"
        }
        assert not {"latitude", "longitude", "coordinates"} & start.keys()
    assert len({each.event["data"]["sharing_id"] for each in got}) == 4


def the_python_libraries_accept(got: Sequence[Received], secret: str) -> None:
    client = LinqAPIV3(api_key="unused", base_url="http://127.0.0.1:9")
    for each in got:
        assert standardwebhooks.Webhook(secret).verify(each.body, each.headers) == each.event
        event = client.webhooks.unwrap(each.body.decode(), headers=each.headers, key=secret)
        assert (event.event_type, event.event_id) == (each.event["event_type"], each.event_id)
    client.close()


async def the_npm_library_accepts(got: Sequence[Received], secret: str, folder: Path) -> None:
    shutil.copy(HERE / "node" / "verify.mjs", folder / "verify.mjs")
    received = [{"body": each.body.decode(), "headers": each.headers} for each in got]
    (folder / "received.json").write_text(json.dumps({"secret": secret, "received": received}))
    async with running("node", "verify.mjs", "received.json", cwd=folder) as process:
        verified = json.loads(await line(process) or "null")
    assert verified == [
        {"id": each.event_id, "type": each.event["event_type"], "cause": each.event["data"]["cause"], "forged": False}
        for each in got
    ]
