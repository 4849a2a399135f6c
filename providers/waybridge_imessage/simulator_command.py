"""`waybridge simulate linq`: the stand-in with people who walk by themselves."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import math
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waybridge_imessage.simulator_model import Faults

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from waybridge_imessage.simulator import LinqSimulator

    Route = Sequence[Sequence[float]]

METERS_PER_DEGREE = 111_195.0
STROLL: Route = ((24.9384, 60.1699), (24.9414, 60.1712), (24.9466, 60.1708), (24.9521, 60.1676), (24.9430, 60.1662))


def command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 9402,
    people: Annotated[int, typer.Option(min=0, max=10_000, help="People, each with a chat of their own.")] = 3,
    target: Annotated[str, typer.Option(help="Webhook address to deliver to, e.g. a connection's /webhook.")] = "",
    secret: Annotated[str, typer.Option(help="Its signing secret (whsec_...); a new one is made without.")] = "",
    api_key: Annotated[str, typer.Option(help="The API key that is let in.")] = "simulated-linq-key",
    sharing: Annotated[bool, typer.Option(help="Everybody shares from the start.")] = True,  # noqa: FBT002 - an option of the command line
    accepts: Annotated[bool, typer.Option(help="Who is asked shares at once.")] = True,  # noqa: FBT002
    routes: Annotated[Path | None, typer.Option(help="JSON: a list, or an object, of lists of [lon, lat].")] = None,
    speed: Annotated[float, typer.Option(help="Mean speed, km/h.")] = 5.0,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between fixes.")] = 5.0,
    fault: Annotated[list[str] | None, typer.Option(help="NAME or NAME=VALUE (JSON), e.g. bare, hold=2.")] = None,
) -> None:
    """Linq's stand-in: chats, location requests and reads, signed webhooks, people who walk by themselves."""
    try:
        faults = parse_faults(fault or ())
        paths = [STROLL] if routes is None else read_routes(routes)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    asyncio.run(
        _until_stopped(
            host=host,
            port=port,
            people=people,
            target=target,
            secret=secret,
            api_key=api_key,
            sharing=sharing,
            accepts=accepts,
            paths=paths,
            speed_kmh=speed,
            every=every,
            faults=faults,
        )
    )


async def run(
    *,
    stop: asyncio.Event,
    host: str = "127.0.0.1",
    port: int = 0,
    people: int = 3,
    target: str = "",
    secret: str = "",
    api_key: str = "simulated-linq-key",
    sharing: bool = True,
    accepts: bool = True,
    paths: Sequence[Route] = (STROLL,),
    speed_kmh: float = 5.0,
    every: float = 5.0,
    faults: Faults | None = None,
    say: Any = print,
) -> None:
    """Serves until `stop` is set. Says its address, the settings of a connection to it, and the chats, first."""
    from waybridge_imessage.simulator import LinqSimulator  # noqa: PLC0415 - the stand-in names this command

    linq = LinqSimulator(api_key=api_key, person_accepts_requests=accepts)
    linq.faults = faults or linq.faults
    url = await linq.start(host, port)
    try:
        say(f"Linq stand-in at {url}")
        for name, value in linq.settings().items():
            say(f'{name} = "{value}"')
        if target:
            say(f'webhook_signing_secret = "{linq.subscribe(target, secret=secret)}"')
        routes = {}
        for number in range(people):
            handle = f"+1415555{100 + number:04d}"
            chat = linq.add_chat(handle)
            routes[handle] = paths[number % len(paths)]
            say(f"chat {chat} {handle}")
            if sharing:
                longitude, latitude = routes[handle][0][:2]
                linq.share(chat, handle, latitude, longitude)
        walking = asyncio.create_task(drive(linq, routes, speed_kmh=speed_kmh, every=every))
        try:
            await stop.wait()
        finally:
            walking.cancel()
            await asyncio.gather(walking, return_exceptions=True)
    finally:
        await linq.stop()


async def drive(
    linq: LinqSimulator,
    routes: Mapping[str, Route],
    *,
    speed_kmh: float = 5.0,
    every: float = 5.0,
    stop: asyncio.Event | None = None,
) -> None:
    """Moves people along their routes ([lon, lat] points, there and back) until `stop` is set."""
    metres = dict.fromkeys(routes, 0.0)
    while stop is None or not stop.is_set():
        for index, (handle, route) in enumerate(routes.items()):
            linq.move(handle, *along(route, metres[handle]))
            metres[handle] += speed_kmh * (0.8 + 0.1 * (index % 5)) / 3.6 * every
        await asyncio.sleep(every)


def along(route: Route, metres: float) -> tuple[float, float]:
    """(latitude, longitude) so far along a route that is walked there and back."""
    legs = [_length(a, b) for a, b in itertools.pairwise(route)]
    whole = sum(legs)
    left = metres % (2 * whole) if whole else 0.0
    left = 2 * whole - left if left > whole else left
    for (a, b), leg in zip(itertools.pairwise(route), legs, strict=True):
        if left <= leg and leg:
            share = left / leg
            return a[1] + (b[1] - a[1]) * share, a[0] + (b[0] - a[0]) * share
        left -= leg
    return route[-1][1], route[-1][0]


def parse_faults(switches: Iterable[str]) -> Faults:
    """Faults as the command line writes them. Raises ValueError."""
    faults = Faults()
    names = [field.name for field in dataclasses.fields(Faults)]
    for said in switches:
        name, _, value = said.partition("=")
        if name not in names:
            raise ValueError(f"{name!r} is no fault; there are {', '.join(names)}")
        given: Any = json.loads(value) if value else True
        setattr(faults, name, frozenset(given) if name == "omit" else given)
    return faults


def read_routes(path: Path) -> list[Route]:
    """The routes of a JSON file: a list of them, or an object of named ones. Raises ValueError."""
    told = json.loads(path.read_text())
    routes = list(told.values()) if isinstance(told, dict) else told
    if not isinstance(routes, list) or not all(isinstance(route, list) and len(route) > 1 for route in routes):
        raise ValueError(f"{path} holds no lists of [lon, lat]")
    return routes


def _length(a: Sequence[float], b: Sequence[float]) -> float:
    east = (b[0] - a[0]) * math.cos(math.radians((a[1] + b[1]) / 2))
    return math.hypot(east, b[1] - a[1]) * METERS_PER_DEGREE


async def _until_stopped(**options: Any) -> None:
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    await run(stop=stop, say=typer.echo, **options)
