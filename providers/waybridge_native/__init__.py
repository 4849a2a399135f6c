"""Native devices: apps and trackers that push their positions straight to the gateway."""

from __future__ import annotations

from waybridge import Provider, hookimpl
from waybridge_native.provider import Native, NativeSettings

__all__ = ["Native", "NativeSettings", "waybridge_providers"]


@hookimpl
def waybridge_providers() -> list[type[Provider[NativeSettings]]]:
    return [Native]
