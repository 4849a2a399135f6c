"""MyCarTracks: vehicles of an account, by its API v3 (last positions, live position streams)."""

from __future__ import annotations

from waybridge import Provider, hookimpl
from waybridge_mycartracks.provider import MyCarTracks
from waybridge_mycartracks.settings import MyCarTracksSettings
from waybridge_mycartracks.simulator import MyCarTracksSimulator

__all__ = ["MyCarTracks", "MyCarTracksSettings", "MyCarTracksSimulator", "waybridge_providers"]


@hookimpl
def waybridge_providers() -> list[type[Provider[MyCarTracksSettings]]]:
    return [MyCarTracks]
