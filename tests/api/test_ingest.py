"""Inbound pushes: who may send, what a provider is handed, what is answered; the live socket."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from waybridge.api.ingest import IngestApi
from waybridge.api.ingest_live import LiveIngest
from waybridge.auth import Principal
from waybridge.errors import NotFound, PushRejected, StoreUnavailable, Unauthorized
from waybridge.provider import Answer, Capabilities, Push

DIALECT = Answer(status=401, body=b'{"message":"no"}')


class Tokens:
    """Tokens are names; `good` has the scope, `reader` lacks it."""

    def __init__(self) -> None:
        self.expires_at = time.time() + 3600

    def cached(self, token: str) -> Principal | None:
        del token
        return None

    async def verify(self, token: str) -> Principal:
        scopes = {"good": {"ingest"}, "reader": {"read"}}.get(token)
        if scopes is None:
            raise Unauthorized("the token is not valid")
        return Principal(
            subject="t", instances=frozenset({"acme"}), scopes=frozenset(scopes), expires_at=self.expires_at
        )


@dataclass
class FakeIngest:
    """Connections by id with what they can do; remembers every push."""

    pushes: list[Push] = field(default_factory=list)
    answer: Callable[[Push], Awaitable[Answer]] | None = None
    connections: dict[str, Capabilities] = field(
        default_factory=lambda: {
            "native": Capabilities(),
            "dialect": Capabilities(unauthorized=DIALECT, max_body=100),
            "phone": Capabilities(token_in=frozenset({"basic", "query"})),
            "vendor": Capabilities(verifies="provider"),
        }
    )

    def capabilities(self, connection_id: str) -> Capabilities | None:
        return self.connections.get(connection_id)

    async def push(self, connection_id: str, push: Push, principal: Principal | None) -> Answer:
        assert (principal is None) == (connection_id == "vendor")
        self.pushes.append(push)
        if self.answer is not None:
            return await self.answer(push)
        return Answer(body=b'{"accepted":1,"duplicates":0,"rejected":[]}')


@pytest.fixture
def ingest():
    return FakeIngest()


@pytest.fixture
def tokens():
    return Tokens()


@pytest.fixture
async def client(aiohttp_client, ingest, tokens):
    app = web.Application()
    live = LiveIngest(ingest, tokens, authenticate_seconds=0.3)
    live.mount(app)
    IngestApi(ingest, tokens).mount(app)
    made = await aiohttp_client(app)
    made.live = live
    return made


async def test_a_push_is_handed_on_whole(client, ingest):
    await client.post(
        URL("/ingest/native/a%2Fb/c%20d?x=1&x=2", encoded=True),
        data=b"body",
        headers={"Authorization": "Bearer good", "X-Thing": "t"},
    )

    push = ingest.pushes[0]
    assert (push.method, push.segments, push.body, push.query["x"]) == ("POST", ["a/b", "c d"], b"body", "1")
    assert push.headers["x-thing"] == "t"
    assert "authorization" not in push.headers
    assert push.sender.subject == "t"
    assert push.frame is None


@pytest.mark.parametrize(
    ("connection", "headers", "query", "status"),
    [
        ("native", {}, "", 401),
        ("native", {"Authorization": "Bearer bad"}, "", 401),
        ("native", {"Authorization": "Bearer reader"}, "", 403),
        ("native", {"Authorization": "Bearer good"}, "", 200),
        ("native", {"Authorization": "good"}, "", 200),
        ("native", {}, "?token=good", 401),
        ("phone", {}, "?token=good", 200),
        ("phone", {}, "?token=good&token=good", 401),
        ("phone", {"Authorization": "Basic " + base64.b64encode(b"me:good").decode()}, "", 200),
        ("phone", {"Authorization": "Basic " + base64.b64encode(b"me:bad").decode()}, "", 401),
        ("phone", {"Authorization": "Bearer good"}, "", 401),
        ("vendor", {}, "", 200),
        ("unknown", {}, "", 401),
        ("unknown", {"Authorization": "Bearer good"}, "", 404),
    ],
)
async def test_tokens_are_found_where_a_connections_senders_put_them(client, connection, headers, query, status):
    response = await client.post(f"/ingest/{connection}/x{query}", headers=headers)

    assert response.status == status


@pytest.mark.parametrize("token", [None, "Bearer bad", "Bearer reader"])
async def test_a_dialect_refuses_tokens_in_its_own_words(client, token):
    response = await client.post("/ingest/dialect/x", headers={"Authorization": token} if token else {})

    assert (response.status, await response.read()) == (401, DIALECT.body)


async def test_a_body_over_the_providers_limit_is_413(client, ingest):
    response = await client.post(
        "/ingest/dialect/x", data=io.BytesIO(b"x" * 101), headers={"Authorization": "Bearer good"}
    )

    assert (response.status, ingest.pushes) == (413, [])


@pytest.mark.parametrize("path", ["%00", "%FF", "a%0A"])
async def test_a_path_that_is_no_text_leads_nowhere(client, ingest, path):
    response = await client.post(URL(f"/ingest/native/{path}", encoded=True), headers={"Authorization": "Bearer good"})

    assert (response.status, ingest.pushes) == (404, [])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PushRejected(418, b"{}", headers={"X-Why": "tea"}), 418),
        (NotFound("no"), 404),
        (StoreUnavailable("dsn"), 503),
        (RuntimeError("secret"), 500),
    ],
)
async def test_what_the_provider_raises_is_answered(client, ingest, error, status):
    async def fail(_: Push) -> Answer:
        raise error

    ingest.answer = fail
    response = await client.post("/ingest/native/x", headers={"Authorization": "Bearer good"})
    body = await response.text()

    assert response.status == status
    assert "secret" not in body
    assert "dsn" not in body


# -- the live socket


async def _live(client, token: str = "good") -> aiohttp.ClientWebSocketResponse:
    ws = await client.ws_connect("/ingest/native/live")
    await ws.send_json({"type": "authenticate", "jwt": token})
    return ws


async def test_frames_are_acknowledged_in_order_although_later_ones_are_done_first(client, ingest):
    gates = {n: asyncio.Event() for n in (1, 2, 3)}

    async def wait(push: Push) -> Answer:
        await gates[push.frame].wait()
        return Answer(body=b'{"accepted":%d,"duplicates":0,"rejected":[]}' % push.frame)

    ingest.answer = wait
    ws = await _live(client)
    for text in ("a", "b", "c"):
        await ws.send_str(text)
    for n in (3, 2, 1):
        gates[n].set()
        await asyncio.sleep(0)

    told = [await ws.receive_json(timeout=5) for _ in range(3)]

    assert [(each["type"], each["n"], each["accepted"]) for each in told] == [("ack", n, n) for n in (1, 2, 3)]
    assert [push.body for push in ingest.pushes] == [b"a", b"b", b"c"]
    assert {push.method for push in ingest.pushes} == {"FRAME"}
    await ws.close()


async def test_a_refused_frame_is_an_acknowledgement_with_its_error_and_the_socket_goes_on(client, ingest):
    async def refuse(push: Push) -> Answer:
        if push.frame == 1:
            raise PushRejected(403, json.dumps({"detail": "bound to another device"}).encode())
        return Answer(body=b'{"accepted":1,"duplicates":0,"rejected":[]}')

    ingest.answer = refuse
    ws = await _live(client)
    await ws.send_str("x")
    await ws.send_str("y")

    first, second = [await ws.receive_json(timeout=5) for _ in range(2)]

    assert (first["n"], first["status"], first["error"]) == (1, 403, "bound to another device")
    assert (second["n"], second["accepted"]) == (2, 1)
    await ws.close()


@pytest.mark.parametrize(
    "frame",
    [
        '{"type": "authenticate", "jwt": "bad"}',
        '{"type": "authenticate", "jwt": "reader"}',
        '{"type": "authenticate", "jwt": 1}',
        '{"type": "authenticate"}',
        '{"latitude": 1}',
        "[",
        "\ud83d",
        None,
    ],
)
async def test_without_credentials_a_socket_is_closed_with_4001(client, ingest, frame):
    ws = await client.ws_connect("/ingest/native/live")
    if frame is not None:
        await ws.send_bytes(frame.encode("utf-8", "surrogatepass"))

    error = await ws.receive_json(timeout=5)
    end = await ws.receive(timeout=5)

    assert error["type"] == "error"
    assert (end.type, ws.close_code, ingest.pushes) == (aiohttp.WSMsgType.CLOSE, 4001, [])


async def test_a_socket_ends_with_its_token(client, tokens):
    tokens.expires_at = time.time() + 0.2
    ws = await _live(client)

    error = await ws.receive_json(timeout=5)
    await ws.receive(timeout=5)

    assert (error["code"], ws.close_code) == (401, 4001)


async def test_a_frame_over_the_limit_ends_the_socket(client):
    ws = await _live(client)
    await ws.send_str("x" * 1_048_577)
    message = await ws.receive(timeout=5)

    assert (message.type, ws.close_code) == (aiohttp.WSMsgType.CLOSE, 1009)


async def test_shutting_down_says_1001_and_still_stores_what_was_read(client, ingest):
    done = asyncio.Event()

    async def slow(_: Push) -> Answer:
        await done.wait()
        return Answer(body=b'{"accepted":1,"duplicates":0,"rejected":[]}')

    ingest.answer = slow
    ws = await _live(client)
    await ws.send_str("x")
    while not ingest.pushes:
        await asyncio.sleep(0.01)
    closing = asyncio.create_task(client.live.close())
    done.set()
    messages = []
    while (message := await ws.receive(timeout=5)).type != aiohttp.WSMsgType.CLOSE:
        messages.append(message)
    await closing

    assert ws.close_code == 1001
    assert len(ingest.pushes) == 1


async def test_many_frames_in_flight_are_bounded_and_none_is_lost(client, ingest):
    gate = asyncio.Event()

    async def wait(push: Push) -> Answer:
        await gate.wait()
        return Answer(body=b'{"accepted":1,"duplicates":0,"rejected":[]}')

    ingest.answer = wait
    ws = await _live(client)
    for n in range(600):
        await ws.send_str(str(n))
    while len(ingest.pushes) < 256:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    in_flight = len(ingest.pushes)
    gate.set()

    told = [await ws.receive_json(timeout=10) for _ in range(600)]

    assert in_flight <= 258
    assert [each["n"] for each in told] == list(range(1, 601))
    await ws.close()
