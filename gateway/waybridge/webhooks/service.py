"""All parts of webhooks, put together."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from waybridge import egress
from waybridge.errors import Invalid
from waybridge.webhooks.attempt import Sender
from waybridge.webhooks.delivery import Deliverer
from waybridge.webhooks.dispatch import Dispatcher
from waybridge.webhooks.history import History
from waybridge.webhooks.housekeeping import Housekeeping
from waybridge.webhooks.subscriptions import Secrets, Subscriptions

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from waybridge.bus import Bus
    from waybridge.settings import Settings
    from waybridge.store.engine import Store
    from waybridge.vault import Vault

GRACE_SECONDS = 2.0
"""How long attempts under way may take to end when the process stops; what is given back is attempted again."""


class Webhooks:
    """Webhooks of one process. `subscriptions` and `history` serve the API, `northbound` is for plugins.

    `open_session` makes the session that calls targets (None: guarded as the settings say); `spread` gives the
    jitter of retries, numbers in [0, 1).
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        vault: Vault,
        settings: Settings,
        *,
        open_session: Callable[[], aiohttp.ClientSession] | None = None,
        lease_seconds: float | None = None,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._sender = Sender(open_session or self._guarded, Secrets(vault), settings.webhooks, store.now_us, spread)
        self.deliverer = Deliverer(store, self._sender, settings.webhooks, lease_seconds=lease_seconds)
        self.dispatcher = Dispatcher(store, bus, self.deliverer.wake)
        self.housekeeping = Housekeeping(store, self.deliverer, settings.webhooks)
        self.subscriptions = Subscriptions(store, vault, settings.webhooks, self._checked)
        self.northbound = Subscriptions(store, vault, settings.webhooks, self._checked, any_event=True)
        self.history = History(store, settings.webhooks)

    async def start(self) -> None:
        """Begins to deliver; what a former process left is taken up."""
        await self.deliverer.start()
        await self.dispatcher.start()
        await self.housekeeping.start()

    async def close(self) -> None:
        """Stops taking work, lets running attempts end for a few seconds; call it before the store closes."""
        await self.housekeeping.close()
        await self.dispatcher.close()
        await self.deliverer.close(GRACE_SECONDS)
        await self._sender.close()

    def _guarded(self) -> aiohttp.ClientSession:
        settings = self._settings.webhooks
        return egress.make_session(
            guarded=not settings.allow_private_targets,
            allow=self._settings.allowed_networks,
            auto_decompress=False,
            timeout_seconds=settings.timeout_seconds,
            connect_seconds=settings.connect_seconds,
            connections=0,
        )

    async def _checked(self, target_url: str) -> str:
        try:
            return await egress.check_target(
                target_url,
                allow_private=self._settings.webhooks.allow_private_targets,
                allow=self._settings.allowed_networks,
            )
        except egress.TargetRefused as refused:
            raise Invalid("the subscription is not valid", errors=[("target_url", str(refused))]) from None
