"""`/v3/webhook-subscriptions` and `/v3/webhook-events`: the gateway's webhooks in the vendor's shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from waybridge_linq_api import vocabulary
from waybridge_linq_api.dialect import BAD_VALUE, MISSING_FIELD, ROOT, Refusal, fields_of, json_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from waybridge import Gateway
    from waybridge_linq_api.dialect import Call, Dialect

SUBSCRIPTIONS = f"{ROOT}/webhook-subscriptions"
KEPT = ("target_url", "subscribed_events", "phone_numbers", "is_active")
"""The fields that the gateway keeps. Delivery affinity (`routing_*`) it has not, and says so by null."""


class Subscriptions:
    """The handlers of webhook subscriptions."""

    def __init__(self, gateway: Gateway, dialect: Dialect) -> None:
        self._gateway = gateway
        self._dialect = dialect

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        served = self._dialect.served
        one = SUBSCRIPTIONS + "/{subscription_id}"
        return [
            web.post(SUBSCRIPTIONS, served("write", self.create)),
            web.get(SUBSCRIPTIONS, served("read", self.every)),
            web.get(one, served("read", self.one)),
            web.put(one, served("write", self.update)),
            web.delete(one, served("write", self.remove)),
            web.get(f"{ROOT}/webhook-events", served("read", self.events)),
        ]

    async def create(self, call: Call) -> web.Response:
        given = await fields_of(call.request)
        for name in ("target_url", "subscribed_events"):
            if given.get(name) in (None, "", []):
                raise Refusal(400, MISSING_FIELD, f"{name} is required")
        made = await self._gateway.subscriptions.create(_instance(call, given), _checked(given))
        return json_answer({**_shown(made), "signing_secret": made["signing_secret"]}, status=201)

    async def every(self, call: Call) -> web.Response:
        found = await self._gateway.subscriptions.every(call.instances)
        return json_answer({"subscriptions": [_shown(one) for one in found]})

    async def one(self, call: Call) -> web.Response:
        return json_answer(_shown(await self._gateway.subscriptions.one(call.instances, _id(call))))

    async def update(self, call: Call) -> web.Response:
        changes = _checked(await fields_of(call.request))
        return json_answer(_shown(await self._gateway.subscriptions.replace(call.instances, _id(call), changes)))

    async def remove(self, call: Call) -> web.Response:
        await self._gateway.subscriptions.remove(call.instances, _id(call))
        return web.Response(status=204)

    async def events(self, _call: Call) -> web.Response:
        return json_answer({"events": list(vocabulary.SENT), "doc_url": vocabulary.DOC_URL})


def _id(call: Call) -> str:
    return call.request.match_info["subscription_id"]


def _instance(call: Call, given: Mapping[str, Any]) -> str:
    """Where a subscription is made: the token's only instance, the one that is named, else `default`."""
    named = given.get("instance_id")
    if named is not None and named not in call.instances:
        raise Refusal(404, 2001, "There is no such instance")
    if named is None and len(call.instances) != 1:
        if "default" not in call.instances:
            raise Refusal(400, MISSING_FIELD, "instance_id is required: the token covers more than one instance")
        return "default"
    return str(named or call.instances[0])


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for, as far as the gateway keeps it; only the vendor's event names are taken."""
    events = given.get("subscribed_events")
    if events is not None:
        if not isinstance(events, list) or not events:
            raise Refusal(400, BAD_VALUE, "subscribed_events must be a list of event names")
        unknown = [name for name in events if not vocabulary.is_linqs(name)]
        if unknown:
            raise Refusal(400, BAD_VALUE, f"subscribed_events: {str(unknown[0])[:100]!r} is no event")
    nullable = ("phone_numbers",)
    return {name: given[name] for name in KEPT if name in given and (given[name] is not None or name in nullable)}


def _shown(subscription: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": subscription["id"],
        "target_url": subscription["target_url"],
        "subscribed_events": vocabulary.shown(subscription["subscribed_events"]),
        "phone_numbers": subscription.get("phone_numbers"),
        "is_active": subscription["is_active"],
        "created_at": subscription["created_at"],
        "updated_at": subscription["updated_at"],
        "routing_key_header": None,
        "routing_id_header": None,
    }
