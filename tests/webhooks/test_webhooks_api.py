"""Subscriptions over HTTP: shapes, scopes, instances (contract sections 4 and 11)."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from linq.types import WebhookSubscription, WebhookSubscriptionCreateResponse
from webhooks_harness import Clock, Receiver, TokenHolder, Tokens, deliver, emit

from waybridge.api.address import ClientAddress
from waybridge.api.cors import CrossOrigin
from waybridge.api.operations import Dispatcher
from waybridge.api.server import edge, mount
from waybridge.api.webhooks import WebhookOperations
from waybridge.store.engine import Store
from waybridge.webhooks import Webhooks
from waybridge.webhooks.events import NAMES

BASE = "/api/v1/webhook-subscriptions"
ACME = {"Authorization": "Bearer acme"}
OTHER = {"Authorization": "Bearer other"}
READER = {"Authorization": "Bearer reader"}


@pytest.fixture
def database_url(tmp_path: Any) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'waybridge.db'}"


@pytest.fixture
async def client(aiohttp_client: Any, webhooks: Webhooks) -> TestClient[Any, Any]:
    tokens = Tokens(
        acme=TokenHolder(),
        other=TokenHolder(instances=frozenset({"other"})),
        star=TokenHolder(instances=frozenset({"*"})),
        reader=TokenHolder(scopes=frozenset({"read"})),
    )
    cross_origin = CrossOrigin(tokens)
    app = web.Application(middlewares=[edge(cross_origin)])
    operations = WebhookOperations(webhooks.subscriptions, webhooks.history).operations()
    mount(app, operations, dispatcher=Dispatcher(tokens, ClientAddress()), cross_origin=cross_origin)
    return await aiohttp_client(app)


def body(url: str = "http://127.0.0.1:9000/", **more: Any) -> dict[str, Any]:
    return {"instance_id": "acme", "target_url": url, "subscribed_events": ["location.sharing.started"], **more}


async def made(client: TestClient[Any, Any], **more: Any) -> dict[str, Any]:
    response = await client.post(BASE, json=body(**more), headers=ACME)
    assert response.status == 201, await response.text()
    return await response.json()


async def test_a_subscription_lives_from_post_to_delete(client: TestClient[Any, Any]) -> None:
    subscription = await made(client)
    secret = subscription.pop("signing_secret")
    assert secret.startswith("whsec_")
    WebhookSubscriptionCreateResponse.model_validate({**subscription, "signing_secret": secret}, strict=False)
    WebhookSubscription.model_validate(subscription)

    one = await client.get(f"{BASE}/{subscription['id']}", headers=ACME)
    assert (one.status, await one.json()) == (200, subscription)
    every = await client.get(f"{BASE}?instance_id=acme", headers=ACME)
    assert await every.json() == {"subscriptions": [subscription]}
    changed = await client.put(
        f"{BASE}/{subscription['id']}",
        json={"subscribed_events": ["device.*"], "is_active": False, "instance_id": "acme"},
        headers=ACME,
    )
    assert changed.status == 200
    assert await changed.json() == {
        **subscription, "subscribed_events": ["device.*"], "is_active": False,
    }  # fmt: skip
    gone = await client.delete(f"{BASE}/{subscription['id']}", headers=ACME)
    assert (gone.status, await gone.read()) == (204, b"")
    assert (await client.delete(f"{BASE}/{subscription['id']}", headers=ACME)).status == 404


async def test_the_instance_may_stand_in_the_query(client: TestClient[Any, Any]) -> None:
    fields = body()
    del fields["instance_id"]
    assert (await client.post(f"{BASE}?instance_id=acme", json=fields, headers=ACME)).status == 201
    assert (await client.post(BASE, json=fields, headers=ACME)).status == 422
    assert (await client.post(f"{BASE}?instance_id=acme", json=body(instance_id="b"), headers=ACME)).status == 422


@pytest.mark.parametrize(
    ("method", "tail", "sent"),
    [
        ("GET", "", None),
        ("PUT", "", {"is_active": False}),
        ("DELETE", "", None),
        ("POST", "/test", None),
        ("POST", "/rotate-secret", {}),
        ("GET", "/deliveries", None),
        ("POST", "/replay", {"event_id": "evt_1"}),
    ],
)
async def test_what_belongs_to_another_instance_is_answered_like_what_never_existed(
    client: TestClient[Any, Any], method: str, tail: str, sent: Any
) -> None:
    subscription = await made(client)
    answers = []
    for key, headers, query in (
        (subscription["id"], OTHER, ""),
        ("00000000-0000-4000-8000-000000000000", OTHER, ""),
        (subscription["id"], OTHER, "?instance_id=acme"),
        (subscription["id"], OTHER, "?instance_id=other"),
    ):
        response = await client.request(method, f"{BASE}/{key}{tail}{query}", json=sent, headers=headers)
        answers.append((response.status, await response.read()))
    assert {status for status, _ in answers} == {404}
    assert len(set(answers)) == 1


async def test_reading_needs_read_and_changing_needs_write(client: TestClient[Any, Any]) -> None:
    subscription = await made(client)
    url = f"{BASE}/{subscription['id']}"
    assert (await client.get(url, headers=READER)).status == 200
    assert (await client.get(f"{url}/deliveries", headers=READER)).status == 200
    for method, tail in (
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/test"),
        ("POST", "/rotate-secret"),
        ("POST", "/replay"),
    ):
        assert (await client.request(method, url + tail, json={}, headers=READER)).status == 403
    assert (await client.post(BASE, json=body(), headers=READER)).status == 403
    assert (await client.get(url)).status == 401


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"target_url": "ftp://a.example/"}, "target_url"),
        ({"subscribed_events": ["nothing.known"]}, "subscribed_events.0"),
        ({"subscribed_events": []}, "subscribed_events"),
        ({"colour": "red"}, "colour"),
        ({"is_active": 1}, "is_active"),
    ],
)
async def test_bad_fields_are_422_and_named(client: TestClient[Any, Any], fields: dict[str, Any], named: str) -> None:
    response = await client.post(BASE, json={**body(), **fields}, headers=ACME)
    assert response.status == 422
    problem = await response.json(content_type=None)
    assert [each["field"] for each in problem["errors"]] == [named]


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"event_id": "evt_1", "since": 1},
        {"since": "yesterday"},
        {"since": "2026-11-18T11:06:40"},
        {"since": -1},
        {"since": 1e300},
        {"since": True},
        {"since": 20, "until": 10},
        {"event_id": ""},
        None,
    ],
)
async def test_a_replay_of_nothing_nameable_is_422(client: TestClient[Any, Any], sent: dict[str, Any] | None) -> None:
    subscription = await made(client)
    response = await client.post(f"{BASE}/{subscription['id']}/replay", json=sent, headers=ACME)
    assert response.status == 422, await response.text()


async def test_deliveries_are_listed_with_attempts_and_replayed(
    client: TestClient[Any, Any], webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock
) -> None:
    subscription = await made(client, target_url=receiver.url, subscribed_events=["*"])
    url = f"{BASE}/{subscription['id']}"
    receiver.answers = [500]
    event_id = await emit(store, device_token="van-1")
    await deliver(webhooks)

    page = await (await client.get(f"{url}/deliveries?limit=1", headers=ACME)).json()
    assert (page["total"], page["limit"], page["offset"]) == (1, 1, 0)
    (delivery,) = page["deliveries"]
    (attempt,) = delivery.pop("attempts")
    assert {**delivery, "delivery_id": None} == {
        "delivery_id": None,
        "event_id": event_id,
        "event_type": "device.online",
        "state": "pending",
        "attempt_count": 1,
        "next_attempt_at": "2026-11-18T11:06:45Z",
        "created_at": "2026-11-18T11:06:40Z",
        "done_at": None,
    }
    assert (attempt["status"], attempt["error"], attempt["at"]) == (500, "answered 500", "2026-11-18T11:06:40Z")
    none = await (await client.get(f"{url}/deliveries?state=dead", headers=ACME)).json()
    assert none["deliveries"] == []
    assert (await client.get(f"{url}/deliveries?state=lost", headers=ACME)).status == 422

    clock.forward(1)
    for sent in (
        {"event_id": event_id},
        {"since": "2026-11-18T12:06:40+01:00"},
        {"since": 1_795_000_000, "until": 1_795_000_001.5},
    ):
        response = await client.post(f"{url}/replay", json=sent, headers=ACME)
        assert (response.status, await response.json()) == (202, {"replayed": 1})
    await deliver(webhooks)
    assert receiver.ids == [event_id] * 4


async def test_test_event_and_rotation_answer_as_documented(
    client: TestClient[Any, Any], webhooks: Webhooks, receiver: Receiver
) -> None:
    subscription = await made(client, target_url=receiver.url)
    url = f"{BASE}/{subscription['id']}"
    sent = await client.post(f"{url}/test", headers=ACME)
    assert sent.status == 202
    await deliver(webhooks)
    assert receiver.ids == [(await sent.json())["event_id"]]

    rotated = await client.post(f"{url}/rotate-secret", headers=ACME)
    assert rotated.status == 200
    answer = await rotated.json()
    assert answer["signing_secret"] != subscription["signing_secret"]
    assert answer["previous_secret_expires_at"] == "2026-11-19T11:06:40Z"
    for bad in ({"overlap_hours": -1}, {"overlap_hours": 169}, {"overlap_hours": "1"}):
        assert (await client.post(f"{url}/rotate-secret", json=bad, headers=ACME)).status == 422


async def test_the_catalogue_names_every_event(client: TestClient[Any, Any]) -> None:
    answer = await (await client.get("/api/v1/webhook-events", headers=READER)).json()
    assert answer["events"] == list(NAMES)
    assert [each["name"] for each in answer["catalogue"]] == answer["events"]
    assert {"location.sharing.started", "location.sharing.stopped", "message.exhausted"} <= set(answer["events"])
