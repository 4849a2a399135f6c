"""The native provider: requests in, receipts and profiles out."""

import json
import logging
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError

from waybridge import (
    CredentialsRejected,
    Outcome,
    Profile,
    ProviderContext,
    Push,
    PushRejected,
    Rejection,
    Sender,
    SourceKey,
    SourceUnavailable,
)
from waybridge_native import Native, NativeSettings, waybridge_providers

FIX = {"device_token": "van-1", "latitude": 53.4, "longitude": -2.25, "timestamp": 1_700_000_000}


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def native(session):
    def make(**settings):
        context = ProviderContext(
            instance_id="default", connection_id="native", session=session, state=None, clock=None,
            count=lambda name, amount=1: None, log=logging.getLogger("test"),
        )  # fmt: skip
        return Native(NativeSettings(**settings), context)

    return make


def push(body, *, method="POST", path="positions", headers=None, frame=None, device=None):
    return Push(
        method=method, path=path, segments=tuple(path.split("/")), query={}, headers=headers or {},
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        received_at=datetime(2026, 1, 1, tzinfo=UTC), frame=frame,
        sender=Sender(subject="t", instances=frozenset({"default"}), device_token=device),
    )  # fmt: skip


async def refusal(provider, push):
    with pytest.raises(PushRejected) as caught:
        await provider.receive(push)
    body = json.loads(caught.value.body)
    assert body["status"] == caught.value.status
    assert caught.value.headers["Content-Type"] == "application/problem+json"
    return caught.value, body


def test_the_provider_comes_in_by_the_strangers_door():
    assert waybridge_providers() == [Native]
    assert Native.kind == "native"
    assert Native.capabilities.receives


async def test_a_push_becomes_a_receipt_with_everything_in_it(native):
    receipt = await native().receive(push({"instance_id": "acme", "positions": [{**FIX, "latitude": "1"}, FIX]}))
    assert receipt.instance_id == "acme"
    assert [position.source for position in receipt.reports] == [SourceKey("native", "van-1")]
    assert list(receipt.indexes) == [1]
    assert list(receipt.rejected) == [Rejection(0, "latitude", "must be a number")]
    assert receipt.intents == ()


async def test_the_answer_tells_what_became_of_each(native):
    receipt = await native().receive(push(FIX))
    outcome = Outcome(accepted=2, duplicates=1, rejected=[Rejection(4, "b", "y"), Rejection(1, "a", "x")])
    answer = receipt.answer(outcome)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "accepted": 2,
        "duplicates": 1,
        "rejected": [{"index": 1, "field": "a", "error": "x"}, {"index": 4, "field": "b", "error": "y"}],
    }


async def test_the_answer_names_fields_as_they_were_sent(native):
    answer = (await native().receive(push(FIX))).answer(Outcome(rejected=[Rejection(0, "recorded_at", "too old")]))
    assert json.loads(answer.body)["rejected"] == [{"index": 0, "field": "timestamp", "error": "too old"}]


async def test_the_answer_is_422_only_when_every_item_is_rejected(native):
    answer = (await native().receive(push(FIX))).answer
    refused = [Rejection(0, "latitude", "x")]
    assert answer(Outcome(rejected=refused)).status == 422
    assert answer(Outcome(duplicates=1, rejected=refused)).status == 200
    assert answer(Outcome(duplicates=1)).status == 200
    assert json.loads(answer(Outcome(rejected=refused)).body)["accepted"] == 0


async def test_a_frame_is_a_push_with_the_same_body(native):
    receipt = await native().receive(push(FIX, method="FRAME", path="live", frame=3))
    assert len(receipt.reports) == 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (push(b"{"), 400),
        (push(b"{", method="FRAME", path="live", frame=1), 400),
        (push(FIX, path="elsewhere"), 404),
        (push(FIX, path="positions/1"), 404),
        (push(FIX, method="GET"), 405),
        (push(FIX, method="PUT"), 405),
        (push(FIX, headers={"content-type": "text/csv"}), 415),
        (push({"positions": []}), 422),
        (push({"positions": [FIX] * 1001}), 422),
    ],
)
async def test_a_refused_push_is_a_problem(native, request_, status):
    error, body = await refusal(native(), request_)
    assert error.status == status
    if status == 422:
        assert body["errors"][0]["field"] == "positions"
    if status == 405:
        assert error.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "media", ["application/json; charset=utf-8", "application/geo+json", "application/octet-stream"]
)
async def test_json_is_taken_under_any_of_its_names(native, media):
    assert (await native().receive(push(FIX, headers={"content-type": media}))).reports


async def test_a_bound_token_writes_its_own_device_only(native):
    token = "6D1F5E0E9D7B4A7E8F5E0123456789AB"
    own = {**FIX, "device_token": token.lower()}
    assert (await native().receive(push(own, device=token))).reports
    error, _ = await refusal(native(), push({"positions": [own, FIX]}, device=token))
    assert error.status == 403


# Profiles.


@pytest.fixture
async def users():
    asked = []
    answers = {}

    async def answer(request):
        asked.append(request)
        status, body = answers.get(request.match_info["token"], (404, b""))
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_get("/profiles/{token}", answer)
    server = TestServer(app)
    await server.start_server()
    server.asked, server.answers = asked, answers
    yield server
    await server.close()


def source(token):
    return SourceKey("native", token)


async def test_a_profile_is_fetched_with_the_token(native, users):
    users.answers["van 1/é"] = 200, b'{"first_name": "Ada", "LastName": "L", "clientId": 7, "phone": " "}'
    provider = native(profile_url=str(users.make_url("/profiles/")) + "{device_token}", profile_token="sesame")
    profile = await provider.profile(source("van 1/é"))
    assert profile == Profile(source=source("van 1/é"), first_name="Ada", last_name="L", client_id="7")
    assert users.asked[0].headers["Authorization"] == "Bearer sesame"


async def test_the_telematics_user_services_shape_is_read(native, users):
    found = {"UserProfile": {"FirstName": "Ada", "Nickname": "A", "Email": "a@b.c"}, "UserFields": [{"ClientId": "c1"}]}
    users.answers["x"] = 200, json.dumps({"Result": [found]}).encode()
    profile = await native(profile_url=f"{users.make_url('/profiles/')}{{device_token}}").profile(source("x"))
    assert profile == Profile(source=source("x"), first_name="Ada", nickname="A", email="a@b.c", client_id="c1")


async def test_no_profile_without_the_setting_or_where_the_service_knows_none(native, users):
    assert await native().profile(source("x")) is None
    assert await native(profile_url=f"{users.make_url('/profiles/')}{{device_token}}").profile(source("x")) is None


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, b"", CredentialsRejected),
        (403, b"", CredentialsRejected),
        (500, b"", SourceUnavailable),
        (302, b"", SourceUnavailable),
        (200, b"{", SourceUnavailable),
        (200, b"[]", SourceUnavailable),
        (200, b'"\xff"', SourceUnavailable),
        (200, b"[" * 60_000, SourceUnavailable),
        (200, b'"' + b"x" * 70_000 + b'"', SourceUnavailable),
    ],
)
async def test_a_profile_service_that_misbehaves_is_said(native, users, status, body, error):
    users.answers["x"] = status, body
    provider = native(profile_url=f"{users.make_url('/profiles/')}{{device_token}}", profile_token="sesame")
    with pytest.raises(error) as caught:
        await provider.profile(source("x"))
    assert "sesame" not in str(caught.value)


async def test_a_profile_service_that_is_down_is_unavailable(native, unused_tcp_port):
    provider = native(profile_url=f"http://127.0.0.1:{unused_tcp_port}/{{device_token}}")
    with pytest.raises(SourceUnavailable):
        await provider.profile(source("x"))


@pytest.mark.parametrize("url", ["ftp://x/{device_token}", "http://{device_token}.x/", "http://x/", "x/{device_token}"])
def test_a_profile_address_must_name_the_device_behind_its_host(url):
    with pytest.raises(ValidationError):
        NativeSettings(profile_url=url)


def test_the_profile_token_is_in_no_repr():
    assert "sesame" not in repr(NativeSettings(profile_token="sesame"))
