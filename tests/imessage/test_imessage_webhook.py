"""The receiver: proved senders only, durable, deduplicated, and never a 4xx for what is not understood."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from imessage_harness import START
from standardwebhooks import Webhook

from waybridge import Push
from waybridge_imessage.webhook import DEAD, DEAD_LETTERS

if TYPE_CHECKING:
    from imessage_harness import Gateway

    from waybridge_imessage.simulator import LinqSimulator

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ANNA, LINE, CHAT = "+14155550101", "+12025550100", "550e8400-e29b-41d4-a716-446655440000"


def event(kind: str = "started", *, event_id: str = "evt_1", **changes: Any) -> dict[str, Any]:
    """The literal shape of the vendor's pages."""
    data = {
        "shared_by": ANNA,
        "shared_with": LINE,
        "began_at": "2026-04-12T13:19:58Z",
        "chat_id": CHAT,
        **({"ends_at": None} if kind == "started" else {"ended_at": "2026-04-12T13:19:59Z"}),
        **changes,
    }
    return {
        "api_version": "v3",
        "webhook_version": "2026-02-03",
        "event_type": f"location.sharing.{kind}",
        "event_id": event_id,
        "created_at": "2026-04-12T13:19:59Z",
        "trace_id": "0123456789abcdef0123456789abcdef",
        "partner_id": "prt_1",
        "data": data,
    }


def signed(body: bytes, *, message: str = "msg_1", seconds: int = 0, secret: str = SECRET) -> dict[str, str]:
    at = START + timedelta(seconds=seconds)
    return {
        "content-type": "application/json",
        "webhook-id": message,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message, at, body.decode()),
    }


def push(body: bytes, headers: dict[str, str] | None = None, *, method: str = "POST", path: str = "webhook") -> Push:
    return Push(
        method=method,
        path=path,
        segments=path.split("/"),
        query={"version": "2026-02-03"},
        headers=signed(body) if headers is None else headers,
        body=body,
        received_at=START,
    )


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


@pytest.fixture
def receiver(door: Gateway) -> Gateway:
    door.connect(api_key="k", webhook_signing_secret=SECRET)
    return door


async def test_a_signed_start_opens_a_share(receiver: Gateway) -> None:
    status, body = await receiver.push(push(encoded(event())))
    assert (status, json.loads(body)) == (200, {"success": True})
    assert [(s.source.external_id, s.chat_id) for s in receiver.started] == [(ANNA, CHAT)]


async def test_a_retry_with_the_same_event_id_changes_nothing(receiver: Gateway) -> None:
    body = encoded(event())
    for attempt in range(3):
        assert (await receiver.push(push(body, signed(body, message=f"msg_{attempt}"))))[0] == 200
    assert len(receiver.started) == 1
    assert receiver.counts["webhook_duplicate"] == 2


async def test_the_same_event_delivered_at_once_is_taken_once(receiver: Gateway) -> None:
    """Ten receivers read the same state; one commits, the others run again and see it."""
    real = receiver.shown.receive
    together = asyncio.Barrier(10)
    first = {"left": 10}

    async def side_by_side(request: Push) -> Any:
        receipt = await real(request)
        if first["left"]:
            first["left"] -= 1
            await together.wait()
        return receipt

    receiver.shown.receive = side_by_side  # type: ignore[method-assign]
    answers = await asyncio.gather(*(receiver.push(push(encoded(event()))) for _ in range(10)))
    assert {status for status, _ in answers} == {200}
    assert receiver.conflicts == 9
    assert len(receiver.started) == 1


HOSTILE: list[dict[str, str]] = [
    {},
    {"webhook-id": "msg_1"},
    {"webhook-signature": "v1"},
    {"webhook-signature": "v1,"},
    {"webhook-signature": "v1,,,"},
    {"webhook-signature": "v1,!!!not base64!!!"},
    {"webhook-signature": "  v1,AAAA  v1,BBBB  "},
    {"webhook-signature": "v2,AAAA"},
    {"webhook-signature": "v1,\udcff\udcfe"},
    {"webhook-signature": "v1,ünïcödé"},
    {"webhook-id": "\udcff"},
    {"webhook-timestamp": ""},
    {"webhook-timestamp": "now"},
    {"webhook-timestamp": "1776000000.5"},
    {"webhook-timestamp": " 1776000000"},
    {"webhook-timestamp": "177_6000000"},
    {"webhook-timestamp": "9" * 400},
    {"webhook-timestamp": "-1"},
    {"webhook-timestamp": "nan"},
    {"webhook-timestamp": "٣"},
]


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_hostile_headers_are_401(receiver: Gateway, hostile: dict[str, str]) -> None:
    body = encoded(event())
    headers = {**signed(body), **hostile} if hostile else {}
    if hostile == {"webhook-id": "msg_1"}:
        headers = hostile
    assert (await receiver.push(push(body, headers)))[0] == 401
    assert receiver.reports == []
    assert receiver.state.kept == {}


@pytest.mark.parametrize("seconds", [-301, 301])
async def test_old_and_early_signatures_are_401(receiver: Gateway, seconds: int) -> None:
    body = encoded(event())
    assert (await receiver.push(push(body, signed(body, seconds=seconds))))[0] == 401


async def test_another_body_or_secret_is_401(receiver: Gateway) -> None:
    body = encoded(event())
    assert (await receiver.push(push(body + b" ", signed(body))))[0] == 401
    other = "whsec_" + base64.b64encode(b"x" * 24).decode()
    assert (await receiver.push(push(body, signed(body, secret=other))))[0] == 401


async def test_the_raw_bytes_are_what_is_verified(receiver: Gateway) -> None:
    """The same JSON written otherwise has another signature; written as sent it is taken."""
    body = json.dumps(event(), indent=3, sort_keys=True).encode()
    assert (await receiver.push(push(encoded(event()), signed(body))))[0] == 401
    assert (await receiver.push(push(body)))[0] == 200


async def test_without_a_secret_nothing_is_accepted_and_the_vendor_comes_again(door: Gateway) -> None:
    door.connect(api_key="k")
    body = encoded(event())
    assert (await door.push(push(body)))[0] == 503
    assert (await door.push(push(body, {})))[0] == 401
    assert door.reports == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "webhook", 405), ("PUT", "webhook", 405), ("POST", "", 404), ("POST", "webhook/x", 404)],
)
async def test_other_doors_are_closed(receiver: Gateway, method: str, path: str, status: int) -> None:
    assert (await receiver.push(push(encoded(event()), method=method, path=path)))[0] == status


def _without(document: dict[str, Any], *path: str) -> dict[str, Any]:
    changed = json.loads(json.dumps(document))
    parent = changed
    for step in path[:-1]:
        parent = parent[step]
    del parent[path[-1]]
    return changed


ODD: list[bytes] = [
    b"",
    b"not json",
    b"[]",
    b'"text"',
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"event_type": NaN}',
    encoded({}),
    encoded({"event_type": 7}),
    encoded({**event(), "event_type": "location.sharing.paused"}),
    encoded({**event(), "data": None}),
    encoded({**event(), "data": [1]}),
    encoded(_without(event(), "data", "shared_by")),
    encoded(_without(event(), "data", "shared_with")),
    encoded(event(shared_by=7)),
    encoded(event(shared_by="x" * 5000)),
    encoded(event(shared_by="a\x00b")),
    encoded(event(chat_id=12)),
    encoded(event(chat_id="y" * 4000)),
    encoded(event(began_at="yesterday")),
    encoded(event(began_at="1999-01-01T00:00:00Z")),
    encoded(event(began_at="2099-01-01T00:00:00Z")),
    encoded(event("stopped", ended_at={"at": 1})),
]


@pytest.mark.parametrize("body", ODD)
async def test_what_is_signed_but_not_understood_is_200_and_kept(receiver: Gateway, body: bytes) -> None:
    headers = signed(b"") if not body else None
    if headers is None:
        at = str(int(START.timestamp()))
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        digest = hmac.new(key, f"msg_1.{at}.".encode() + body, hashlib.sha256).digest()
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": at,
            "webhook-signature": "v1," + base64.b64encode(digest).decode(),
        }
    assert (await receiver.push(push(body, headers)))[0] == 200
    assert receiver.reports == []
    [letter] = (await receiver.state.items(DEAD)).values()
    assert base64.b64decode(letter["body"]) == body[:16_384]
    assert receiver.counts["webhook_dead_letter"] == 1


async def test_dead_letters_are_bounded_and_the_oldest_goes_first(receiver: Gateway) -> None:
    for number in range(DEAD_LETTERS + 5):
        body = encoded({"event_type": "location.odd", "event_id": f"e{number}"})
        at = START + timedelta(seconds=number)
        request = Push(
            method="POST",
            path="webhook",
            segments=["webhook"],
            query={},
            headers=signed(body, message=f"m{number}"),
            body=body,
            received_at=at,
        )
        assert (await receiver.push(request))[0] == 200
    letters = await receiver.state.items(DEAD)
    assert len(letters) == DEAD_LETTERS
    assert sorted(letter["webhook_id"] for letter in letters.values()) == sorted(
        f"m{number}" for number in range(5, DEAD_LETTERS + 5)
    )


async def test_events_about_other_things_are_taken_and_forgotten(receiver: Gateway) -> None:
    body = encoded({**event(), "event_type": "message.received", "data": {"text": "hello"}})
    assert (await receiver.push(push(body)))[0] == 200
    assert receiver.state.kept == {}


async def test_unknown_fields_and_missing_optional_ones_are_no_trouble(receiver: Gateway) -> None:
    told = event(began_at=None, chat_id=None, color="green")
    assert (await receiver.push(push(encoded({**told, "new": {"a": 1}}))))[0] == 200
    [started] = receiver.started
    assert started.began_at == START - timedelta(seconds=1), "the event's own time stands in"
    assert started.chat_id is None


async def test_handles_are_normalised(receiver: Gateway) -> None:
    await receiver.push(push(encoded(event(shared_by="+1 (415) 555-0101"))))
    await receiver.push(push(encoded(event(event_id="evt_2", shared_by=" Anna@iCloud.Example "))))
    assert [s.source.external_id for s in receiver.started] == [ANNA, "anna@icloud.example"]


async def test_events_are_forgotten_after_two_days(receiver: Gateway, linq: LinqSimulator) -> None:
    await receiver.push(push(encoded(event("stopped"))))
    assert len(await receiver.state.items("event/")) == 1
    receiver.connect(api_key=linq.api_key, base_url=linq.base_url, webhook_signing_secret=SECRET)
    receiver.clock.advance(47 * 3600)
    receiver.start()
    await receiver.quiet()
    assert len(await receiver.state.items("event/")) == 1
    await receiver.pass_time(2 * 3600, step=3600)
    assert await receiver.state.items("event/") == {}


@pytest.mark.parametrize("fault", ["bad_signature", "unsigned"])
async def test_what_the_stand_in_signs_wrongly_is_refused(door: Gateway, linq: LinqSimulator, fault: str) -> None:
    secret = linq.subscribe(f"{door.url}/webhook")
    door.connect(api_key=linq.api_key, base_url=linq.base_url, webhook_signing_secret=secret)
    setattr(linq.faults, fault, True)
    linq.share(None, ANNA, 1, 2)
    await linq.delivered()
    assert [attempt["status"] for attempt in linq.attempts] == [401]
    assert door.reports == []


async def test_duplicates_of_the_stand_in_under_both_kinds_of_id_open_one_share(
    door: Gateway, linq: LinqSimulator
) -> None:
    secret = linq.subscribe(f"{door.url}/webhook")
    door.connect(api_key=linq.api_key, base_url=linq.base_url, webhook_signing_secret=secret)
    linq.faults.duplicate_webhooks = linq.faults.renamed_duplicates = 3
    linq.share(None, ANNA, 1, 2)
    await linq.delivered()
    assert [attempt["status"] for attempt in linq.attempts] == [200] * 7
    assert len(door.started) == 1
