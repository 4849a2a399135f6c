"""The front end's own checks: its types, and its unit tests by vitest; and that what is installed is what is built."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from waybridge.web.bundle import DIST

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "gateway" / "pages"
SECONDS = 100


@pytest.mark.node
@pytest.mark.parametrize("command", [["typescript/bin/tsc", "--noEmit"], ["vitest/vitest.mjs", "run"]])
async def test_types_and_unit_tests_hold(command: list[str]) -> None:
    script = PAGES / "node_modules" / command[0]
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js")
    if not script.is_file():
        pytest.skip("needs the development packages (npm ci in gateway/pages)")
    process = await asyncio.create_subprocess_exec(
        node,
        str(script),
        *command[1:],
        cwd=PAGES,
        env={**os.environ, "CI": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(SECONDS):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


def test_the_lock_names_no_registry_host() -> None:
    lock = json.loads((PAGES / "package-lock.json").read_text("utf-8"))
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []


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
