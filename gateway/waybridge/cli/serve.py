"""`waybridge serve`: the gateway, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from waybridge import logs
from waybridge.api.guard import GuardedRunner
from waybridge.app import make_app
from waybridge.cli.common import load_settings, run
from waybridge.errors import ConfigurationError
from waybridge.house import House

if TYPE_CHECKING:
    from collections.abc import Mapping

    from waybridge.settings import Settings

log = structlog.get_logger("waybridge.serve")
STOP_SECONDS = 3.0
"""How long requests that are under way may take to end."""
LAST_SECONDS = 9.0
"""What has not ended so long after the signal is cut off: all that was acknowledged is in the database by then."""
COLLECT_AFTER = (50_000, 20, 20)
"""Objects made beyond those freed until garbage is looked for. A group of 1,000 positions makes some 10,000 that
live until its commit; looked through every 700, as is usual, they took half of the processor.
"""


def serve(config: Path | None, overrides: Mapping[str, Any], workers: int) -> int:
    """Runs the gateway in this process, or in several on the same port; returns the exit code."""
    settings = load_settings(config, overrides)
    logs.configure(settings.log_format, settings.log_level)
    if workers > 1:
        from waybridge.cli.workers import run_workers  # noqa: PLC0415 - only where it is asked for

        return run_workers(settings, workers, config, overrides)
    run(serve_until_signal(settings))
    return 0


async def serve_until_signal(settings: Settings, *, reuse_port: bool = False) -> None:
    """Serves until SIGTERM or SIGINT, then flushes and returns."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings, reuse_port=reuse_port) as (house, url):
        gc.collect()
        gc.freeze()  # what was loaded at the start stays: it is never looked through again
        gc.set_threshold(*COLLECT_AFTER)
        log.info("Waybridge is ready", url=url, node=house.node.id, devices=len(house.roster))
        await stop.wait()
        log.info("Stopping")
        loop.call_later(LAST_SECONDS, _cut_off)


def _cut_off() -> None:
    """Ends the process: something (a vendor's code, a database) does not let it go."""
    log.warning("Stopping takes too long; what is left is cut off")
    os._exit(0)


@contextlib.asynccontextmanager
async def serving(settings: Settings, *, reuse_port: bool = False) -> AsyncIterator[tuple[House, str]]:
    """A gateway that serves; leaves after everything is flushed. Yields the house and its address."""
    listening = bind(settings.server.host, settings.server.port, reuse_port=reuse_port)
    port = listening.getsockname()[1]
    settings = settings.on(settings.server.host, port)
    try:
        house = House(settings, shared_file=reuse_port and settings.database_url.startswith("sqlite"))
        async with house.living():
            app = make_app(house)
            runner = GuardedRunner(app, shutdown_timeout=STOP_SECONDS)
            await runner.setup()
            site = web.SockSite(runner, listening, backlog=1024)
            await site.start()
            async with metrics_server(settings.metrics_listen):
                try:
                    yield house, settings.base_url
                finally:
                    await site.stop()
                    await runner.cleanup()
    finally:
        listening.close()


def bind(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening address. Raises ConfigurationError when it is taken."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    listening.setblocking(False)
    return listening


@contextlib.asynccontextmanager
async def metrics_server(listen: str) -> AsyncIterator[None]:
    """Prometheus' page on a listener of its own; a busy port is said and stops nothing."""
    if not listen:
        yield
        return
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest  # noqa: PLC0415

    from waybridge.metrics import REGISTRY  # noqa: PLC0415

    async def page(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as error:
        log.warning("Metrics are not served: the address is taken", listen=listen, problem=str(error))
    try:
        yield
    finally:
        await runner.cleanup()
