"""`waybridge simulate driver-events`: suppliers that play one booking after the other."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import signal
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from waybridge_driver_events.simulator import Faults, Ride, Route, Supplier, drivers

_LOOP: Final = (
    (-2.2301, 53.4774), (-2.2374, 53.4802), (-2.2446, 53.4808), (-2.2510, 53.4786), (-2.2479, 53.4735),
    (-2.2391, 53.4712), (-2.2330, 53.4741),
)  # fmt: skip


async def run(
    *,
    url: str,
    token: str,
    bookings: int = 1,
    routes: Sequence[Route] | None = None,
    speed_kmh: float = 36.0,
    every: float = 5.0,
    wait_seconds: float = 15.0,
    repeat: bool = True,
    faults: Faults | None = None,
    stop: asyncio.Event | None = None,
    say: Callable[[str], Any] = print,
    announced: Callable[[dict[str, Any]], Any] | None = None,
) -> None:
    """Plays bookings side by side until `stop` is set, or each once.

    `announced` is handed each booking as the gateway answered it (with its `device_token`) before it is played.
    """
    paths = list(routes or [_LOOP])
    batch = secrets.token_hex(3).upper()
    async with Supplier(url, token, faults=faults, dice=random.Random()) as supplier:  # noqa: S311

        async def one(number: int) -> None:
            turn = 0
            while stop is None or not stop.is_set():
                ride = Ride(
                    customer=f"C{batch}{number}",
                    reference=f"B{batch}{number}-{turn}",
                    route=paths[(number + turn) % len(paths)],
                    driver=drivers()[number % len(drivers())],
                    no_show=turn % 5 == 4,
                )
                booking = await supplier.announce(ride)
                if announced is not None:
                    announced(booking)
                say(f"booking {ride.customer}/{ride.reference}, {' '.join(ride.driver)}")
                await supplier.play(ride, every=every, speed_kmh=speed_kmh, wait_seconds=wait_seconds, stop=stop)
                turn += 1
                if not repeat:
                    return

        playing = [asyncio.create_task(one(number), name=f"booking {number}") for number in range(bookings)]
        everything = asyncio.gather(*playing)
        ending = asyncio.create_task((stop or asyncio.Event()).wait(), name="stop")
        waiting: list[asyncio.Future[Any]] = [everything, ending]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if everything.done():
                everything.result()
        finally:
            for task in [*playing, ending]:
                task.cancel()
            await asyncio.gather(everything, ending, *playing, return_exceptions=True)
            say(f"sent {sum(supplier.sent.values())} events: {dict(supplier.answers)}")


def command(
    url: Annotated[str, typer.Option(help="The connection's address, .../ingest/{connection_id}.")],
    token: Annotated[str, typer.Option(help="A gateway token of scope ingest.")],
    bookings: Annotated[int, typer.Option(min=1, max=1000, help="Bookings side by side.")] = 1,
    routes: Annotated[Path | None, typer.Option(help="JSON: a list, or an object, of lists of [lon, lat].")] = None,
    speed: Annotated[float, typer.Option(min=1, help="Mean speed, km/h.")] = 36.0,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between live locations.")] = 5.0,
    once: Annotated[bool, typer.Option(help="Each booking once, then end.")] = False,  # noqa: FBT002 - an option of the command line
    fault: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE: duplicates=0.2, lost_answers, disorder, drops, skew_seconds, offline_every..."),
    ] = None,
) -> None:
    """A taxi supplier's client: sends driver events of simulated bookings to a gateway."""
    try:
        faults = parse_faults(fault or ())
        paths = None if routes is None else read_routes(routes)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    asyncio.run(
        _until_stopped(
            url=url,
            token=token,
            bookings=bookings,
            routes=paths,
            speed_kmh=speed,
            every=every,
            repeat=not once,
            faults=faults,
        )
    )


async def _until_stopped(**options: Any) -> None:
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    await run(stop=stop, say=typer.echo, **options)


def parse_faults(switches: Sequence[str]) -> Faults:
    """Faults as the command line writes them, `name=value` or `name` alone. Raises ValueError."""
    known = {each.name: each for each in fields(Faults)}
    faults = Faults()
    for switch in switches:
        name, _, value = switch.partition("=")
        if name not in known:
            raise ValueError(f"there is no fault {name!r}; there are: {', '.join(known)}")
        is_switch = isinstance(getattr(faults, name), bool)
        setattr(faults, name, value in {"", "true", "1"} if is_switch else float(value or 1))
    return faults


def read_routes(path: Path) -> list[Route]:
    """Routes of a JSON file: a list, or an object, of lists of [lon, lat]. Raises ValueError, OSError."""
    tree = json.loads(path.read_text())
    found = list(tree.values()) if isinstance(tree, dict) else tree
    if not isinstance(found, list) or not all(isinstance(route, list) and len(route) > 1 for route in found):
        raise ValueError(f"{path} holds no list of routes")
    return found
