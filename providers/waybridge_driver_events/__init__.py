"""Driver events: suppliers' clients of Booking.com Taxi's API push a booking's milestones and live locations here."""

from __future__ import annotations

from waybridge import Provider, hookimpl
from waybridge_driver_events.provider import DriverEvents, DriverEventsSettings

__all__ = ["DriverEvents", "DriverEventsSettings", "waybridge_providers"]


@hookimpl
def waybridge_providers() -> list[type[Provider[DriverEventsSettings]]]:
    return [DriverEvents]
