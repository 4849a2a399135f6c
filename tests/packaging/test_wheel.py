"""The built wheel in a clean environment, with a stranger's provider beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from processes import SECRET, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parents[2]
FERRY = ROOT / "docs" / "tutorial" / "waybridge_ferry"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what git knows (and the pages that are built already)."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(folder), str(ROOT)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (built,) = folder.glob("waybridge-*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel and the tutorial's provider; its bin folder."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=True)
    ferry = folder / "ferry"
    shutil.copytree(FERRY, ferry, ignore=shutil.ignore_patterns("__pycache__"))
    bin_folder = folder / "venv" / "bin"
    for package in ([str(wheel)], ["hatchling"], ["--no-deps", "--no-build-isolation", str(ferry)]):
        done = subprocess.run(
            [str(bin_folder / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *package],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return bin_folder


def test_the_wheel_carries_migrations_pages_types_and_every_plugin(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "waybridge/py.typed",
        "waybridge/_migrations/env.py",
        "waybridge/_migrations/versions/0001_first_schema.py",
        "waybridge/demo_data/helsinki.pmtiles",
        "waybridge_native/__init__.py",
        "waybridge_eta_osrm/__init__.py",
    } <= names
    assert any(name.startswith("waybridge/web/dist/") and name.endswith(".br") for name in names)
    folders = {name.partition("/")[0] for name in names}
    assert all(name == "waybridge" or name.startswith(("waybridge_", "waybridge-")) for name in folders), folders


def test_the_commands_work_from_the_wheel(clean: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(clean / "waybridge"), *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False, env=_env(),
        )

    token = run("token", "--instance", "default")
    assert (token.returncode, token.stdout.count("\n"), token.stdout.count(".")) == (0, 1, 2), token.stderr
    found = run("plugins")
    assert found.returncode == 0, found.stdout
    assert "ferry" in found.stdout
    assert "waybridge-ferry" in found.stdout
    migrated = run("migrate")
    assert "0001" in migrated.stdout, migrated.stderr
    assert run("check").returncode == 0
    wrong = run("token")
    assert wrong.returncode == 2
    (tmp_path / "waybridge.toml").write_text('databse_url = "x"\n')
    said = run("check")
    assert said.returncode == 1
    assert "database_url" in said.stderr
    assert "Traceback" not in said.stderr
    assert said.stderr.count("\n") == 1


async def test_a_strangers_provider_streams_beside_the_wheel(clean: Path, tmp_path: Path) -> None:
    async with _harbour() as feed_url:
        (tmp_path / "waybridge.toml").write_text(
            f'metrics_listen = ""\nsecret_keys = ["{SECRET}"]\n'
            '[[connections]]\nid = "harbour"\nprovider = "ferry"\ninstance_id = "default"\n'
            f'[connections.settings]\nfeed_url = "{feed_url}"\napi_key = "the-key"\n'
        )
        port = free_port()
        token = await asyncio.to_thread(_token, clean, tmp_path)
        log = tmp_path / "serve.log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                str(clean / "waybridge"), "serve", "--port", str(port), cwd=tmp_path, env=_env(), stdout=out, stderr=out
            )
        try:
            url = f"http://127.0.0.1:{port}/api/v1/devices?instance_id=default"
            device = await _first_device(url, token, log)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(12):
                assert await process.wait() == 0
    assert device["provider"] == "ferry"
    assert device["sources"] == [
        {"connection_id": "harbour", "external_id": "suomenlinna-2", "provider": "ferry"}
    ]
    assert device["position"]["speed"] == pytest.approx(5.14444)


def test_a_checkout_finds_its_migrations_and_plugins_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "waybridge", "migrate"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=_env(),
    )  # fmt: skip
    assert "0001" in done.stdout, done.stderr


def _env() -> dict[str, str]:
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("WAYBRIDGE_") and key not in ("PYTHONPATH", "VIRTUAL_ENV")
    }


@contextlib.asynccontextmanager
async def _harbour() -> AsyncIterator[str]:
    async def ferries(request: web.Request) -> web.Response:
        if request.headers.get("X-Api-Key") != "the-key":
            return web.json_response({}, status=401)
        now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        ship = {"id": "suomenlinna-2", "lat": 60.1474, "lon": 24.9853, "knots": 10, "time": now}
        return web.json_response({"ferries": [ship]})

    app = web.Application()
    app.router.add_get("/ferries.json", ferries)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/ferries.json"
    finally:
        await runner.cleanup()


def _token(clean: Path, folder: Path) -> str:
    return subprocess.run(
        [str(clean / "waybridge"), "token", "--instance", "default"],
        cwd=folder, capture_output=True, text=True, check=True, env=_env(),
    ).stdout.strip()  # fmt: skip


async def _first_device(url: str, token: str, log: Path) -> dict[str, object]:
    deadline = time.monotonic() + 40
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
        while time.monotonic() < deadline:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    devices = json.loads(await answer.text()).get("devices", [])
                    if devices and devices[0]["position"]:
                        return devices[0]
            await asyncio.sleep(0.1)
    raise AssertionError(log.read_text()[-3000:])
