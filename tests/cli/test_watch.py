"""`waybridge watch`: against a real gateway, and against a server that closes as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from msgspec import convert
from processes import gateway_process
from rich.console import Console
from running import RunningGateway

from waybridge.cli import watch as watch_command
from waybridge.cli.watch import Fleet, Row, Watch
from waybridge.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DEVICE = {
    "device_token": "van", "display_identifier": "Van", "provider": "native", "online": True, "sharing": True,
    "position": {"timestamp": 100, "speed": 10.0, "latitude": 1.0, "longitude": 2.0}, "trip": None,
}  # fmt: skip


class Screen(Console):
    """A console that a test reads, and waits on."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.text = io.StringIO()
        super().__init__(file=self.text, force_terminal=terminal, width=140)

    async def shows(self, text: str) -> str:
        async with asyncio.timeout(15):
            while text not in self.text.getvalue():
                await asyncio.sleep(0.01)
        return self.text.getvalue()


@contextlib.asynccontextmanager
async def watching(watch: Watch) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    task = asyncio.create_task(watch.run(stop))
    try:
        yield task
    finally:
        stop.set()
        if not task.done():
            await task


async def push(gateway: RunningGateway, latitude: float, **fields: Any) -> None:
    body = {"device_token": "van", "latitude": latitude, "longitude": 24.9, "timestamp": time.time(), **fields}
    async with gateway.http.post(
        f"{gateway.url}/ingest/native/positions", json=body, headers=gateway.headers()
    ) as response:
        assert response.status == 200, await response.text()


async def test_devices_of_a_real_gateway_are_shown_as_they_move(gateway: RunningGateway) -> None:
    await push(gateway, 60.1, speed=10, track_token="trip-one")
    screen = Screen()
    watch = Watch(gateway.url, gateway.token("read"), "default", screen)

    async with watching(watch):
        first = await screen.shows("latitude longitude=60.10000 24.90000")
        await screen.shows("latitude longitude=60.10000")
        await gateway_is_followed(watch)
        await push(gateway, 60.2, speed=12.5)
        second = await screen.shows("latitude longitude=60.20000 24.90000")

    assert "device=van  provider=native  state=online  sharing=yes" in first
    assert "km/h=36" in first
    assert "km/h=45" in second.splitlines()[-1]


async def gateway_is_followed(watch: Watch) -> None:
    async with asyncio.timeout(15):
        while watch._state != "live":
            await asyncio.sleep(0.01)


async def test_a_terminal_gets_a_table(gateway: RunningGateway) -> None:
    await push(gateway, 60.1)
    screen = Screen(terminal=True)

    async with watching(Watch(gateway.url, gateway.token("read"), "default", screen)):
        shown = await screen.shows("60.10000")

    assert "latitude longitude" in shown
    assert "van" in shown


@pytest.mark.parametrize(
    ("scope", "instances", "instance"),
    [("write", ("default",), "default"), ("read", ("default",), "nowhere")],
)
async def test_a_refusal_is_said_in_a_sentence(gateway: RunningGateway, scope, instances, instance) -> None:
    watch = Watch(gateway.url, gateway.token(scope, *instances), instance, Screen())

    with pytest.raises(ConfigurationError, match="refuses"):
        await watch.run(asyncio.Event())


async def test_no_gateway_is_said_in_a_sentence(unused_tcp_port: int) -> None:
    with pytest.raises(ConfigurationError, match="does not answer"):
        await Watch(f"http://127.0.0.1:{unused_tcp_port}", "t", "default", Screen()).run(asyncio.Event())


@contextlib.asynccontextmanager
async def closing_server(codes: list[int]) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Answers the list, and closes each socket with the next code; the last one stays open."""
    greeted: list[dict[str, Any]] = []

    async def devices(_request: web.Request) -> web.Response:
        return web.json_response({"devices": [DEVICE], "total": 1, "limit": 500, "offset": 0})

    async def live(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        greeted.append(await ws.receive_json())
        await ws.send_json({"type": "welcome"})
        frame = {"type": "position", "DeviceToken": "van", "Lat": float(len(greeted)), "Lng": 2.0, "Timestamp": 200}
        await ws.send_json(frame)
        if codes:
            await ws.close(code=codes.pop(0))
        else:
            await ws.receive()
        return ws

    app = web.Application()
    app.router.add_get("/api/v1/devices", devices)
    app.router.add_get("/api/v1/ws/realtime", live)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", greeted
    finally:
        await runner.cleanup()


async def test_it_comes_back_after_codes_that_are_not_final() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with closing_server([1001, 1011, 4008]) as (url, greeted):
        screen = Screen()
        async with watching(Watch(url, "token", "default", screen, sleep=sleep)):
            await screen.shows("4.00000 2.00000")

    assert greeted == [{"type": "authenticate", "jwt": "token", "instance_id": "default"}] * 4
    assert len(waits) == 3
    assert all(0 <= wait <= 1 for wait in waits)


@pytest.mark.parametrize(("code", "said"), [(4001, "refused the token"), (4003, "no such instance"), (1000, "ended")])
async def test_final_codes_end_it_with_a_sentence(code: int, said: str) -> None:
    async with closing_server([code]) as (url, greeted):
        with pytest.raises(ConfigurationError, match=said):
            await Watch(url, "token", "default", Screen()).run(asyncio.Event())

    assert len(greeted) == 1


def test_the_socket_is_not_turned_back_by_an_older_list_and_consent_is_kept() -> None:
    said: list[Row] = []
    fleet = Fleet(said.append)
    fleet.take_frame({"type": "position", "DeviceToken": "van", "Lat": 5.0, "Lng": 6.0, "Timestamp": 200, "Speed": 0})
    listed = Row(token="van", name="Van", provider="native", online=True, at=200, speed=0, latitude=5.0, longitude=6.0)

    fleet.take_list([convert(DEVICE, watch_command._Item)])
    assert fleet.rows["van"] == listed
    fleet.take_frame({"type": "sharing_stopped", "DeviceToken": "van"})
    assert (fleet.rows["van"].latitude, fleet.rows["van"].sharing) == (None, False)
    fleet.take_frame({"type": "pong"})
    fleet.take_list([])

    assert fleet.rows == {}
    assert said[-1].cells(260)[3] == "no"


def test_cells_say_what_is_known_and_nothing_that_a_terminal_obeys() -> None:
    row = Row(token="t", name="Eve\x1b[2J", at=40, speed=0, latitude=-0.5, longitude=180.0, online=False)

    assert row.cells(100) == ("Eve?[2J", "-", "offline", "yes", "60 s", "0", "-0.50000 180.00000", "-")
    assert row.cells(40 + 7300)[4] == "2 h"
    assert row.cells(30)[4] == "0 s"


async def test_ctrl_c_ends_the_command_cleanly(tmp_path: Path) -> None:
    async with gateway_process(tmp_path) as gateway:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "waybridge", "watch", "--url", gateway.url, "--token", gateway.token(),
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with aiohttp.ClientSession() as http, asyncio.timeout(20):
            body = {"device_token": "van", "latitude": 1.0, "longitude": 2.0, "timestamp": time.time()}
            headers = {"Authorization": f"Bearer {gateway.token()}"}
            async with http.post(f"{gateway.url}/ingest/native/positions", json=body, headers=headers) as response:
                assert response.status == 200
            line = await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            _, err = await process.communicate()

    assert line.startswith(b"device=van")
    assert process.returncode == 0, err
    assert err == b""
