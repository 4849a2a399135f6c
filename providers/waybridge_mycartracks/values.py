"""Single values of the vendor's JSON, read tolerantly; None stands for absent or not understood."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM: Final = 1e11
_LONGEST_ID: Final = 200
_LONGEST_TIME: Final = 40
_FULL_CIRCLE: Final = 360.0

MPS_PER: Final[Mapping[str, float]] = {"kmh": 1 / 3.6, "ms": 1.0, "mph": 0.44704}
"""Metres per second in one unit of the setting `speed_unit`."""


def number(value: Any) -> float | None:
    """A finite number; booleans and numbers written as text are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        real = float(value)
    except OverflowError:
        return None
    return real if math.isfinite(real) else None


def coordinate(value: Any, limit: float) -> float | None:
    """Degrees within +-limit."""
    degrees = number(value)
    return degrees if degrees is not None and -limit <= degrees <= limit else None


def speed_mps(value: Any, unit: str) -> float | None:
    """Metres per second from `unit` (kmh, ms, mph); a negative speed is unknown."""
    speed = number(value)
    return None if speed is None or speed < 0 else speed * MPS_PER[unit]


def heading_deg(value: Any) -> float | None:
    """Degrees in [0, 360): 360 is north, anything outside is unknown."""
    heading = number(value)
    if heading is None or not 0 <= heading <= _FULL_CIRCLE:
        return None
    return 0.0 if heading == _FULL_CIRCLE else heading


def identity(value: Any) -> str | None:
    """An id as text: `123` and `"123"` are the same vehicle."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_ID and value.isprintable():
        return value
    return None


def text(value: Any, longest: int = 200) -> str | None:
    """Printable text without blanks around it; empty text is absent."""
    if not isinstance(value, str):
        return None
    return "".join(c for c in value if c.isprintable()).strip()[:longest] or None


def moment(value: Any) -> datetime | None:
    """An aware UTC time from ISO 8601 (without a zone it is UTC) or a number since 1970 (from 1e11 on, ms)."""
    if isinstance(value, str):
        value = value.strip()
        if not value.isdigit():
            return _iso(value)
        value = int(value) if len(value) <= _LONGEST_TIME else None
    since = number(value)
    if since is None:
        return None
    seconds = since / 1000 if abs(since) >= _MILLISECONDS_FROM else since
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _iso(value: str) -> datetime | None:
    if len(value) > _LONGEST_TIME:
        return None
    try:
        parsed = datetime.fromisoformat(value.replace("z", "Z"))
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
