"""Webhook subscriptions: who is told what and where, their secrets, and what they got (contract section 11)."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from waybridge.bus import Nudge
from waybridge.errors import Conflict, Invalid, NotFound
from waybridge.model import iso_us
from waybridge.signing import new_secret
from waybridge.store import webhooks as rows
from waybridge.store.webhooks import Subscription
from waybridge.webhooks.events import acceptable
from waybridge.webhooks.fields import ChangedFields, NewFields
from waybridge.webhooks.schedule import HOUR_US

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from waybridge.settings import WebhookSettings
    from waybridge.store import AsyncConnection
    from waybridge.store.engine import Store, Tx
    from waybridge.vault import Vault

F = TypeVar("F", NewFields, ChangedFields)
LIVE_SECRETS = 5
"""Secrets that may sign at once; each adds a signature to every request."""
PER_INSTANCE = 500
ABSENT = "no such webhook subscription"
_FILTERS = ("device_tokens", "groups", "causes", "phone_numbers")


@dataclass(frozen=True, slots=True)
class Secret:
    """A signing secret; after `until_us` it signs no more (None: it is the current one)."""

    secret: str
    until_us: int | None


class Secrets:
    """Signing secrets at rest: sealed, bound to their subscription."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, subscription_id: str, secrets: Sequence[Secret]) -> bytes:
        return self._vault.seal(json.dumps([asdict(each) for each in secrets]), bound_to=_bound(subscription_id))

    def live(self, subscription: Subscription, now_us: int) -> tuple[Secret, ...]:
        """The secrets that sign now, newest first."""
        text = self._vault.open(subscription.secrets_sealed, bound_to=_bound(subscription.id))
        secrets = (Secret(**each) for each in json.loads(text))
        return tuple(each for each in secrets if each.until_us is None or each.until_us > now_us)


class Subscriptions:
    """The rules of subscriptions, for the API and (as `facade.Subscriptions`) for plugins.

    `check_target` normalises an address or raises Invalid. With `any_event` event names that only another
    vendor sends are accepted and kept too. Instances are given as the caller may see them; None is all.
    """

    def __init__(
        self,
        store: Store,
        vault: Vault,
        settings: WebhookSettings,
        check_target: Callable[[str], Awaitable[str]],
        *,
        any_event: bool = False,
    ) -> None:
        self._store = store
        self._secrets = Secrets(vault)
        self._settings = settings
        self._check_target = check_target
        self._any_event = any_event

    async def create(self, instance_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Makes a subscription; the answer alone tells its signing secret. Raises Invalid, Conflict."""
        given = self._checked(NewFields, fields)
        target_url = await self._check_target(given.target_url)
        secret = new_secret()
        subscription_id = str(uuid.uuid4())
        sealed = self._secrets.seal(subscription_id, [Secret(secret, None)])

        async def unit(tx: Tx) -> Subscription:
            if await rows.count_subscriptions(tx.conn, instance_id) >= PER_INSTANCE:
                raise Conflict(f"the instance has {PER_INSTANCE} webhook subscriptions already; delete one first")
            made = Subscription(
                id=subscription_id,
                instance_id=instance_id,
                target_url=target_url,
                subscribed_events=tuple(dict.fromkeys(given.subscribed_events)),
                **{name: _filter(getattr(given, name)) for name in _FILTERS},
                is_active=given.is_active,
                disabled_reason=None,
                secrets_sealed=sealed,
                failing_since_us=None,
                created_us=tx.now_us,
                updated_us=tx.now_us,
            )
            await rows.add_subscription(tx, made)
            return made

        return {**view(await self._store.write(unit)), "signing_secret": secret}

    async def every(self, instance_ids: Collection[str] | None) -> list[dict[str, Any]]:
        """All subscriptions, oldest first."""
        async with self._store.read() as conn:
            return [view(each) for each in await rows.subscriptions_of(conn, instance_ids)]

    async def one(self, instance_ids: Collection[str] | None, subscription_id: str) -> dict[str, Any]:
        """One subscription. Raises NotFound."""
        async with self._store.read() as conn:
            return view(await found(conn, instance_ids, subscription_id))

    async def replace(
        self, instance_ids: Collection[str] | None, subscription_id: str, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Changes the fields that are given. Raises NotFound, Invalid.

        Switching it on forgets why it was off; switching it off drops what waits for it.
        """
        given = self._checked(ChangedFields, fields)
        target_url = await self._check_target(given.target_url) if "target_url" in given.model_fields_set else None

        async def unit(tx: Tx) -> Subscription:
            before = await found(tx.conn, instance_ids, subscription_id, lock=True)
            changes: dict[str, Any] = {
                name: _filter(getattr(given, name)) for name in _FILTERS if name in given.model_fields_set
            }
            if "subscribed_events" in given.model_fields_set:
                changes["subscribed_events"] = tuple(dict.fromkeys(given.subscribed_events))
            if target_url is not None and target_url != before.target_url:
                changes |= {"target_url": target_url, "failing_since_us": None}
            if "is_active" in given.model_fields_set and given.is_active != before.is_active:
                changes |= {"is_active": given.is_active, "disabled_reason": None, "failing_since_us": None}
            after = replace(before, **changes, updated_us=tx.now_us)
            await rows.change_subscription(tx, after)
            if before.is_active and not after.is_active:
                await rows.drop_waiting(tx, subscription_id)
            return after

        return view(await self._store.write(unit))

    async def remove(self, instance_ids: Collection[str] | None, subscription_id: str) -> None:
        """Deletes a subscription and everything that waits for it. Raises NotFound."""

        async def unit(tx: Tx) -> bool:
            return await rows.remove_subscription(tx, instance_ids, subscription_id)

        if not await self._store.write(unit):
            raise NotFound(ABSENT)

    async def rotate(
        self, instance_ids: Collection[str] | None, subscription_id: str, overlap_hours: float | None
    ) -> dict[str, Any]:
        """Gives a new secret; the current one signs too for `overlap_hours`, with 0 no old one signs any more.

        Raises NotFound, Invalid, and Conflict when too many secrets would sign.
        """
        hours = self._settings.overlap_hours if overlap_hours is None else overlap_hours
        longest = self._settings.overlap_hours_max
        if not 0 <= hours <= longest:
            raise Invalid("the body is not valid", errors=[("overlap_hours", f"must be between 0 and {longest:g}")])
        secret = new_secret()

        async def unit(tx: Tx) -> dict[str, Any]:
            before = await found(tx.conn, instance_ids, subscription_id, lock=True)
            until_us = tx.now_us + round(hours * HOUR_US)
            old = tuple(
                replace(each, until_us=until_us if each.until_us is None else each.until_us)
                for each in self._secrets.live(before, tx.now_us)
            )
            if not hours:
                old = ()
            if len(old) >= LIVE_SECRETS:
                raise Conflict(f"{LIVE_SECRETS} secrets are signing already; wait, or rotate with overlap_hours 0")
            sealed = self._secrets.seal(subscription_id, [Secret(secret, None), *old])
            after = replace(before, secrets_sealed=sealed, updated_us=tx.now_us)
            await rows.change_subscription(tx, after)
            return {
                **view(after),
                "signing_secret": secret,
                "previous_secret_expires_at": iso_us(until_us) if old else None,
            }

        return await self._store.write(unit)

    def _checked(self, model: type[F], fields: Mapping[str, Any]) -> F:
        try:
            given = model.model_validate(dict(fields))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            raise Invalid(
                "the subscription is not valid",
                errors=[
                    (".".join(str(part) for part in each["loc"]), each["msg"].removeprefix("Value error, "))
                    for each in problems[:100]
                ],
            ) from None
        unknown = [
            (f"subscribed_events.{index}", f"{name} is no event of GET /webhook-events")
            for index, name in enumerate(given.subscribed_events)
            if not acceptable(name, foreign=self._any_event)
        ]
        if unknown:
            raise Invalid("the subscription names unknown events", errors=unknown)
        return given


def view(subscription: Subscription) -> dict[str, Any]:
    """A subscription as callers see it: everything but its secrets; times ISO 8601."""
    since = subscription.failing_since_us
    return {
        "id": subscription.id,
        "instance_id": subscription.instance_id,
        "target_url": subscription.target_url,
        "subscribed_events": list(subscription.subscribed_events),
        **{name: _listed(getattr(subscription, name)) for name in _FILTERS},
        "is_active": subscription.is_active,
        "disabled_reason": subscription.disabled_reason,
        "failing_since": iso_us(since),
        "created_at": iso_us(subscription.created_us),
        "updated_at": iso_us(subscription.updated_us),
    }


async def found(
    conn: AsyncConnection, instance_ids: Collection[str] | None, subscription_id: str, *, lock: bool = False
) -> Subscription:
    """A subscription. Raises NotFound, the same for one of another instance."""
    subscription = await rows.subscription(conn, instance_ids, subscription_id, lock=lock)
    if subscription is None:
        raise NotFound(ABSENT)
    return subscription


def wake(tx: Tx) -> None:
    """Tells the workers of every node, after the commit, that something may be due."""
    tx.publish(Nudge("outbox"))


def _bound(subscription_id: str) -> str:
    return f"webhook_subscriptions/{subscription_id}"


def _filter(given: list[str] | None) -> tuple[str, ...] | None:
    return tuple(dict.fromkeys(given)) if given else None


def _listed(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)
