"""Driver events: suppliers' clients of Booking.com Taxi's API push a booking's milestones and live locations here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waybridge import Provider, hookimpl
from waybridge_driver_events.provider import DriverEvents, DriverEventsSettings

if TYPE_CHECKING:
    import typer

__all__ = ["DriverEvents", "DriverEventsSettings", "waybridge_commands", "waybridge_providers"]


@hookimpl
def waybridge_providers() -> list[type[Provider[DriverEventsSettings]]]:
    return [DriverEvents]


@hookimpl
def waybridge_commands(simulate: typer.Typer) -> None:
    from waybridge_driver_events.simulator_command import command  # noqa: PLC0415 - only where it is asked for

    simulate.command("driver-events")(command)
