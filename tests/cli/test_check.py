"""`waybridge check`: every connection is proved, and what is wrong is said in a sentence each."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from running import running_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _check(folder: Path, toml: str) -> subprocess.CompletedProcess[str]:
    (folder / "waybridge.toml").write_text(toml)
    command = [sys.executable, "-m", "waybridge", "check"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_a_misspelt_setting_of_a_connection_is_named_with_what_it_most_likely_means(tmp_path: Path) -> None:
    checked = _check(
        tmp_path,
        '[[connections]]\nid = "vans"\nprovider = "mycartracks"\n'
        'settings = {client_id = "a", client_secre = "never-to-be-shown", client_secret = "b"}\n',
    )
    assert checked.returncode == 1
    assert checked.stderr == "connection vans: client_secre: unknown key; did you mean client_secret?\n"


def test_rules_over_several_settings_are_said_plainly(tmp_path: Path) -> None:
    checked = _check(
        tmp_path,
        '[[connections]]\nid = "vans"\nprovider = "mycartracks"\n'
        'settings = {client_id = "a", client_secret = "b", vehicle_ids = [1], vehicle_group_ids = [2]}\n',
    )
    assert checked.returncode == 1
    assert checked.stderr.startswith("connection vans: vehicle_ids and vehicle_group_ids exclude each other")


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address on which nobody listens and nobody else can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


async def test_connections_made_through_the_api_are_proved_too(tmp_path: Path, nobody: str) -> None:
    settings = {
        "client_id": "c",
        "client_secret": "never-to-be-shown",
        "base_url": f"{nobody}/v3",
        "token_url": f"{nobody}/oauth/token",
    }
    database = f"sqlite+aiosqlite:///{tmp_path / 'waybridge.db'}"
    async with running_gateway(database, tmp_path, webhooks={"allow_private_targets": True}) as gateway:
        body = {"connection_id": "vans", "provider": "mycartracks", "instance_id": "default", "settings": settings}
        async with gateway.http.post(
            f"{gateway.url}/api/v1/connections", json=body, headers=gateway.headers()
        ) as response:
            assert response.status == 201
        misspelt = {**body, "connection_id": "more", "settings": {**settings, "page_sise": 5}}
        async with gateway.http.post(
            f"{gateway.url}/api/v1/connections", json=misspelt, headers=gateway.headers()
        ) as response:
            told = await response.json()
    checked = _check(tmp_path, "[webhooks]\nallow_private_targets = true\n")

    assert told["errors"] == [
        {"field": "settings.page_sise", "message": "unknown key; did you mean page_size?"}
    ], json.dumps(told)
    assert checked.returncode == 1
    assert checked.stderr.startswith("connection vans: ")
    assert checked.stderr.count("\n") == 1
    assert "never-to-be-shown" not in checked.stderr
