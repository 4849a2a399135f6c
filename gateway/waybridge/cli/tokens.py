"""`waybridge token`: a gateway token for the configuration of this folder."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from waybridge.errors import ConfigurationError
from waybridge.model import canonical_token

if TYPE_CHECKING:
    from waybridge.settings import Settings

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SCOPES = ("read", "write", "ingest", "admin")


def token(settings: Settings, instances: list[str], scope: str, device: str | None, ttl: str) -> str:
    """Mints a token; raises ConfigurationError for a wrong scope, device or time."""
    from waybridge.auth import issue_token  # noqa: PLC0415

    scopes = scope.split()
    wrong = [each for each in scopes if each not in _SCOPES]
    if wrong or not scopes:
        raise ConfigurationError(f"--scope: {' '.join(wrong) or 'nothing'} is no scope; use {', '.join(_SCOPES)}")
    if device is not None:
        try:
            device = canonical_token(device)
        except ValueError as error:
            raise ConfigurationError(f"--device {error}") from None
    return issue_token(
        settings.secrets[0],
        subject="cli",
        instances=instances,
        scope=" ".join(scopes),
        device_token=device,
        ttl_seconds=seconds(ttl),
        now=time.time(),
    )


def seconds(text: str) -> int:
    """90s, 15m, 24h, 30d, or plain seconds."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text.strip())
    if found is None or int(found[1]) == 0:
        raise ConfigurationError(f"--ttl: {text!r} is no time; use 90s, 15m, 24h or 30d")
    return int(found[1]) * _UNITS.get(found[2] or "s", 1)
