"""Which vehicles a connection takes in: those of its settings, whatever the vendor sends beside them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from waybridge_mycartracks.payload import Fix, Gone
    from waybridge_mycartracks.settings import MyCarTracksSettings

_MOST_MEMBERS: Final = 20_000


class Choice:
    """The vehicles of `vehicle_ids` or `vehicle_group_ids`; every vehicle without either.

    Last positions are not narrowed by the vendor, and their rows need not name groups: a vehicle belongs to a
    chosen group when its row says so, or when the stream that was asked for the group has told of it.
    """

    def __init__(self, settings: MyCarTracksSettings) -> None:
        self._vehicles = None if settings.vehicle_ids is None else frozenset(map(str, settings.vehicle_ids))
        self._groups = None if settings.vehicle_group_ids is None else frozenset(map(str, settings.vehicle_group_ids))
        self._members: OrderedDict[str, None] = OrderedDict()

    def event(self, said: Fix | Gone) -> bool:
        """Whether an event of the stream is to be taken in."""
        if self._groups is not None:
            self._members[said.vehicle_id] = None
            self._members.move_to_end(said.vehicle_id)
            if len(self._members) > _MOST_MEMBERS:
                self._members.popitem(last=False)
        return self._vehicles is None or said.vehicle_id in self._vehicles

    def row(self, fix: Fix) -> bool:
        """Whether a row of last positions is to be taken in."""
        if self._vehicles is not None:
            return fix.vehicle_id in self._vehicles
        if self._groups is None:
            return True
        return fix.vehicle_id in self._members if fix.group_ids is None else bool(fix.group_ids & self._groups)
