"""Linq's own Python client, strict, against the gateway's dialect; and the dialect's manners on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import linq as sdk
import pytest
from linq import AsyncLinqAPIV3
from linq_api_fakes import ANNA, CHAT, PARKED, VAN, FakeGateway, mounted

from waybridge.errors import BadGateway, Conflict, TooMany, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOOK = "https://receiver.example/hook"
EVERYTHING = "acme:read write"


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
async def url(gateway: FakeGateway) -> AsyncIterator[str]:
    async with mounted(gateway) as base:
        yield base


def client(url: str, token: str = EVERYTHING) -> AsyncLinqAPIV3:
    """As an integrator makes it: only key and base URL are his; retries as they are by default."""
    return AsyncLinqAPIV3(api_key=token, base_url=url, _strict_response_validation=True)


@pytest.fixture
async def linq(url: str) -> AsyncIterator[AsyncLinqAPIV3]:
    async with client(url) as made:
        yield made


async def test_a_device_is_read_as_a_chat(linq: AsyncLinqAPIV3) -> None:
    [feature] = (await linq.chats.location.retrieve(VAN)).data.features
    assert feature.geometry.coordinates == [17.1, 48.14, 150.0]
    assert feature.properties.handle == "Driver of van-1", "without a handle the display name stands in"
    [anna] = (await linq.chats.location.retrieve(ANNA.upper().replace("-", ""))).data.features
    assert anna.properties.model_dump(exclude={"updated_at"}) == {
        "handle": "+14155550101",
        "address": "Mannerheimintie 1",
        "locality": "Helsinki",
    }
    assert anna.properties.updated_at is not None
    assert anna.properties.updated_at.isoformat() == "2026-04-12T13:20:00+00:00"


async def test_a_group_shows_those_who_can_be_seen(linq: AsyncLinqAPIV3) -> None:
    group = await linq.chats.location.retrieve("vans")
    assert [feature.properties.handle for feature in group.data.features] == ["Driver of van-1"]


async def test_a_real_chat_shows_its_people(linq: AsyncLinqAPIV3) -> None:
    chat = await linq.chats.location.retrieve(CHAT)
    assert [feature.properties.handle for feature in chat.data.features] == ["+14155550101"]


async def test_nobody_to_see_is_an_empty_list(linq: AsyncLinqAPIV3) -> None:
    assert (await linq.chats.location.retrieve(PARKED)).data.features == []


@pytest.mark.parametrize("chat", ["nobody", "a/../b c", "\x00", "x" * 300, "..", "%2e"])
async def test_an_unknown_chat_is_not_found_at_once(url: str, linq: AsyncLinqAPIV3, chat: str) -> None:
    with pytest.raises((sdk.NotFoundError, ValueError)) as absent:
        await linq.chats.location.retrieve(chat)
    if isinstance(absent.value, sdk.NotFoundError):
        assert absent.value.code == 2001


async def test_a_person_is_asked_by_device_and_by_chat(linq: AsyncLinqAPIV3, gateway: FakeGateway) -> None:
    answer = await linq.chats.location.request(ANNA)
    assert (answer.success, answer.message) == (True, "Location request sent")
    await linq.chats.location.request(CHAT)
    assert gateway.asked == [ANNA, CHAT]


@pytest.mark.parametrize(
    ("chat", "refusal", "code"),
    [
        ("vans", None, 2016),
        (VAN, None, 2017),
        (ANNA, Conflict("already sharing"), 2018),
        (CHAT, Conflict("group chats cannot be asked to share (Linq 2016, GroupChatNotSupported)"), 2016),
        (CHAT, Conflict("only iMessage chats can be asked to share (Linq 2017, ChatServiceNotSupported)"), 2017),
        (CHAT, Conflict("the chat is unavailable (Linq 2013)"), 2013),
    ],
)
async def test_refusals_to_ask_are_409_and_not_tried_again(
    linq: AsyncLinqAPIV3, gateway: FakeGateway, chat: str, refusal: Conflict | None, code: int
) -> None:
    gateway.refusal = refusal
    with pytest.raises(sdk.ConflictError) as conflict:
        await linq.chats.location.request(chat)
    assert conflict.value.code == code
    assert conflict.value.response.headers["x-should-retry"] == "false"
    assert gateway.calls <= 1


async def test_a_limited_request_carries_the_wait(url: str, gateway: FakeGateway) -> None:
    gateway.refusal = TooMany("the vendor asks to wait", retry_after=37)
    async with client(url).with_options(max_retries=0) as once:
        with pytest.raises(sdk.RateLimitError) as limited:
            await once.chats.location.request(ANNA)
    assert (limited.value.code, limited.value.retry_after) == (1007, 37)
    assert limited.value.response.headers["Retry-After"] == "37"
    assert "x-should-retry" not in limited.value.response.headers


@pytest.mark.parametrize("failure", [BadGateway("the vendor did not answer"), Unavailable("the store is down")])
async def test_a_failure_after_the_prompt_may_have_gone_out_is_not_tried_again(
    linq: AsyncLinqAPIV3, gateway: FakeGateway, failure: Any
) -> None:
    gateway.refusal = failure
    with pytest.raises(sdk.InternalServerError) as broken:
        await linq.chats.location.request(ANNA)
    assert (broken.value.code, gateway.calls) == (3006, 1)


async def test_subscriptions_live(linq: AsyncLinqAPIV3) -> None:
    made = await linq.webhook_subscriptions.create(
        target_url=HOOK,
        subscribed_events=["location.sharing.started", "message.sent"],
        phone_numbers=["+12025550100"],
        routing_key_header="X-Route",
    )
    assert made.signing_secret.startswith("whsec_")
    assert made.subscribed_events == ["location.sharing.started", "message.sent"], "what we never send is kept"
    assert (made.phone_numbers, made.is_active, made.routing_key_header) == (["+12025550100"], True, None)
    again = await linq.webhook_subscriptions.create(target_url=HOOK, subscribed_events=["location.sharing.stopped"])
    assert again.id != made.id, "the same address may be subscribed twice"
    assert [one.id for one in (await linq.webhook_subscriptions.list()).subscriptions] == [made.id, again.id]
    assert (await linq.webhook_subscriptions.retrieve(made.id)).target_url == HOOK

    changed = await linq.webhook_subscriptions.update(
        made.id, is_active=False, phone_numbers=None, subscribed_events=["location.sharing.stopped"]
    )

    assert (changed.is_active, changed.phone_numbers) == (False, None)
    assert changed.subscribed_events == ["location.sharing.stopped"]
    assert changed.target_url == HOOK
    await linq.webhook_subscriptions.delete(made.id)
    with pytest.raises(sdk.NotFoundError):
        await linq.webhook_subscriptions.retrieve(made.id)


async def test_subscriptions_made_elsewhere_show_the_vendors_names_only(
    linq: AsyncLinqAPIV3, gateway: FakeGateway
) -> None:
    for events in (["device.*", "location.*"], ["*"], ["driver.event", "connection.degraded"]):
        await gateway.subscriptions.create("acme", {"target_url": HOOK, "subscribed_events": events})
    shown = (await linq.webhook_subscriptions.list()).subscriptions
    both = ["location.sharing.started", "location.sharing.stopped"]
    assert [one.subscribed_events for one in shown] == [both, both, []]


async def test_the_catalogue_is_what_is_sent_in_the_vendors_names(linq: AsyncLinqAPIV3) -> None:
    assert (await linq.webhook_events.list()).events == ["location.sharing.started", "location.sharing.stopped"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"subscribed_events": ["message.sent"]}, 1001),
        ({"target_url": HOOK}, 1001),
        ({"target_url": HOOK, "subscribed_events": []}, 1001),
        ({"target_url": HOOK, "subscribed_events": "message.sent"}, 1005),
        ({"target_url": HOOK, "subscribed_events": ["device.online"]}, 1005),
        ({"target_url": HOOK, "subscribed_events": ["connection.degraded"]}, 1005),
        ({"target_url": HOOK, "subscribed_events": [7]}, 1005),
        ({"target_url": "http://receiver.example", "subscribed_events": ["message.sent"]}, 1005),
    ],
)
async def test_wrong_subscriptions_are_400(url: str, fields: dict[str, Any], code: int) -> None:
    status, answer, headers = await send(url, "POST", "/v3/webhook-subscriptions", json=fields)
    assert (status, answer["error"]["code"], headers["x-should-retry"]) == (400, code, "false")


async def send(url: str, method: str, path: str, token: str = EVERYTHING, **more: Any) -> tuple[int, Any, Any]:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"} if token else {}) as session,
        session.request(method, url + path, **more) as response,
    ):
        return response.status, await response.json() if response.status != 204 else None, response.headers


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a": NaN}', b"\xff", b"[" * 60_000])
async def test_what_is_no_object_is_400(url: str, body: bytes) -> None:
    status, answer, _ = await send(url, "POST", "/v3/webhook-subscriptions", data=body)
    assert (status, answer["error"]["code"]) == (400, 1003)


async def test_a_body_over_64_kib_is_413(url: str) -> None:
    status, answer, _ = await send(url, "POST", "/v3/webhook-subscriptions", data=b" " * 70_000)
    assert (status, answer["success"]) == (413, False)


@pytest.mark.parametrize("token", ["", "nonsense"])
async def test_without_a_good_key_it_is_401(url: str, token: str) -> None:
    status, answer, headers = await send(url, "GET", "/v3/webhook-subscriptions", token)
    assert status == 401
    assert answer["error"].items() >= {"status": 401, "code": 2004}.items()
    assert (headers["WWW-Authenticate"], headers["x-should-retry"]) == ("Bearer", "false")
    assert answer["trace_id"] == headers["X-Trace-ID"]
    assert len(answer["trace_id"]) == 32


@pytest.mark.parametrize(
    ("method", "path", "token"),
    [
        ("POST", "/v3/webhook-subscriptions", "acme:read"),
        ("POST", f"/v3/chats/{ANNA}/location/request", "acme:read ingest admin"),
        ("GET", f"/v3/chats/{ANNA}/location", "acme:write"),
        ("DELETE", "/v3/webhook-subscriptions/1", "acme:read"),
    ],
)
async def test_a_lacking_scope_is_403(url: str, method: str, path: str, token: str) -> None:
    status, answer, _ = await send(url, method, path, token)
    assert (status, answer["error"]["code"]) == (403, 2005)


async def test_another_instances_things_do_not_exist(url: str, gateway: FakeGateway) -> None:
    made = await gateway.subscriptions.create("acme", {"target_url": HOOK, "subscribed_events": ["message.sent"]})
    told = []
    for path in (f"/v3/webhook-subscriptions/{made['id']}", "/v3/webhook-subscriptions/never-was"):
        status, answer, _ = await send(url, "GET", path, "other:read write")
        told.append((status, answer["error"]))
    assert told[0] == told[1]
    for path in (f"/v3/chats/{ANNA}/location", f"/v3/chats/{CHAT}/location", "/v3/chats/vans/location"):
        status, answer, _ = await send(url, "GET", path, "other:read")
        assert (status, answer["error"]["code"]) == (404, 2001)


async def test_a_token_of_many_instances_names_one_where_it_must(url: str, gateway: FakeGateway) -> None:
    fields = {"target_url": HOOK, "subscribed_events": ["message.sent"]}
    status, answer, _ = await send(url, "POST", "/v3/webhook-subscriptions", "*:write", json=fields)
    assert (status, answer["error"]["code"]) == (400, 1001)
    status, made, _ = await send(url, "POST", "/v3/webhook-subscriptions?instance_id=other", "*:write", json=fields)
    assert status == 201
    assert gateway.subscriptions.kept[made["id"]]["instance_id"] == "other"
    status, answer, _ = await send(url, "GET", f"/v3/chats/{VAN}/location", "*:read")
    assert status == 409
    status, answer, _ = await send(url, "GET", f"/v3/chats/{VAN}/location?instance_id=other", "*:read")
    assert answer["data"]["features"][0]["geometry"]["coordinates"] == [2.0, 1.0]
    status, _, _ = await send(url, "GET", f"/v3/chats/{VAN}/location?instance_id=third", "*:read")
    assert status == 404


async def test_anything_else_is_404_in_the_envelope(url: str) -> None:
    for method, path in (("GET", "/v3/messages/1"), ("PATCH", "/v3/webhook-subscriptions"), ("GET", "/v2/chats")):
        status, answer, _ = await send(url, method, path)
        assert (status, answer["success"], answer["error"]["code"]) == (404, False, 2001)
