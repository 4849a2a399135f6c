"""`waybridge watch`: an instance's devices, live in the terminal; lines instead of a table where there is none.

The list is read from `GET /devices` every few seconds (it knows providers and who is online), movement comes over
the realtime socket in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import aiohttp
import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from waybridge.errors import ConfigurationError

PAGE = 500
LIST_SECONDS = 10.0
REDRAW_SECONDS = 0.5
ANSWER_SECONDS = 15.0
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
FINAL = {1000: "ended the stream", 1008: "refused our frames", 4001: "refused the token",
         4003: "has no such instance for this token", 4009: "gave the stream to a newer connection"}  # fmt: skip
"""Close codes after which one does not come back."""
NO_SUCH_ROUTE = (401, 403, 404, 422)

Say: TypeAlias = Callable[["Row"], None]


class _Position(msgspec.Struct):
    timestamp: float | None = None
    speed: float | None = None
    latitude: float | None = None
    longitude: float | None = None


class _Trip(msgspec.Struct):
    track_token: str
    status: str


class _Item(msgspec.Struct):
    device_token: str
    display_identifier: str | None
    provider: str | None
    online: bool | None
    sharing: bool
    position: _Position | None
    trip: _Trip | None


class _Devices(msgspec.Struct):
    """The answer of `GET /devices`: what is read of it."""

    devices: list[_Item]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A device as it is shown; `at` is its fix's unix time, `speed` m/s. Unknown is None."""

    token: str
    name: str = ""
    provider: str | None = None
    online: bool | None = None
    sharing: bool = True
    at: float | None = None
    speed: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    trip: str | None = None

    def cells(self, now: float) -> tuple[str, ...]:
        """What the table's columns show, in their order."""
        return (
            _clean(self.name or self.token),
            _clean(self.provider or "-"),
            {True: "online", False: "offline", None: "-"}[self.online],
            "yes" if self.sharing else "no",
            "-" if self.at is None else _age(now - self.at),
            "-" if self.speed is None else f"{self.speed * 3.6:.0f}",
            "-" if self.latitude is None or self.longitude is None else f"{self.latitude:.5f} {self.longitude:.5f}",
            _clean(self.trip or "-")[:13],
        )


COLUMNS = ("device", "provider", "state", "sharing", "age", "km/h", "latitude longitude", "trip")


class Fleet:
    """All rows. `changed` is called with a device that moved or changed its state."""

    def __init__(self, changed: Say) -> None:
        self.rows: dict[str, Row] = {}
        self._changed = changed

    def take_list(self, items: Sequence[_Item]) -> None:
        """The answer of `GET /devices`, whole: who is not in it is gone."""
        rows = {item.device_token: _listed(item) for item in items}
        before, self.rows = self.rows, {}
        for token, row in rows.items():
            known = before.get(token)
            if known is not None and known.at is not None and row.sharing and known.at > (row.at or 0.0):
                row = replace(  # noqa: PLW2901 - the socket was quicker than the list
                    row, at=known.at, speed=known.speed, latitude=known.latitude, longitude=known.longitude
                )
            self._keep(row, known)

    def take_frame(self, frame: Mapping[str, Any]) -> None:
        """A frame of the realtime socket; those that are not understood are left out."""
        token = frame.get("DeviceToken")
        if not isinstance(token, str):
            return
        known = self.rows.get(token, Row(token=token))
        match frame.get("type"):
            case "position":
                row = replace(
                    known,
                    name=frame.get("DisplayIdentifier") or known.name,
                    sharing=True,
                    at=frame["Timestamp"],
                    speed=frame.get("Speed"),
                    latitude=frame["Lat"],
                    longitude=frame["Lng"],
                    trip=frame.get("TrackToken"),
                )
            case "sharing_stopped":
                row = replace(known, sharing=False, at=None, speed=None, latitude=None, longitude=None)
            case _:
                return
        self._keep(row, self.rows.get(token))

    def table(self, title: str, now: float) -> Table:
        """The whole fleet, by name."""
        table = Table(*COLUMNS, title=title, expand=True)
        for row in sorted(self.rows.values(), key=lambda row: (row.name.casefold(), row.token)):
            table.add_row(*row.cells(now), style=None if row.online else "dim")
        return table

    def _keep(self, row: Row, known: Row | None) -> None:
        self.rows[row.token] = row
        if row != known:
            self._changed(row)


class Watch:
    """One gateway, followed until `stop` is set. `sleep` waits between tries; tests hand in their own."""

    def __init__(
        self,
        url: str,
        token: str,
        instance: str,
        console: Console,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._instance = instance
        self._console = console
        self._clock = clock
        self._sleep = sleep
        self._state = "connecting"
        self.fleet = Fleet(self._line)

    async def run(self, stop: asyncio.Event) -> None:
        """Raises ConfigurationError when the gateway cannot be reached at first, or refuses us for good."""
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"}, timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        ) as http:
            try:
                await self._list(http)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise ConfigurationError(f"the gateway at {self._url} does not answer: {error}") from error
            tasks = [
                asyncio.create_task(self._follow(http), name="watch socket"),
                asyncio.create_task(self._refresh(http), name="watch list"),
                asyncio.create_task(self._draw(), name="watch table"),
                asyncio.create_task(stop.wait(), name="watch stop"),
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _list(self, http: aiohttp.ClientSession) -> None:
        items: list[_Item] = []
        total = 1
        while len(items) < total:
            query: dict[str, str | int] = {"instance_id": self._instance, "limit": PAGE, "offset": len(items)}
            async with http.get(f"{self._url}/api/v1/devices", params=query) as response:
                if response.status in NO_SUCH_ROUTE:
                    raise ConfigurationError(f"the gateway at {self._url} refuses: {await _detail(response)}")
                response.raise_for_status()
                try:
                    answer = msgspec.json.decode(await response.read(), type=_Devices)
                except msgspec.DecodeError as error:
                    raise ConfigurationError(f"what answers at {self._url} is no Waybridge: {error}") from error
            if not answer.devices:
                break
            items += answer.devices
            total = answer.total
        self.fleet.take_list(items)

    async def _refresh(self, http: aiohttp.ClientSession) -> None:
        while True:
            await asyncio.sleep(LIST_SECONDS)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # the socket's state says that it is away
                await self._list(http)

    async def _follow(self, http: aiohttp.ClientSession) -> None:
        """The socket, again and again: full jitter, from half a second to half a minute, anew after each welcome."""
        failures = 0
        while True:
            try:
                code, welcomed = await self._once(http)
            except (aiohttp.ClientError, TimeoutError):
                code, welcomed = 1006, False
            if code in FINAL:
                raise ConfigurationError(f"the gateway at {self._url} {FINAL[code]}")
            failures = 1 if welcomed else failures + 1
            self._state = f"reconnecting ({code})"
            await self._sleep(random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(failures, 10))))  # noqa: S311

    async def _once(self, http: aiohttp.ClientSession) -> tuple[int, bool]:
        """One connection from its first frame to its close: (close code, whether it was let in)."""
        welcomed = False
        async with http.ws_connect(f"{self._url}/api/v1/ws/realtime", heartbeat=30) as ws:
            await ws.send_json({"type": "authenticate", "jwt": self._token, "instance_id": self._instance})
            async for message in ws:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                frame = msgspec.json.decode(message.data)
                if frame.get("type") == "welcome":
                    welcomed = True
                    self._state = "live"
                self.fleet.take_frame(frame)
            return ws.close_code or 1006, welcomed

    async def _draw(self) -> None:
        if not self._console.is_terminal:
            await asyncio.Event().wait()
        with Live(self._table(), console=self._console, auto_refresh=False, screen=True) as live:
            while True:
                await asyncio.sleep(REDRAW_SECONDS)
                live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        return self.fleet.table(f"{self._instance} at {self._url}: {self._state}", self._clock())

    def _line(self, row: Row) -> None:
        if not self._console.is_terminal:
            line = "  ".join(
                f"{name}={cell}" for name, cell in zip(COLUMNS, row.cells(self._clock()), strict=True) if cell != "-"
            )
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


async def watch(url: str, token: str, instance: str, *, console: Console | None = None) -> int:
    """Shows devices until it is interrupted or terminated; returns the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await Watch(url, token, instance, console or Console()).run(stop)
    return 0


def _listed(item: _Item) -> Row:
    position, trip = item.position or _Position(), item.trip
    return Row(
        token=item.device_token,
        name=item.display_identifier or "",
        provider=item.provider,
        online=item.online,
        sharing=item.sharing,
        at=position.timestamp,
        speed=position.speed,
        latitude=position.latitude,
        longitude=position.longitude,
        trip=trip.track_token if trip is not None and trip.status == "active" else None,
    )


async def _detail(response: aiohttp.ClientResponse) -> str:
    try:
        return str(msgspec.json.decode(await response.read())["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"status {response.status}"


def _age(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


def _clean(text: str) -> str:
    """Without control characters: a stranger's name never reaches the terminal as a command."""
    return "".join(character if character.isprintable() else "?" for character in text)
