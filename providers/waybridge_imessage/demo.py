"""The demo's walker: somebody who shares a location by iMessage, through a stand-in of Linq."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from waybridge import DemoSite
from waybridge_imessage.simulator import LinqSimulator
from waybridge_imessage.simulator_command import drive

_HANDLE: Final = "+358401234567"
_SECRET: Final = "whsec_ZGVtby1zZWNyZXQtZGVtby1zZWNyZXQtZGVtbzEy"  # noqa: S105 - opens nothing but the stand-in


class LinqDemo:
    """One person, walking, read every few seconds instead of every few minutes so that something is to be seen."""

    def __init__(self) -> None:
        self._simulator = LinqSimulator(api_key="demo-key")
        self.sources: Sequence[tuple[str, Mapping[str, Any] | None]] = ((_HANDLE, None),)

    async def start(self, site: DemoSite) -> Mapping[str, Any]:
        url = await self._simulator.start()
        self._route = site.routes[-1]
        chat = self._simulator.add_chat(_HANDLE)
        target = f"{site.gateway_url}/ingest/{site.connection_id}/webhook"
        secret = self._simulator.subscribe(target, secret=_SECRET)
        self._chat = chat
        return {
            "api_key": "demo-key",
            "base_url": url,
            "chats": [chat],
            "webhook_signing_secret": secret,
            "poll_interval_seconds": 5,
        }

    async def drive(self) -> None:
        longitude, latitude = self._route[0][:2]
        self._simulator.share(self._chat, _HANDLE, latitude, longitude)
        await drive(self._simulator, {_HANDLE: self._route}, speed_kmh=5.0, every=5.0)

    async def stop(self) -> None:
        await self._simulator.stop()
