"""Our own webhook subscription at the vendor: made once, kept with its secret, made again when it is gone.

The vendor shows a signing secret only when a subscription is made, and takes each target address once an account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waybridge import SourceUnavailable
from waybridge_imessage.linq import Refused
from waybridge_imessage.webhook import CALLBACK

if TYPE_CHECKING:
    from waybridge import ProviderContext
    from waybridge_imessage.linq import Linq
    from waybridge_imessage.settings import IMessageSettings

VERSION = "2026-02-03"
EVENTS = ("location.sharing.started", "location.sharing.stopped")


class Callback:
    """Registers `{callback_url}/webhook` at the vendor where the settings say so."""

    def __init__(self, settings: IMessageSettings, context: ProviderContext, linq: Linq) -> None:
        self._settings = settings
        self._context = context
        self._linq = linq

    async def ensure(self) -> None:
        """Registers, or repairs what is registered. Raises SourceUnavailable, CredentialsRejected.

        A refusal by the vendor (an address that it does not take, for example) is logged: reading still works.
        """
        if not self._settings.subscribe:
            return
        try:
            await self._ensure(f"{self._context.callback_url}/webhook?version={VERSION}")
        except Refused as refusal:
            self._context.count("subscribe_refused")
            self._context.log.warning(
                "Linq refuses to register the webhook; shares are found by reading only",
                status=refusal.status,
                code=refusal.code,
                reason=refusal.message,
            )

    async def _ensure(self, target: str) -> None:
        kept = await self._context.state.get(CALLBACK)
        own = kept if isinstance(kept, dict) else {}
        listed = await self._listed()
        registered = next((one for one in listed if one.get("id") == own.get("id")), None) if own else None
        if registered is not None:
            await self._repair(str(own["id"]), registered, target)
            return
        for orphan in (one for one in listed if one.get("target_url") == target and isinstance(one.get("id"), str)):
            await self._linq.delete_subscription(orphan["id"])  # ours of old, but its secret is lost
        wanted: dict[str, Any] = {"target_url": target, "subscribed_events": list(EVENTS)}
        if self._settings.phone_numbers:
            wanted["phone_numbers"] = list(self._settings.phone_numbers)
        made = await self._linq.create_subscription(wanted)
        match made:
            case {"id": str(subscription), "signing_secret": str(secret)} if subscription and secret:
                pass
            case _:
                raise SourceUnavailable("Linq made a webhook subscription without id or signing secret")
        secrets = [secret, *own.get("secrets", [])][:2]
        await self._context.state.put(CALLBACK, {"id": subscription, "secrets": secrets})
        self._context.log.info("The webhook is registered at Linq", subscription_id=subscription)

    async def _listed(self) -> list[dict[str, Any]]:
        """What is registered; nothing where the vendor does not list it, so that the callback is registered anyhow."""
        try:
            return await self._linq.subscriptions()
        except Refused as refusal:
            if refusal.code:
                raise
            return []

    async def _repair(self, subscription: str, registered: dict[str, Any], target: str) -> None:
        wanted: dict[str, Any] = {
            "target_url": target,
            "subscribed_events": list(EVENTS),
            "phone_numbers": list(self._settings.phone_numbers),
            "is_active": True,
        }
        same = (
            registered.get("target_url") == target
            and set(EVENTS) <= set(registered.get("subscribed_events") or ())
            and sorted(registered.get("phone_numbers") or ()) == sorted(self._settings.phone_numbers)
            and registered.get("is_active") is not False
        )
        if not same:
            await self._linq.update_subscription(subscription, wanted)
            self._context.log.info("The webhook at Linq is put right", subscription_id=subscription)
