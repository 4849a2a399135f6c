"""The vendor's stand-in: MyCarTracks' wire format on loopback, vehicles that drive, a switch for every fault.

`set_vehicle` adds a vehicle, `move` gives it a fix, `offline` takes it off; `drive` does so along routes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from waybridge_mycartracks.simulator_faults import Faults, Refusal
from waybridge_mycartracks.simulator_server import Server
from waybridge_mycartracks.simulator_shape import Shape

__all__ = ["Faults", "MyCarTracksSimulator", "Refusal", "Shape", "command", "run"]

_EARTH_M: Final = 6_371_000.0
_DRIVERS: Final = ("John Smith", "Jana Nováková", "Peter Horváth", "Mária Kováčová", "Ivan Tóth", "Eva Molnárová")
_LOOP: Final = ((17.1077, 48.1486), (17.1140, 48.1502), (17.1212, 48.1475), (17.1190, 48.1431), (17.1101, 48.1440))

Route = Sequence[Sequence[float]]


async def run(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    vehicles: int = 3,
    routes: Sequence[Route] | None = None,
    speed_kmh: float = 40.0,
    every: float = 5.0,
    stop: asyncio.Event | None = None,
    say: Any = print,
    **options: Any,
) -> None:
    """Serves a fleet that drives by itself until `stop` is set; `options` are the simulator's own.

    Says its address and the settings of a connection to it first.
    """
    simulator = MyCarTracksSimulator(**options)
    url = await simulator.start(host, port)
    try:
        say(f"MyCarTracks stand-in at {url}")
        for name, value in simulator.settings().items():
            say(f'{name} = "{value}"')
        ids = simulator.staff(vehicles)
        paths = routes or [_LOOP]
        paths_of = {vehicle_id: paths[index % len(paths)] for index, vehicle_id in enumerate(ids)}
        driving = asyncio.create_task(simulator.drive(paths_of, speed_kmh=speed_kmh, every=every, stop=stop))
        try:
            await (stop.wait() if stop is not None else driving)
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
    finally:
        await simulator.stop()


def command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 9401,
    vehicles: Annotated[int, typer.Option(min=0, max=10_000, help="Vehicles that drive.")] = 3,
    routes: Annotated[Path | None, typer.Option(help="JSON: a list, or an object, of lists of lon,lat pairs.")] = None,
    speed: Annotated[float, typer.Option(help="Mean speed, km/h.")] = 40.0,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between fixes.")] = 5.0,
    client_id: Annotated[str, typer.Option(help="The API client that is let in.")] = "simulated-client.mycartracks.com",
    client_secret: Annotated[str, typer.Option(help="Its secret.")] = "simulated-secret-of-32-characters",  # noqa: S107
    session: Annotated[float, typer.Option(help="Seconds that a stream session lives.")] = 540.0,
    token: Annotated[float, typer.Option(help="Seconds that an access token lives.")] = 3592.0,
    heartbeat: Annotated[int, typer.Option(min=1, help="Seconds between heartbeats.")] = 30,
    refuse: Annotated[
        list[str] | None,
        typer.Option(help="WHAT=STATUS or WHAT=STATUS/SECONDS: refuse every token, lastPositions or stream request."),
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME=VALUE: any other fault, e.g. mute, drop_after=20.")
    ] = None,
) -> None:
    """MyCarTracks' stand-in: token endpoint, last positions and live streams of a fleet that drives by itself."""
    try:
        faults = parse_faults(refuse or (), fault or ())
        paths = None if routes is None else read_routes(routes)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    serving = _until_stopped(
        host=host,
        port=port,
        vehicles=vehicles,
        routes=paths,
        speed_kmh=speed,
        every=every,
        client_id=client_id,
        client_secret=client_secret,
        session_seconds=session,
        token_seconds=token,
        heartbeat_seconds=heartbeat,
        faults=faults,
    )
    try:
        asyncio.run(serving)
    except OSError as error:
        typer.echo(f"cannot listen on {host}:{port}: {error.strerror or error}", err=True)
        raise typer.Exit(1) from error


async def _until_stopped(**options: Any) -> None:
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    await run(stop=stop, say=typer.echo, **options)


class MyCarTracksSimulator(Server):
    """The stand-in server, with vehicles that can be sent along routes."""

    command = staticmethod(command)

    async def drive(
        self,
        routes: Mapping[int, Route],
        *,
        speed_kmh: float = 40.0,
        every: float = 5.0,
        stop: asyncio.Event | None = None,
    ) -> None:
        """Moves vehicles along their routes ([lon, lat] points, there and back) until `stop` is set."""
        travelled = dict.fromkeys(routes, 0.0)
        while stop is None or not stop.is_set():
            for index, (vehicle_id, route) in enumerate(routes.items()):
                pace = speed_kmh * (0.8 + 0.1 * (index % 5))
                lat, lon, heading = _along(route, travelled[vehicle_id])
                self.move(vehicle_id, lat, lon, round(pace, 1), round(heading, 1))
                travelled[vehicle_id] += pace / 3.6 * every
            await self.clock.sleep(every)

    def staff(self, count: int, first_id: int = 101) -> list[int]:
        """Adds `count` named vehicles with drivers; answers their ids."""
        ids = list(range(first_id, first_id + count))
        for index, vehicle_id in enumerate(ids):
            driver = _DRIVERS[index % len(_DRIVERS)]
            self.set_vehicle(vehicle_id, f"Van {vehicle_id}", user_id=40 + index, user_name=driver, groups=(10,))
        return ids


def parse_faults(refusals: Iterable[str], switches: Iterable[str]) -> Faults:
    """Faults as the command line writes them. Raises ValueError."""
    faults = Faults()
    for said in refusals:
        what, _, answer = said.partition("=")
        status, _, retry_after = answer.partition("/")
        if what not in {"token", "lastPositions", "stream"} or not status.isdecimal():
            raise ValueError(f"{said!r} is not WHAT=STATUS[/RETRY_AFTER] with token, lastPositions or stream")
        faults.always[what] = Refusal(int(status), float(retry_after) if retry_after else None)
    for said in switches:
        name, _, value = said.partition("=")
        known = getattr(faults, name, None) if name in Faults.__dataclass_fields__ else ...
        if known is ... or isinstance(known, dict):
            raise ValueError(f"{name!r} is no fault; there are {', '.join(Faults.__dataclass_fields__)}")
        setattr(faults, name, _switch(known, name, value))
    return faults


def read_routes(path: Path) -> list[Route]:
    """The routes of a JSON file: a list of them, or an object of named ones."""
    found = json.loads(path.read_text())
    routes = list(found.values()) if isinstance(found, dict) else found
    if not isinstance(routes, list) or not all(isinstance(route, list) and len(route) > 1 for route in routes):
        raise ValueError(f"{path} holds no lists of [lon, lat]")
    return routes


def _switch(known: Any, name: str, value: str) -> Any:
    if isinstance(known, bool):
        return value.lower() in {"1", "true", "yes", "on"} if value else not known
    if isinstance(known, float) or name == "drop_after":
        return float(value)
    return value


def _along(route: Route, metres: float) -> tuple[float, float, float]:
    """(latitude, longitude, heading) after so many metres on a route that is driven there and back."""
    lengths = [_distance(a, b) for a, b in itertools.pairwise(route)]
    whole = sum(lengths)
    if whole <= 0:
        return route[0][1], route[0][0], 0.0
    rest = metres % (2 * whole)
    back = rest > whole
    rest = 2 * whole - rest if back else rest
    for (a, b), length in zip(itertools.pairwise(route), lengths, strict=True):
        if rest <= length and length > 0:
            share = rest / length
            heading = (_bearing(a, b) + (180.0 if back else 0.0)) % 360
            return a[1] + (b[1] - a[1]) * share, a[0] + (b[0] - a[0]) * share, heading
        rest -= length
    return route[-1][1], route[-1][0], 0.0


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    x = math.radians(b[0] - a[0]) * math.cos(math.radians((a[1] + b[1]) / 2))
    return _EARTH_M * math.hypot(x, math.radians(b[1] - a[1]))


def _bearing(a: Sequence[float], b: Sequence[float]) -> float:
    x = (b[0] - a[0]) * math.cos(math.radians((a[1] + b[1]) / 2))
    return math.degrees(math.atan2(x, b[1] - a[1])) % 360
