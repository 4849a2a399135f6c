"""`waybridge demo`: the main job with every provider's demo fleet, in a temporary folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog

from waybridge import logs
from waybridge.cli.serve import bind, serving
from waybridge.plugins import Plugins
from waybridge.provider import Demo, DemoSite
from waybridge.settings import load

if TYPE_CHECKING:
    from waybridge.house import House
    from waybridge.roster import Device

log = structlog.get_logger("waybridge.demo")
DATA = Path(__file__).resolve().parent.parent / "demo_data"
INSTANCE = "default"
PATIENCE_SECONDS = 45.0


async def demo(port: int, seconds: float | None) -> int:
    """Runs until a signal or for so many seconds; returns the exit code."""
    logs.configure("text", os.environ.get("WAYBRIDGE_LOG_LEVEL", "warning"))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    listening = bind("127.0.0.1", port)
    port = listening.getsockname()[1]
    listening.close()
    with tempfile.TemporaryDirectory(prefix="waybridge-demo-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            await _play(stack, Path(folder), f"http://127.0.0.1:{port}", port, stop)
    return 0


async def _play(stack: contextlib.AsyncExitStack, folder: Path, url: str, port: int, stop: asyncio.Event) -> None:
    fleets = {kind: kind_class.demo() for kind, kind_class in Plugins().providers.items() if kind_class.demo}
    settings = load(None, cwd=folder, environ={}, overrides=_overrides(folder, port, []))
    token = _token(settings)
    routes = list(json.loads((DATA / "routes.json").read_text()).values())
    connections: list[dict[str, Any]] = []
    for kind, fleet in fleets.items():
        connection_id = kind if kind == "native" else f"demo-{kind.replace('_', '-')}"
        site = DemoSite(gateway_url=url, connection_id=connection_id, token=token, routes=routes)
        given = dict(await fleet.start(site))
        stack.push_async_callback(fleet.stop)
        if kind != "native":
            connections.append(
                {"id": connection_id, "provider": kind, "instance_id": INSTANCE, "settings": given}
            )
    settings = load(None, cwd=folder, environ={}, overrides=_overrides(folder, port, connections))
    house, _ = await stack.enter_async_context(serving(settings))
    driving = [asyncio.create_task(_drive(kind, fleet), name=f"demo {kind}") for kind, fleet in fleets.items()]
    sharing = asyncio.create_task(_share(house, fleets, url, token), name="demo links")
    try:
        await stop.wait()
    finally:
        for task in (*driving, sharing):
            task.cancel()
        await asyncio.gather(*driving, sharing, return_exceptions=True)


def _overrides(folder: Path, port: int, connections: list[dict[str, Any]]) -> dict[str, Any]:
    streets = DATA / "helsinki.pmtiles"
    return {
        "database_url": f"sqlite+aiosqlite:///{folder / 'waybridge.db'}",
        "server": {"host": "127.0.0.1", "port": port},
        "metrics_listen": "",
        "connections": connections,
        **({"map": {"basemap": f"pmtiles:{streets}"}} if streets.is_file() else {}),
    }


def _token(settings: Any) -> str:
    from waybridge.cli.tokens import token  # noqa: PLC0415

    return token(settings, [INSTANCE], "read write ingest", None, "24h")


async def _drive(kind: str, fleet: Demo) -> None:
    """A fleet that stumbles (the gateway is slow to start) goes on."""
    while True:
        try:
            await fleet.drive()
        except (aiohttp.ClientError, OSError) as error:
            log.warning("A demo fleet stumbled", provider=kind, error=str(error))
        await asyncio.sleep(1)


async def _share(house: House, fleets: dict[str, Demo], url: str, token: str) -> None:
    """Makes a share link for the first source of each fleet as soon as it is known, and prints everything."""
    _say(f"Tracker {url}/embed/tracker?instance_id={INSTANCE}#token={token}")
    _say(f"Token {token}")
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
        await asyncio.gather(*(_link(house, http, kind, fleet, url) for kind, fleet in fleets.items()))


async def _link(house: House, http: aiohttp.ClientSession, kind: str, fleet: Demo, url: str) -> None:
    external_id, destination = fleet.sources[0]
    connection_id = kind if kind == "native" else f"demo-{kind.replace('_', '-')}"
    device = await _known(house, connection_id, external_id)
    if device is None:
        log.error("A demo fleet did not come in", provider=kind)
        return
    if device.display_name == device.token and (device.profile or {}).get("phone"):
        field = f"{url}/api/v1/devices/{device.token}/metadata/display-field?instance_id={INSTANCE}"
        async with http.patch(field, json={"display_field": "phone"}):
            pass
    body = {
        "device_token": device.token,
        "instance_id": INSTANCE,
        "expires_in_hours": 24,
        "recipient_name": "Jane Doe",
        "notes": "Your package is on the way!",
        **({"destination": destination} if destination else {}),
    }
    async with http.post(f"{url}/api/v1/sharing/sessions", json=body) as response:
        answer = await response.json()
        if response.status != 201:
            log.error("A share link could not be made", provider=kind, answer=answer)
            return
    _say(f"Share {answer['share_url']} {device.display_name} ({kind})")


async def _known(house: House, connection_id: str, external_id: str) -> Device | None:
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        source = house.roster.source(INSTANCE, connection_id, external_id)
        if source is not None and source.last is not None:
            return source.device
        await asyncio.sleep(0.2)
    return None


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
