"""What the tests of the pages share: a real gateway, a real Chromium, and a wire between them that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser, BrowserContext, FrameLocator, Locator, Page, async_playwright

import waybridge
from waybridge.cli.serve import serving
from waybridge.house import House
from waybridge.settings import Settings

HELSINKI = Path(waybridge.__file__).parent / "demo_data" / "helsinki.pmtiles"
ROUTES = HELSINKI.with_name("routes.json")
AXE = Path(__file__).parents[2] / "gateway" / "pages" / "node_modules" / "axe-core" / "axe.min.js"
SECRET = "a secret of the tests, long enough for HS256 tokens"
INSTANCE = "default"
FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-dev-shm-usage",
]
MAP_READY = 30_000
FOR_AXE: dict[str, Any] = {"bypass_csp": True, "reduced_motion": "reduce"}
"""How a context is opened in which axe runs: it is a script of nobody's policy, and fades would lower contrasts."""
DESTINATION = {"latitude": 60.1764, "longitude": 24.9466, "label": "Siltasaarenkatu 4, Helsinki"}
STATION = (60.1700, 24.9410)
FLEET = [
    ("van-7", "Van 7", 60.1700, 24.9410),
    ("van-12", "Van 12", 60.1710, 24.9450),
    ("bike-3", "Bike 3", 60.1690, 24.9480),
]


def chromium_path() -> str:
    """The browser of this machine, or a skip with the reason."""
    found = os.environ.get("WAYBRIDGE_CHROMIUM") or next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    return found


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    path = chromium_path()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Gateway:
    """A running gateway and what a platform would do with it."""

    house: House
    url: str
    http: aiohttp.ClientSession
    clock: float = field(default_factory=lambda: time.time() - 60)

    def token(self, scope: str = "read write ingest", instances: tuple[str, ...] = (INSTANCE,)) -> str:
        return self.house.auth.issue(subject="tests", instances=list(instances), scope=scope, ttl=3600)

    async def call(self, method: str, path: str, body: Any = None, *, expect: tuple[int, ...] = (200, 201)) -> Any:
        headers = {"Authorization": f"Bearer {self.token()}"}
        async with self.http.request(method, self.url + path, json=body, headers=headers) as answer:
            text = await answer.text()
            assert answer.status in expect, f"{method} {path}: {answer.status} {text}"
            return json.loads(text) if text else None

    async def name(self, device: str, full_name: str) -> None:
        path = f"/api/v1/devices/{device}/metadata/profile?instance_id={INSTANCE}"
        await self.call("PUT", path, {"full_name": full_name})

    async def push(
        self,
        device: str,
        latitude: float,
        longitude: float,
        *,
        speed: float | None = 10.0,
        heading: float | None = 90.0,
        ago: float = 0,
    ) -> None:
        body = {
            "instance_id": INSTANCE,
            "device_token": device,
            "latitude": latitude,
            "longitude": longitude,
            "timestamp": time.time() - ago,
            "speed": speed,
            "heading": heading,
        }
        answer = await self.call("POST", "/ingest/native/positions", {k: v for k, v in body.items() if v is not None})
        assert answer["accepted"] == 1, answer

    async def share(self, device: str, **more: Any) -> dict[str, Any]:
        body = {"device_token": device, "instance_id": INSTANCE, **more}
        made: dict[str, Any] = await self.call("POST", "/api/v1/sharing/sessions", body)
        return made

    async def live_share(self, device: str = "van-7", **more: Any) -> dict[str, Any]:
        """A named device on its way to a destination, and a link to it with everything on."""
        await self.name(device, "John Smith")
        await self.push(device, *STATION)
        usual: dict[str, Any] = {
            "destination": DESTINATION,
            "recipient_name": "Jane",
            "notes": "Your package is on the way! Please have your ID ready.",
            "order_id": "ORD-2024-1234",
            "share_config": {"update_interval_seconds": 1},
        }
        return await self.share(device, **(usual | more))

    async def session(self, method: str, session: dict[str, Any], body: Any = None, tail: str = "") -> Any:
        path = f"/api/v1/sharing/sessions/{session['id']}{tail}?instance_id={INSTANCE}"
        return await self.call(method, path, body)


@contextlib.asynccontextmanager
async def running(folder: Path, **more: Any) -> AsyncIterator[Gateway]:
    """A real gateway on a free port, with Helsinki's streets unless told otherwise."""
    usual: dict[str, Any] = {
        "secret_keys": [SECRET],
        "database_url": f"sqlite+aiosqlite:///{folder / 'web.db'}",
        "metrics_listen": "",
        "server": {"host": "127.0.0.1", "port": 0},
        "map": {"basemap": f"pmtiles:{HELSINKI}"},
        "brand": {"name": "Northwind Couriers"},
        "limits": {"public_requests_per_minute": 100_000},
    }
    settings = Settings.model_validate(usual | more)
    async with (
        serving(settings) as (house, url),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        yield Gateway(house, url, http)


class Wire:
    """A TCP relay before the gateway. `cut` closes every connection and refuses new ones until `mend`."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.accepted = 0

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._open |= {writer, there_writer}
        try:
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        finally:
            self._open -= {writer, there_writer}
            writer.close()
            there_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass
class Watch:
    """A page, and all that went wrong in it or left it."""

    page: Page
    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    sockets: list[str] = field(default_factory=list)

    async def violations(self) -> list[str]:
        found: list[str] = await self.page.evaluate("window.__violations")
        return found


async def watched(context: BrowserContext) -> Watch:
    """A page that keeps its errors, its CSP violations and the hosts it asked."""
    page = await context.new_page()
    watch = Watch(page)
    await page.add_init_script(
        "window.__violations = []; document.addEventListener('securitypolicyviolation',"
        " (e) => window.__violations.push(`${e.violatedDirective} ${e.blockedURI}`))"
    )
    page.on("pageerror", lambda error: watch.errors.append(str(error)))
    page.on("request", lambda request: watch.hosts.add(request.url.split("/")[2] if "://" in request.url else "-"))
    page.on("websocket", lambda socket: watch.sockets.append(socket.url))
    return watch


async def until(question: Any, *, seconds: float = 20) -> Any:
    """Asks until the answer is true. For what a page shows use its own selectors; this is for everything else."""
    async with asyncio.timeout(seconds):
        while True:
            answer = await question()
            if answer:
                return answer
            await asyncio.sleep(0.05)


async def open_map(page: Page, url: str) -> None:
    await page.goto(url)
    await page.wait_for_selector("html[data-map=ready]", timeout=MAP_READY)


async def state(page: Page, name: str, seconds: float = 20) -> None:
    await page.wait_for_selector(f"#conn[data-state={name}]", timeout=seconds * 1000)


async def centre_of(page: Page, selector: str) -> tuple[float, float]:
    box = await page.locator(selector).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


async def varied(page: Page) -> bool:
    """Whether the map is more than one colour: PNG packs a blank picture into next to nothing."""
    clip = {"x": 60, "y": 120, "width": 240, "height": 240}
    return len(await page.screenshot(clip=clip)) > 6000  # type: ignore[arg-type]


async def axe(page: Page) -> list[str]:
    """Rules of WCAG 2.2 A and AA that the page breaks, with where."""
    if not AXE.is_file():
        pytest.skip("needs axe-core (npm ci in gateway/pages)")
    await page.evaluate(AXE.read_text("utf-8"))
    result = await page.evaluate("axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa'] })")
    return [json.dumps([each["id"], [node["target"] for node in each["nodes"]]]) for each in result["violations"]]


async def fleet(gateway: Gateway) -> None:
    for device, name, latitude, longitude in FLEET:
        await gateway.name(device, name)
        await gateway.push(device, latitude, longitude)


async def open_tracker(page: Page, gateway: Gateway, *, token: str | None = None) -> None:
    await page.goto(f"{gateway.url}/embed/tracker?instance_id={INSTANCE}#token={token or gateway.token()}")
    await page.wait_for_selector("live-tracker[data-map=ready]", timeout=MAP_READY)


def row(root: Page | FrameLocator, device: str) -> Locator:
    return root.locator(f"[data-token={device}]")
