"""The iMessage provider: people who share their location with a phone line at Linq."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from waybridge import Capabilities, Provider, SourceUnavailable
from waybridge_imessage import shares
from waybridge_imessage.asking import Asker
from waybridge_imessage.callback import Callback
from waybridge_imessage.demo import LinqDemo
from waybridge_imessage.linq import Linq, Refused
from waybridge_imessage.polling import Poller
from waybridge_imessage.settings import IMessageSettings
from waybridge_imessage.simulator import LinqSimulator
from waybridge_imessage.webhook import Receiver, person_key, profile_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from waybridge import Asked, Batch, Profile, ProviderContext, Push, Receipt, Report, SourceKey

MODEST_INTERVAL = 60.0
EVENT_MEMORY = timedelta(hours=48)


class IMessage(Provider[IMessageSettings]):
    """One account at Linq. A source is a handle; consent comes by webhook, positions by reading chats."""

    kind = "imessage"
    Settings = IMessageSettings
    capabilities: ClassVar[Capabilities] = Capabilities(
        streams=True,
        receives=True,
        asks=True,
        stale_after=600.0,
        expected_interval=180.0,
        consent="all",
        begins="report",
        verifies="provider",
    )
    simulator = LinqSimulator
    demo = LinqDemo

    def __init__(self, settings: IMessageSettings, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._linq = Linq(settings, context)
        self._poller = Poller(settings, context, self._linq)
        self._receiver = Receiver(settings, context)
        self._callback = Callback(settings, context, self._linq)
        self._asker = Asker(settings, context, self._linq)

    async def check(self) -> None:
        """Proves the key by the list of webhooks; where there is none to be had, by reading a chat."""
        try:
            await self._linq.subscriptions(tries=1)
        except Refused as refusal:
            if not refusal.code:  # the vendor's errors have one; without it something else may answer there
                await self._check_by_reading()

    async def _check_by_reading(self) -> None:
        if not self.settings.chats:
            self.context.log.warning("The vendor lists no webhooks, and without `chats` nothing else proves the key")
            return
        try:
            await self._linq.location(self.settings.chats[0], tries=1)
        except Refused as refusal:
            if not refusal.code:
                raise SourceUnavailable(f"there is no Linq API at base_url: {refusal}") from refusal

    async def stream(self) -> AsyncIterator[Report | Batch]:
        if self.settings.poll_interval_seconds < MODEST_INTERVAL:
            self.context.log.warning(
                "Chats are read more often than the vendor advises: positions do not come faster for it",
                poll_interval_seconds=self.settings.poll_interval_seconds,
            )
        async for batch in self._poller.run(self._reconcile):
            yield batch

    async def receive(self, push: Push) -> Receipt:
        receipt = await self._receiver.receive(push)
        if receipt.reports:
            self._poller.nudge()
        return receipt

    async def ask(self, target: str) -> Asked:
        try:
            return await self._asker.ask(target)
        finally:
            self._poller.nudge()  # a refusal may be that the person shares already

    async def behind(self, target: str) -> Sequence[SourceKey] | None:
        return await self._asker.behind(target)

    async def end_sharing(self, source: SourceKey) -> None:
        if not self.settings.stop_on_cancel:
            return
        person = shares.load(await self.context.state.get(person_key(source.external_id)))
        if person.chats:  # sharing is per contact: one chat stands for all
            await self._linq.stop_location(min(person.chats), source.external_id)

    async def profile(self, source: SourceKey) -> Profile | None:
        return profile_of(source)

    async def _reconcile(self) -> None:
        """What is done at start and every ten minutes, before all known chats are read."""
        await self._callback.ensure()
        oldest = self.context.clock.now() - EVENT_MEMORY
        for key, seen_at in (await self.context.state.items("event/")).items():
            if isinstance(seen_at, str) and datetime.fromisoformat(seen_at) < oldest:
                await self.context.state.put(key, None)
