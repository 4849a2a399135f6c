"""Positions made quickly."""
# mypy: disable-error-code="misc, assignment"
# (writing the fields of a frozen class is the point of this module, and of no other)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waybridge import Position

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from waybridge import SourceKey


class Draft(Position):
    """A position while it is being written; `done()` makes it the frozen Position that everybody else sees.

    A frozen dataclass sets its seventeen fields through `object.__setattr__`, 2.1 us a position; the plain
    stores of this twin with the same slots take 0.3 us, and a batch of 1,000 is nothing but such stores.
    """

    __slots__ = ()
    # Both are needed for the interpreter to store straight into the slots.
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    def __init__(
        self,
        source: SourceKey,
        latitude: float,
        longitude: float,
        recorded_at: datetime,
        altitude_m: float | None,
        accuracy_m: float | None,
        speed_mps: float | None,
        heading_deg: float | None,
        track_token: str | None,
        battery: float | None,
        attributes: Mapping[str, Any],
    ) -> None:
        self.source = source
        self.latitude = latitude
        self.longitude = longitude
        self.recorded_at = recorded_at
        self.received_at = None
        self.altitude_m = altitude_m
        self.accuracy_m = accuracy_m
        self.speed_mps = speed_mps
        self.heading_deg = heading_deg
        self.track_token = track_token
        self.online = None
        self.address = None
        self.locality = None
        self.battery = battery
        self.attributes = attributes
        self.live = True
        self.history_only = False

    def done(self) -> Position:
        """The same object, as a frozen Position."""
        self.__class__ = Position
        return self
