"""`waybridge token`: a gateway token for the configuration of this folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from waybridge.cli.common import load_settings
from waybridge.errors import ConfigurationError
from waybridge.model import canonical_token

if TYPE_CHECKING:
    from waybridge.settings import Settings

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SCOPES = ("read", "write", "ingest", "admin")


def token(settings: Settings, instances: list[str], scope: str, device: str | None, ttl: str) -> str:
    """Mints a token; raises ConfigurationError for a wrong scope, device or time."""
    from waybridge.auth import Auth  # noqa: PLC0415
    from waybridge.runtime import SystemClock  # noqa: PLC0415

    scopes = scope.split()
    wrong = [each for each in scopes if each not in _SCOPES]
    if wrong or not scopes:
        raise ConfigurationError(f"--scope: {' '.join(wrong) or 'nothing'} is no scope; use {', '.join(_SCOPES)}")
    if device is not None:
        try:
            device = canonical_token(device)
        except ValueError as error:
            raise ConfigurationError(f"--device {error}") from None
    auth = Auth(settings.auth, settings.secrets, clock=SystemClock())
    try:
        return auth.issue(
            subject="cli", instances=instances, scope=" ".join(scopes), device_token=device, ttl=seconds(ttl)
        )
    except ValueError as error:
        raise ConfigurationError(f"no such token can be made: {error}") from None


def token_or_own(config: Path | None, given: str | None, instance: str, scope: str) -> str:
    """The given token, or a day's own of this folder's configuration."""
    return given or token(load_settings(config), [instance], scope, None, "24h")


def seconds(text: str) -> int:
    """90s, 15m, 24h, 30d, or plain seconds."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text.strip())
    if found is None or int(found[1]) == 0:
        raise ConfigurationError(f"--ttl: {text!r} is no time; use 90s, 15m, 24h or 30d")
    return int(found[1]) * _UNITS.get(found[2] or "s", 1)
