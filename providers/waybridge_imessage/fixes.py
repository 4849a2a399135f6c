"""What was last read of a person: which feature is a new fix, and since when reads show nothing. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from waybridge import Position

if TYPE_CHECKING:
    from waybridge import SourceKey
    from waybridge_imessage.wire import Feature

NO_LOCATION_AFTER = 3
SUSPECT_AHEAD = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The last fix that was reported, and the run of empty reads (`misses`, first at `empty_since`).

    `place` tells one place from another and gives none away: 16 bits of a digest, for a memory outlives an erasure.
    """

    recorded_at: datetime | None = None
    place: str | None = None
    misses: int = 0
    empty_since: datetime | None = None


def key(handle: str) -> str:
    return f"fix/{handle}"


def position(source: SourceKey, feature: Feature, memory: Memory, now: datetime) -> Position | None:
    """The position of a feature, or None where it is no new fix.

    Without the vendor's time, the time of reading is taken and only another place is a new fix. Linq knows no
    speed and no heading, and two fixes minutes apart would not make any.
    """
    at = feature.updated_at
    if at is None:
        if _place(feature.latitude, feature.longitude) == memory.place:
            return None
    elif memory.recorded_at is not None:
        # A fix from the future must not hold back those that are right.
        trusted = memory.recorded_at <= now + SUSPECT_AHEAD
        if at == memory.recorded_at or (at < memory.recorded_at and trusted):
            return None
    return Position(
        source=source,
        latitude=feature.latitude,
        longitude=feature.longitude,
        altitude_m=feature.altitude_m,
        recorded_at=at or now,
        received_at=now,
        address=feature.address,
        locality=feature.locality,
        attributes={"linq.time_source": "received"} if at is None else {},
    )


def seen(memory: Memory, reported: Position | None) -> Memory:
    """The memory after a read that showed the person."""
    memory = replace(memory, misses=0, empty_since=None)
    if reported is None:
        return memory
    return replace(memory, recorded_at=reported.recorded_at, place=_place(reported.latitude, reported.longitude))


def missed(memory: Memory, now: datetime, *, not_before: datetime | None) -> Memory:
    """The memory after a read that did not show the person; empty reads before the last end do not count."""
    since, misses = memory.empty_since, memory.misses
    if since is not None and not_before is not None and since <= not_before:
        since, misses = None, 0
    return replace(memory, misses=misses + 1, empty_since=since or now)


def dump(memory: Memory) -> dict[str, Any]:
    return {
        "recorded_at": memory.recorded_at.isoformat() if memory.recorded_at else None,
        "place": memory.place,
        "misses": memory.misses,
        "empty_since": memory.empty_since.isoformat() if memory.empty_since else None,
    }


def load(value: Any) -> Memory:
    if value is None:
        return Memory()
    return Memory(
        recorded_at=_time(value["recorded_at"]),
        place=value["place"],
        misses=value["misses"],
        empty_since=_time(value["empty_since"]),
    )


def _place(latitude: float, longitude: float) -> str:
    return hashlib.sha256(f"{latitude!r},{longitude!r}".encode()).hexdigest()[:4]


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
