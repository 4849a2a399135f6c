"""What the stand-in knows: its faults, chats, and who shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


@dataclass(slots=True, kw_only=True)
class Faults:
    """Switches, all off. Numbers count down with each use; None and 0 are off.

    `status`: (status, code, message) that everything is answered with. `server_errors`, `rate_limited`: so many
    answers of 500 and 429 (with `retry_after` seconds; None sends none). `lose_answers`: the connection is cut after
    the work was done. `hold`: seconds before each answer. `request_conflict`: code of the 409 that requests get (0:
    a conflict without a known code). `bare`: GeoJSON without the envelope. `truncate`, `oversize`: of a read's body.
    `features`: features put before the true ones. `linger`: reads still show who stopped. `hide`: reads show nobody.
    `omit`: properties left out of features. `drop_webhooks`, `duplicate_webhooks` (same id), `renamed_duplicates`
    (another event_id), `bad_signature`, `unsigned`, `stale_webhooks` (seconds that a timestamp lies in the past),
    `without_began_at`. `https_only`: subscriptions to http addresses are
    refused, as the true vendor does.
    """

    status: tuple[int, int, str] | None = None
    server_errors: int = 0
    rate_limited: int = 0
    retry_after: int | None = 1
    lose_answers: int = 0
    hold: float = 0.0
    request_conflict: int | None = None
    bare: bool = False
    truncate: bool = False
    oversize: int = 0
    features: Sequence[Any] = ()
    linger: bool = False
    hide: bool = False
    omit: frozenset[str] = frozenset()
    drop_webhooks: bool = False
    duplicate_webhooks: int = 0
    renamed_duplicates: int = 0
    bad_signature: bool = False
    unsigned: bool = False
    stale_webhooks: int = 0
    without_began_at: bool = False
    https_only: bool = False


@dataclass(slots=True, kw_only=True)
class Chat:
    """A conversation of one of our lines; `asked_at` limits requests to one a minute."""

    chat_id: str
    line: str
    handles: list[str]
    service: Literal["iMessage", "SMS", "RCS"] = "iMessage"
    asked_at: float | None = None


@dataclass(slots=True, kw_only=True)
class Sharing:
    """One person's share with one line, and where the person is."""

    handle: str
    line: str
    chat_id: str | None
    began_at: datetime
    ends_at: datetime | None
    latitude: float
    longitude: float
    altitude: float | None
    address: str | None
    locality: str | None
    updated_at: datetime
    active: bool = True
