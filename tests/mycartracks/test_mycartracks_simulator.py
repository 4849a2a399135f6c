"""The stand-in speaks as the vendor's documents show: its frames against their examples, their own clients on it."""

from __future__ import annotations

import ast
import asyncio
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from mycartracks_harness import HandClock, settle
from test_mycartracks_payload import OFFLINE, POSITION, STREAM
from typer import Typer
from typer.testing import CliRunner

import waybridge_mycartracks
from waybridge_mycartracks import MyCarTracks, MyCarTracksSimulator
from waybridge_mycartracks.simulator import Refusal, command, parse_faults, read_routes, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Path(__file__).parent


class Client:
    """A bare client of the vendor's API, knowing nothing of ours."""

    def __init__(self, session: aiohttp.ClientSession, vendor: MyCarTracksSimulator) -> None:
        self.session = session
        self.vendor = vendor
        self.headers: dict[str, str] = {}

    async def log_in(self) -> None:
        form = {"grant_type": "client_credentials", "scope": "read"}
        form |= {"client_id": self.vendor.client_id, "client_secret": self.vendor.client_secret}
        async with self.session.post(self.vendor.token_url, data=form) as answer:
            self.headers = {"Authorization": f"Bearer {(await answer.json())['access_token']}"}

    async def stream(self, **body: Any) -> dict[str, Any]:
        url = f"{self.vendor.base_url}/vehicles/livePositions/stream"
        async with self.session.post(url, json=body, headers=self.headers) as answer:
            return {"status": answer.status} | await answer.json()


@pytest.fixture
async def client(http: aiohttp.ClientSession, vendor: MyCarTracksSimulator) -> AsyncIterator[Client]:
    made = Client(http, vendor)
    await made.log_in()
    yield made


async def test_frames_are_the_documented_ones(client: Client, vendor: MyCarTracksSimulator, clock: HandClock) -> None:
    vendor.set_vehicle(123, "Van 12", user_id=42, user_name="John Smith")
    stream = await client.stream(vehicleIds=[123])
    assert set(stream) - {"status"} == set(json.loads(STREAM))
    assert (len(stream["streamId"]), stream["streamId"][:4]) == (len(json.loads(STREAM)["streamId"]), "lps_")
    async with client.session.ws_connect(stream["websocketUrl"]) as ws:
        assert await ws.receive_json() == {"type": "connected", "streamId": stream["streamId"]}
        vendor.move(123, 48.1486, 17.1077, 42.5, 90.0, recorded_at=datetime(2026, 6, 1, 14, 21, 35, tzinfo=UTC))
        vendor.vehicles[123].received_at = datetime(2026, 6, 1, 14, 21, 38, tzinfo=UTC)
        assert await ws.receive_json() == json.loads(POSITION)
        vendor.vehicles[123].recorded_at = datetime(2026, 6, 1, 14, 19, 12, tzinfo=UTC)
        vendor.offline(123)
        assert await ws.receive_json() == json.loads(OFFLINE)
        await clock.advance(30)
        assert await ws.receive_json() == {"type": "heartbeat", "sentAt": "2026-06-01T14:00:30Z"}
        await clock.advance(510)
        kinds = [(await ws.receive_json())["type"] for _ in range(17)]
        assert kinds == ["heartbeat"] * 16 + ["error"]
        assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_a_stream_address_serves_once(client: Client, vendor: MyCarTracksSimulator) -> None:
    stream = await client.stream()
    async with client.session.ws_connect(stream["websocketUrl"]):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await client.session.ws_connect(stream["websocketUrl"])
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await client.session.ws_connect(stream["websocketUrl"])
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await client.session.ws_connect((await client.stream())["websocketUrl"].split("?")[0])
    assert vendor.sockets_refused == 3


async def test_only_chosen_vehicles_and_fields_at_the_chosen_pace(
    client: Client, vendor: MyCarTracksSimulator, clock: HandClock
) -> None:
    vendor.set_vehicle(1, groups=[10])
    vendor.set_vehicle(2, groups=[20])
    vendor.set_vehicle(3, groups=[10], shared=True)
    stream = await client.stream(
        vehicleGroupIds=[10], includeSharedVehicles=False, minIntervalSeconds=10, fields=["vehicleId", "recordedAt"]
    )
    async with client.session.ws_connect(stream["websocketUrl"]) as ws:
        await ws.receive_json()
        for _ in range(3):
            for vehicle_id in (1, 2, 3):
                vendor.move(vehicle_id, 48.0, 17.0)
            await clock.advance(5)
        events = [await ws.receive_json() for _ in range(2)]
        assert [set(event) for event in events] == [{"type", "vehicleId", "recordedAt"}] * 2
        assert [(event["vehicleId"], event["recordedAt"][-4:]) for event in events] == [
            (1, ":00Z"),
            (1, ":05Z"),
        ]  # told at 0 and 10 s


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"minIntervalSeconds": 4}, 400),
        ({"vehicleIds": [1], "vehicleGroupIds": [2]}, 400),
        ({"vehicleIds": [404]}, 403),
        ({}, 200),
    ],
)
async def test_stream_requests_are_checked(client: Client, body: dict[str, Any], status: int) -> None:
    assert (await client.stream(**body))["status"] == status


async def test_a_scope_without_read_reads_nothing(http: aiohttp.ClientSession, clock: HandClock) -> None:
    vendor = MyCarTracksSimulator(clock=clock, scopes="write")
    await vendor.start()
    form = {"grant_type": "client_credentials", "client_id": vendor.client_id, "client_secret": vendor.client_secret}
    async with http.post(vendor.token_url, data=form) as answer:
        token = (await answer.json())["access_token"]
    url = f"{vendor.base_url}/vehicles/lastPositions"
    async with http.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
        assert answer.status == 403
    await vendor.stop()


async def test_it_comes_back_at_the_same_address(vendor: MyCarTracksSimulator, http: aiohttp.ClientSession) -> None:
    before = vendor.url
    await vendor.stop()
    assert await vendor.start() == before
    async with http.post(vendor.token_url) as answer:
        assert answer.status == 401


async def test_vehicles_drive_along_their_routes(vendor: MyCarTracksSimulator, clock: HandClock) -> None:
    (vehicle_id,) = vendor.staff(1)
    route = [[17.0, 48.0], [17.001, 48.0]]  # 74 m east
    driving = asyncio.create_task(vendor.drive({vehicle_id: route}, speed_kmh=45, every=5))
    seen: list[tuple[float, float]] = []
    for _ in range(4):
        await clock.advance(0)
        vehicle = vendor.vehicles[vehicle_id]
        seen.append((round(vehicle.longitude or 0, 5), vehicle.heading or 0))
        await clock.advance(5)
    driving.cancel()

    assert seen == [(17.0, 90.0), (17.00067, 90.0), (17.00066, 270.0), (17.00002, 90.0)]
    assert vehicle.speed_kmh == 36.0


async def test_the_runner_serves_a_moving_fleet_until_it_is_stopped(
    http: aiohttp.ClientSession, clock: HandClock
) -> None:
    stop, said = asyncio.Event(), []
    running = asyncio.create_task(run(vehicles=2, stop=stop, say=said.append, clock=clock))
    for _ in range(100):
        if len(said) == 5:
            break
        await settle()
    settings = dict(line.replace('"', "").split(" = ") for line in said[1:])
    assert set(settings) == {"client_id", "client_secret", "base_url", "token_url"}
    async with http.post(settings["token_url"]) as answer:
        assert answer.status == 401
    stop.set()
    await running
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.post(settings["token_url"])


def test_faults_are_written_on_the_command_line() -> None:
    faults = parse_faults(["stream=429/7", "token=401"], ["mute", "drop_after=20", "websocket_host=evil", "greets=no"])

    assert faults.always == {"stream": Refusal(429, 7.0), "token": Refusal(401, None)}
    assert (faults.mute, faults.drop_after, faults.websocket_host, faults.greets) == (True, 20.0, "evil", False)
    for wrong in (["nothing"], ["always=1"]):
        with pytest.raises(ValueError, match="is no fault"):
            parse_faults([], wrong)
    with pytest.raises(ValueError, match="is not WHAT=STATUS"):
        parse_faults(["stream=often"], [])


def test_a_routes_file_is_a_list_or_named_lists(tmp_path: Path) -> None:
    file = tmp_path / "routes.json"
    file.write_text('{"a": [[17, 48], [17.1, 48]]}')
    assert read_routes(file) == [[[17, 48], [17.1, 48]]]
    file.write_text('{"a": 1}')
    with pytest.raises(ValueError, match="holds no lists"):
        read_routes(file)


def test_the_command_can_be_mounted_and_explains_itself() -> None:
    cli = Typer()
    cli.command("mycartracks")(MyCarTracks.simulator.command)

    answer = CliRunner().invoke(cli, ["--fault", "nothing"])
    helping = CliRunner().invoke(cli, ["--help"])

    assert helping.exit_code == 0
    assert "WHAT=STATUS/SECONDS" in helping.output.replace("\n", " ")

    assert MyCarTracks.simulator.command is command
    assert answer.exit_code == 2
    assert "is no fault" in answer.output.replace("\n", " ")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_documented_curl_works(client: Client, vendor: MyCarTracksSimulator) -> None:
    async def curl(*arguments: str) -> Any:
        process = await asyncio.create_subprocess_exec("curl", "-s", *arguments, stdout=asyncio.subprocess.PIPE)
        return json.loads((await process.communicate())[0])

    vendor.move(123, 48.1486, 17.1077)
    secret = f"{vendor.client_id}:{vendor.client_secret}"
    grant = ("-d", "grant_type=client_credentials", "-d", "scope=read")
    token = (await curl("-X", "POST", vendor.token_url, "-u", secret, *grant))["access_token"]
    bearer = ("-H", f"Authorization: Bearer {token}")
    rows = await curl(f"{vendor.base_url}/vehicles/lastPositions?limit=50", *bearer)
    body = '{"vehicleIds": [123], "includeSharedVehicles": true, "minIntervalSeconds": 5}'
    url = f"{vendor.base_url}/vehicles/livePositions/stream"
    stream = await curl("-X", "POST", url, *bearer, "-H", "Content-Type: application/json", "-d", body)

    assert [row["vehicleId"] for row in rows["data"]] == [123]
    assert stream["websocketUrl"].startswith("ws://127.0.0.1:")


@pytest.mark.node
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
async def test_the_documented_javascript_works() -> None:
    vendor = MyCarTracksSimulator()
    await vendor.start()
    vendor.set_vehicle(123, "Van 12")
    vendor.move(123, 48.1486, 17.1077, 42.5, 90.0)
    process = await asyncio.create_subprocess_exec(
        *("node", "--experimental-websocket", "--no-warnings", str(HERE / "seed_dashboard.mjs")),
        *(vendor.url, vendor.client_id, vendor.client_secret, "2"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    said = []
    async for line in process.stdout:
        said.append(json.loads(line))
        if said[-1]["what"] == "connected":
            vendor.move(123, 48.1490, 17.1080, 42.5, 91.0)
        if said[-1]["what"] == "updateVehicleMarker":
            vendor.offline(123)
    await process.wait()
    await vendor.stop()

    what = [one["what"] for one in said if one["what"] != "open"]
    assert what == ["lastPositions", "stream", "connected", "updateVehicleMarker", "markVehicleOffline"]
    assert next(one["value"] for one in said if one["what"] == "updateVehicleMarker")["heading"] == 91.0


def test_the_stand_in_shares_no_code_with_the_parser() -> None:
    package = Path(waybridge_mycartracks.__file__).parent
    theirs = {path.stem for path in package.glob("simulator*.py")}
    for name in theirs:
        for node in ast.walk(ast.parse((package / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("waybridge"):
                assert (node.module or "").removeprefix("waybridge_mycartracks.") in theirs
