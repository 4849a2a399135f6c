"""Times on the wire of the device API: `timezone` and `date_format` of a query."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Annotated, Literal, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import AfterValidator

from waybridge.api.bodies import Query
from waybridge.model import from_us

Wire: TypeAlias = int | str | None
Format: TypeAlias = Callable[[int | None], Wire]
"""Microseconds since 1970 as they stand in an answer; None stays None."""


@lru_cache(maxsize=1024)
def zone(name: str) -> tzinfo:
    """An IANA time zone. Raises ValueError for a name that is none."""
    if name == "UTC":
        return UTC
    if not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,3}", name) or len(name) > 64:
        raise ValueError("must be the IANA name of a time zone")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("must be the IANA name of a time zone") from None


def _known_zone(name: str) -> str:
    zone(name)
    return name


class Times(Query):
    """How an answer's times are written: unix seconds (whole), RFC 3339 or for people, the last two in a zone."""

    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    date_format: Literal["unix", "iso", "human", "localized"] = "unix"

    def format_us(self) -> Format:
        return time_format(self.date_format, self.timezone)


def time_format(date_format: str, timezone: str) -> Format:
    """The function that writes times so; `localized` is `human`."""
    if date_format == "unix":
        return unix
    where = zone(timezone)
    if date_format == "iso":
        return lambda us: None if us is None else _iso(from_us(us).astimezone(where))
    return lambda us: None if us is None else from_us(us).astimezone(where).strftime("%Y-%m-%d %H:%M:%S %Z")


def unix(us: int | None) -> Wire:
    """Whole seconds since 1970."""
    return None if us is None else us // 1_000_000


def _iso(moment: datetime) -> str:
    text = moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
    return text.removesuffix("+00:00") + "Z" if moment.tzinfo is UTC else text


__all__ = ["Format", "Times", "time_format", "unix", "zone"]
