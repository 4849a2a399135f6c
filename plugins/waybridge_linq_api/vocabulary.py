"""Linq's event names: which a subscription may hold, and which of them the gateway sends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SENT = ("location.sharing.started", "location.sharing.stopped")
DOC_URL = "https://docs.linqapp.com/channel/imessage/guides/webhooks/events"
_FAMILIES = (
    "api_token|call|chat|connection|contact_card|environment|location|message|participant|payment|phone_number|poll"
    "|reaction|team_member|webhook_subscription|zero_day_retention"
)
_NAME = re.compile(rf"(?:{_FAMILIES})(?:\.[a-z][a-z0-9_]*)+")
_OURS = frozenset({"connection.degraded", "connection.recovered"})


def is_linqs(name: object) -> bool:
    """Whether a name is of the vendor's families: new ones come every few weeks, so the families decide."""
    return isinstance(name, str) and len(name) <= 100 and _NAME.fullmatch(name) is not None and name not in _OURS


def shown(patterns: Iterable[str]) -> list[str]:
    """The names of a subscription as the vendor's clients know them: wildcards spelled out, our own left out."""
    names: dict[str, None] = {}
    for pattern in patterns:
        if pattern.endswith("*"):
            names |= dict.fromkeys(name for name in SENT if name.startswith(pattern[:-1]))
        elif is_linqs(pattern):
            names[pattern] = None
    return list(names)
