"""A MyCarTracks connection of a real gateway: its states, what it lets out, and what nobody may ever see."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from running import RunningGateway, running_gateway
from typer import Typer
from typer.testing import CliRunner

from waybridge_mycartracks import MyCarTracksSimulator
from waybridge_mycartracks.simulator import command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

CANARY = "canary-secret-91d2"


@pytest.fixture
async def account() -> AsyncIterator[MyCarTracksSimulator]:
    simulator = MyCarTracksSimulator(client_secret=CANARY)
    await simulator.start()
    simulator.set_vehicle(123, "Van 12", user_name="John Smith")
    simulator.move(123, 48.1486, 17.1077, 42.5, 90.0)
    yield simulator
    await simulator.stop()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'waybridge.db'}"
    async with running_gateway(url, tmp_path, webhooks={"allow_private_targets": True}) as made:
        yield made


async def call(running: RunningGateway, method: str, path: str, body: Any = None) -> Any:
    url = f"{running.url}/api/v1{path}"
    async with running.http.request(method, url, json=body, headers=running.headers()) as answer:
        text = await answer.text()
        assert answer.status < 400, text
        return json.loads(text) if text else None


async def connect(running: RunningGateway, settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {"connection_id": "vans", "provider": "mycartracks", "instance_id": "default", "settings": settings} | more
    made: dict[str, Any] = await call(running, "POST", "/connections", body)
    return made


async def state(running: RunningGateway) -> str:
    return str((await call(running, "GET", "/connections/vans"))["state"])


async def device(running: RunningGateway) -> dict[str, Any] | None:
    listed = (await call(running, "GET", "/devices?instance_id=default&connection_id=vans&external_id=123"))["devices"]
    return next((one for one in listed if one["position"]), None)


async def until(ask: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(20):
        while not (found := await ask()):
            await asyncio.sleep(0.02)
    return found


async def test_a_vehicle_comes_in_and_a_share_shows_its_speed(
    running: RunningGateway, account: MyCarTracksSimulator
) -> None:
    await connect(running, account.settings())
    found = await until(lambda: device(running))

    session = {"device_token": found["device_token"], "instance_id": "default", "expires_in_hours": 1}
    shared = await call(running, "POST", "/sharing/sessions", session)
    seen = await call(running, "GET", f"/share/{shared['share_token']}")

    assert found["display_identifier"] == "John Smith"
    assert (found["provider"], found["online"]) == ("mycartracks", True)
    assert seen["driver"]["speed"] * 3.6 == pytest.approx(42.5)


async def test_wrong_credentials_are_rejected_and_not_tried_again(
    running: RunningGateway, account: MyCarTracksSimulator
) -> None:
    await connect(running, account.settings() | {"client_secret": "wrong-" + CANARY})
    await until(lambda: _is(running, "rejected"))
    asked = account.token_requests
    answer = await call(running, "POST", "/connections/vans/check")

    shown = await call(running, "GET", "/connections/vans")
    assert (asked, account.token_requests) == (1, 2)
    assert answer["ok"] is False
    assert shown["settings"]["client_secret"] == "***"
    assert "invalid_client" in shown["last_error"]
    assert CANARY not in json.dumps([shown, answer])


async def test_a_vendor_that_goes_and_comes_is_retried_and_nothing_is_lost(
    running: RunningGateway, account: MyCarTracksSimulator
) -> None:
    await connect(running, account.settings())
    await until(lambda: device(running))
    await account.stop()
    await until(lambda: _is(running, "retrying"))

    account.move(123, 48.2, 17.2, 36.0)
    await account.start()

    assert await until(lambda: _at(running, 48.2))
    await until(lambda: _is(running, "running"))


async def test_no_secret_is_in_the_file_the_answers_or_the_log(
    running: RunningGateway, account: MyCarTracksSimulator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    await connect(running, account.settings())
    await until(lambda: device(running))
    await until(lambda: _true(account.open_sockets == 1))
    tokens = {CANARY, *(session.token for session in account._sessions.values())}
    account.faults.websocket_host = "evil.example"
    account.drop_sockets()
    await until(lambda: _fails(running, "allowed_stream_hosts"))
    tokens |= {*account._desk._tokens, *(session.token for session in account._sessions.values())}

    answers = json.dumps([await call(running, "GET", path) for path in ("/connections", "/connections/vans")])
    said = "".join(capfd.readouterr())
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("waybridge.db*"))

    assert len(tokens) >= 3
    for token in tokens:
        assert token not in answers
        assert token not in said
        assert token.encode() not in kept


def test_a_busy_port_is_said_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cli = Typer()
        cli.command()(command)
        arguments = ["--port", str(taken.getsockname()[1])]
        answer = CliRunner().invoke(cli, arguments)

    assert answer.exit_code == 1
    assert "cannot listen" in answer.output


async def _is(running: RunningGateway, wanted: str) -> bool:
    return await state(running) == wanted


async def _true(fact: bool) -> bool:
    return fact


async def _fails(running: RunningGateway, said: str) -> bool:
    return said in ((await call(running, "GET", "/connections/vans"))["last_error"] or "")


async def _at(running: RunningGateway, latitude: float) -> bool:
    found = await device(running)
    return found is not None and found["position"]["latitude"] == latitude
