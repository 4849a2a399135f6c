"""Webhook subscriptions over HTTP (contract section 11, in the shape of Linq's API)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from waybridge.api.bodies import Body, InstanceId, Paging
from waybridge.api.operations import Call, Operation
from waybridge.errors import Invalid
from waybridge.model import to_us
from waybridge.webhooks.events import CATALOGUE, NAMES
from waybridge.webhooks.fields import ChangedFields, NewFields
from waybridge.webhooks.subscriptions import ABSENT

if TYPE_CHECKING:
    from aiohttp import web

    from waybridge.webhooks.history import History
    from waybridge.webhooks.subscriptions import Subscriptions

TAG = "Webhooks"
_LATEST = 253_402_300_799  # the last second of the year 9999


def _moment(value: float | str) -> float | str:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("must be unix seconds, or ISO 8601 with a zone") from None
        if moment.tzinfo is None:
            raise ValueError("must be unix seconds, or ISO 8601 with a zone")
    elif not 0 <= value <= _LATEST:
        raise ValueError("must be unix seconds between 1970 and 9999")
    return value


Moment = Annotated[float | str, AfterValidator(_moment)]


class NewSubscription(NewFields):
    """What creates a webhook subscription."""

    instance_id: InstanceId | None = None


class ChangedSubscription(ChangedFields):
    """What changes a webhook subscription; fields that are left out stay as they are."""

    instance_id: InstanceId | None = None


class Rotation(Body):
    """How long the secret that is replaced goes on signing too; 0 ends every old one at once."""

    overlap_hours: float | None = Field(default=None, ge=0, description="24 unless told.")


class Replay(Body):
    """What to send again: one event, or all events made in [since, until)."""

    event_id: str | None = Field(default=None, min_length=1, max_length=200)
    since: Moment | None = None
    until: Moment | None = None


class DeliveriesQuery(Paging):
    """Which deliveries."""

    state: Literal["pending", "delivered", "dead", "dropped"] | None = None
    event_id: str | None = None


class SubscriptionAnswer(BaseModel):
    """A webhook subscription."""

    id: str
    instance_id: str
    target_url: str
    subscribed_events: list[str]
    device_tokens: list[str] | None
    groups: list[str] | None
    causes: list[str] | None
    phone_numbers: list[str] | None
    is_active: bool
    disabled_reason: Literal["gone", "failing"] | None = Field(description="Why the gateway switched it off.")
    failing_since: str | None = Field(description="Since when every attempt has failed.")
    created_at: str
    updated_at: str


class NewSubscriptionAnswer(SubscriptionAnswer):
    """A webhook subscription with its signing secret, which is shown this once."""

    signing_secret: str


class RotationAnswer(NewSubscriptionAnswer):
    """The subscription with its new secret; until `previous_secret_expires_at` the old one signs too."""

    previous_secret_expires_at: str | None


class SubscriptionsAnswer(BaseModel):
    """All webhook subscriptions."""

    subscriptions: list[SubscriptionAnswer]


class EventKindAnswer(BaseModel):
    """One kind of event."""

    name: str
    description: str
    fields: list[str]


class CatalogueAnswer(BaseModel):
    """The events that there are: their names, and each with what it tells."""

    events: list[str]
    catalogue: list[EventKindAnswer]


class SentAnswer(BaseModel):
    """The test event that is on its way."""

    event_id: str
    event_type: str


class AttemptAnswer(BaseModel):
    """One attempt: `status` is null when no answer came; `answer` is the beginning of the body."""

    at: str
    duration_ms: int
    status: int | None
    error: str | None
    answer: str | None


class DeliveryAnswer(BaseModel):
    """One event on its way to one subscription."""

    delivery_id: str
    event_id: str
    event_type: str | None
    state: Literal["pending", "delivered", "dead", "dropped"]
    attempt_count: int
    attempts: list[AttemptAnswer]
    next_attempt_at: str | None
    created_at: str
    done_at: str | None


class DeliveriesAnswer(BaseModel):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryAnswer]
    total: int
    limit: int
    offset: int


class ReplayAnswer(BaseModel):
    """How many events are sent again."""

    replayed: int


class WebhookOperations:
    """The handlers: they read the request, ask the rules, answer."""

    def __init__(self, subscriptions: Subscriptions, history: History) -> None:
        self._subscriptions = subscriptions
        self._history = history

    def operations(self) -> list[Operation]:
        """Everything below `/webhook-subscriptions`, and the catalogue."""

        def one(method: str, tail: str, handler: Any, summary: str, **more: Any) -> Operation:
            return Operation(
                method=method,
                path=f"/webhook-subscriptions{tail}",
                handler=handler,
                summary=summary,
                tag=TAG,
                scope="read" if method == "GET" else "write",
                instance=more.pop("instance", "optional"),
                absent=ABSENT,
                **more,
            )

        return [
            one(
                "POST", "", self._create, "Subscribe an address to events", instance="body_or_query",
                body=NewSubscription, answers={201: NewSubscriptionAnswer, 409: None},
            ),
            one("GET", "", self._every, "All webhook subscriptions", answers={200: SubscriptionsAnswer}),
            one("GET", "/{subscription_id}", self._one, "One subscription", answers={200: SubscriptionAnswer}),
            one(
                "PUT", "/{subscription_id}", self._replace, "Change a subscription",
                body=ChangedSubscription, answers={200: SubscriptionAnswer},
            ),
            one("DELETE", "/{subscription_id}", self._remove, "Unsubscribe", answers={204: None}),
            one(
                "POST", "/{subscription_id}/test", self._test, "Send a test event",
                answers={202: SentAnswer, 409: None},
            ),
            one(
                "POST", "/{subscription_id}/rotate-secret", self._rotate, "Replace the signing secret",
                body=Rotation, body_required=False, answers={200: RotationAnswer, 409: None},
            ),
            one(
                "GET", "/{subscription_id}/deliveries", self._deliveries, "What was delivered, with every attempt",
                query=DeliveriesQuery, answers={200: DeliveriesAnswer},
            ),
            one(
                "POST", "/{subscription_id}/replay", self._replay, "Send events again",
                body=Replay, body_required=False, answers={202: ReplayAnswer, 409: None},
            ),
            Operation(
                method="GET", path="/webhook-events", handler=self._catalogue, summary="The catalogue of events",
                tag=TAG, scope="read", instance="none", answers={200: CatalogueAnswer},
            ),
        ]  # fmt: skip

    async def _create(self, call: Call) -> web.Response:
        fields = _given(call.body)
        return call.json(await self._subscriptions.create(_instance(call), fields), status=201)

    async def _every(self, call: Call) -> web.Response:
        return call.json({"subscriptions": await self._subscriptions.every(_seen(call))})

    async def _one(self, call: Call) -> web.Response:
        return call.json(await self._subscriptions.one(_seen(call), call.path["subscription_id"]))

    async def _replace(self, call: Call) -> web.Response:
        named = call.body.instance_id
        if named is not None:
            if call.instance_id not in (None, named):
                raise Invalid(
                    "the body and the query name different instances",
                    errors=[("instance_id", "differs from the query's instance_id")],
                )
            if call.principal is None or not call.principal.covers(named):
                raise call.absent()
        seen = _seen(call) if named is None else [named]
        return call.json(await self._subscriptions.replace(seen, call.path["subscription_id"], _given(call.body)))

    async def _remove(self, call: Call) -> web.Response:
        await self._subscriptions.remove(_seen(call), call.path["subscription_id"])
        return call.empty()

    async def _test(self, call: Call) -> web.Response:
        return call.json(await self._history.test(_seen(call), call.path["subscription_id"]), status=202)

    async def _rotate(self, call: Call) -> web.Response:
        overlap = None if call.body is None else call.body.overlap_hours
        return call.json(await self._subscriptions.rotate(_seen(call), call.path["subscription_id"], overlap))

    async def _deliveries(self, call: Call) -> web.Response:
        asked: DeliveriesQuery = call.query
        answer = await self._history.deliveries(
            _seen(call),
            call.path["subscription_id"],
            state=asked.state,
            event_id=asked.event_id,
            limit=asked.limit,
            offset=asked.offset,
        )
        return call.json(answer)

    async def _replay(self, call: Call) -> web.Response:
        asked: Replay = call.body or Replay()
        subscription_id = call.path["subscription_id"]
        ranged = asked.since is not None or asked.until is not None
        if (asked.event_id is not None) == ranged:
            raise Invalid(
                "the body is not valid", errors=[("event_id", "give either event_id, or since, until or both")]
            )
        if asked.event_id is not None:
            answer = await self._history.replay_event(_seen(call), subscription_id, asked.event_id)
        else:
            answer = await self._history.replay_range(
                _seen(call), subscription_id, _microseconds(asked.since), _microseconds(asked.until)
            )
        return call.json(answer, status=202)

    @staticmethod
    async def _catalogue(call: Call) -> web.Response:
        kinds = [{"name": kind.name, "description": kind.when, "fields": list(kind.fields)} for kind in CATALOGUE]
        return call.json({"events": list(NAMES), "catalogue": kinds})


def _instance(call: Call) -> str:
    if call.instance_id is None:
        raise call.absent()
    return call.instance_id


def _seen(call: Call) -> list[str] | None:
    """The instances that the caller may see: the one that was asked for, or all of its token; None is every one."""
    if call.instance_id is not None:
        return [call.instance_id]
    if call.principal is None:
        return []
    return None if "*" in call.principal.instances else sorted(call.principal.instances)


def _given(body: BaseModel) -> dict[str, Any]:
    return body.model_dump(exclude_unset=True, exclude={"instance_id"})


def _microseconds(moment: float | str | None) -> int | None:
    match moment:
        case None:
            return None
        case str():
            return to_us(datetime.fromisoformat(moment))
        case _:
            return round(moment * 1_000_000)
