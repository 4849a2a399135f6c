"""MyCarTracks: vehicles of an account, by its API v3 (last positions, live position streams)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waybridge import Provider, hookimpl
from waybridge_mycartracks.provider import MyCarTracks
from waybridge_mycartracks.settings import MyCarTracksSettings
from waybridge_mycartracks.simulator import MyCarTracksSimulator

if TYPE_CHECKING:
    import typer

__all__ = [
    "MyCarTracks",
    "MyCarTracksSettings",
    "MyCarTracksSimulator",
    "waybridge_commands",
    "waybridge_providers",
]


@hookimpl
def waybridge_providers() -> list[type[Provider[MyCarTracksSettings]]]:
    return [MyCarTracks]


@hookimpl
def waybridge_commands(cli: typer.Typer, simulate: typer.Typer) -> None:
    from waybridge_mycartracks import openapi, simulator  # noqa: PLC0415 - only where it is asked for

    simulate.command("mycartracks")(simulator.command)
    cli.command("mycartracks-openapi")(openapi.command)
