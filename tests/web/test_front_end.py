"""The front end's own checks: its types, and its unit tests by vitest; and that what is installed is what is built."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

from waybridge.web.bundle import DIST

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "gateway" / "pages"


@pytest.fixture
def hook() -> Any:
    """The build hook as hatchling loads it."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.node
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", [["typescript/bin/tsc", "--noEmit"], ["vitest/vitest.mjs", "run"]])
async def test_types_and_unit_tests_hold(hook: Any, command: list[str]) -> None:
    try:
        folder, npm = hook.node_and_npm()
    except RuntimeError as error:
        pytest.skip(str(error))
    path = os.pathsep.join([str(folder), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "CI": "1", "NODE_USE_SYSTEM_CA": "1"}
    script = PAGES / "node_modules" / command[0]
    if not script.is_file():  # an installation brings what builds the pages, not what checks them
        more = ["install", "--no-save", "--include=dev", "--no-audit", "--no-fund", "--ignore-scripts"]
        await succeeds([*npm, *more], environment)
    await succeeds([str(folder / "node"), str(script), *command[1:]], environment)


async def succeeds(command: list[str], environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=PAGES, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


def test_the_lock_names_no_registry_host() -> None:
    lock = json.loads((PAGES / "package-lock.json").read_text("utf-8"))
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []


def test_the_hook_builds_into_the_folder_that_is_served(hook: Any) -> None:
    assert DIST.relative_to(ROOT).as_posix() == hook.OUTPUT


def test_only_a_change_of_the_sources_builds_them_again(hook: Any, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.ts").write_text("1")
    before = hook.sources_digest(tmp_path)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "x.js").write_text("anything")
    assert hook.sources_digest(tmp_path) == before
    (tmp_path / "src" / "a.ts").write_text("2")
    assert hook.sources_digest(tmp_path) != before
