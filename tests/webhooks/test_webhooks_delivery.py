from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiohttp import web
from webhooks_harness import Clock, Receiver, deliver, emit, make, settings, state_of, subscribe

from waybridge.signing import verify_webhook
from waybridge.store.deliveries import queue_state
from waybridge.store.engine import Store
from waybridge.webhooks import Webhooks

HOURS = 3_600


async def test_an_event_arrives_signed_in_linqs_envelope(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock
) -> None:
    subscription = await subscribe(webhooks, receiver.url)

    data = {"device_token": "van-1", "näme": "Jürgen"}
    event_id = await emit(store, "device.online", device_token="van-1", data=data)
    await deliver(webhooks)

    (got,) = receiver.received
    assert verify_webhook(subscription["signing_secret"], got.headers, got.body, clock() // 1_000_000) == event_id
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-timestamp"] == str(clock() // 1_000_000)
    trace_id = got.event["trace_id"]
    assert trace_id
    assert got.event == {
        "api_version": "v3",
        "webhook_version": "2026-02-03",
        "event_type": "device.online",
        "event_id": event_id,
        "created_at": "2026-11-18T11:06:40Z",
        "trace_id": trace_id,
        "instance_id": "acme",
        "partner_id": "acme",
        "data": {"device_token": "van-1", "näme": "Jürgen"},
    }
    (delivery,) = await state_of(webhooks, subscription)
    assert (delivery["state"], delivery["attempt_count"], delivery["event_id"]) == ("delivered", 1, event_id)
    assert delivery["attempts"][0]["status"] == 200


async def test_nothing_is_told_to_other_instances_inactive_or_other_subscriptions(
    webhooks: Webhooks, store: Store, receiver: Receiver
) -> None:
    await webhooks.subscriptions.create("other", {"target_url": receiver.url, "subscribed_events": ["*"]})
    await subscribe(webhooks, receiver.url, is_active=False)
    await subscribe(webhooks, receiver.url, subscribed_events=["device.offline"])

    await emit(store, "device.online", device_token="van-1")
    await deliver(webhooks)

    assert receiver.received == []
    async with store.read() as conn:
        assert await queue_state(conn) == (0, None)


async def test_retries_follow_the_schedule_with_the_same_id_and_bytes_and_end_in_a_dead_letter(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock
) -> None:
    subscription = await subscribe(webhooks, receiver.url, subscribed_events=["device.*"])
    witness = await subscribe(webhooks, receiver.url + "/witness", subscribed_events=["message.exhausted"])
    receiver.default = 500
    event_id = await emit(store, device_token="van-1")
    await deliver(webhooks)

    for number, delay in enumerate((5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400), start=2):
        clock.forward(delay - 0.001)
        await deliver(webhooks)
        assert len(receiver.received) == number - 1
        clock.forward(0.001)
        await deliver(webhooks)
        assert len(receiver.received) >= number

    tries = [each for each in receiver.received if each.path == "/hook"]
    assert len(tries) == 10
    assert {each.event_id for each in tries} == {event_id}
    assert len({each.body for each in tries}) == 1
    assert len({each.headers["webhook-signature"] for each in tries}) == 10
    (delivery,) = await state_of(webhooks, subscription)
    assert (delivery["state"], delivery["attempt_count"], len(delivery["attempts"])) == ("dead", 10, 10)
    (told,) = [each for each in receiver.received if each.path == "/hook/witness"]
    assert told.event["data"] == {"subscription_id": subscription["id"], "event_id": event_id, "attempts": 10}
    clock.forward(100 * HOURS)
    await deliver(webhooks)
    assert len([each for each in receiver.received if each.path == "/hook"]) == 10
    assert witness["id"] != subscription["id"]


async def test_the_first_attempts_of_a_device_wait_for_each_other_but_not_for_retries_or_other_devices(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock
) -> None:
    await subscribe(webhooks, receiver.url)
    held = asyncio.Event()

    async def hold(_request: web.Request) -> web.Response:
        await held.wait()
        return web.Response(status=500)

    receiver.answers = [hold]
    first = await emit(store, device_token="van-1")
    second = await emit(store, device_token="van-1")
    third = await emit(store, device_token="van-1")
    await webhooks.dispatcher.expand()
    running = asyncio.create_task(webhooks.deliverer.drain())
    await receiver.until(1)
    other = await emit(store, device_token="van-2")
    await webhooks.dispatcher.expand()
    await receiver_gets(webhooks, receiver, 2)

    assert receiver.ids == [first, other]
    held.set()
    await running
    assert receiver.ids == [first, other, second, third]
    clock.forward(5)
    await deliver(webhooks)
    assert receiver.ids == [first, other, second, third, first]


async def receiver_gets(webhooks: Webhooks, receiver: Receiver, count: int) -> None:
    more = asyncio.create_task(webhooks.deliverer.drain())
    await receiver.until(count)
    more.cancel()
    await asyncio.gather(more, return_exceptions=True)


async def test_410_switches_the_subscription_off_and_says_so(
    webhooks: Webhooks, store: Store, receiver: Receiver
) -> None:
    subscription = await subscribe(webhooks, receiver.url, subscribed_events=["device.*"])
    await subscribe(webhooks, receiver.url + "/witness", subscribed_events=["webhook.disabled"])
    receiver.answers = [410]
    for _ in range(3):
        await emit(store, device_token="van-1")

    await deliver(webhooks)

    assert [each.path for each in receiver.received] == ["/hook", "/hook/witness"]
    assert receiver.received[1].event["data"] == {"subscription_id": subscription["id"], "reason": "gone"}
    after = await webhooks.subscriptions.one(None, subscription["id"])
    assert (after["is_active"], after["disabled_reason"]) == (False, "gone")
    assert [each["state"] for each in await state_of(webhooks, subscription)] == ["dead", "dropped", "dropped"]
    await emit(store, device_token="van-1")
    await deliver(webhooks)
    assert len(receiver.received) == 2

    again = await webhooks.subscriptions.replace(None, subscription["id"], {"is_active": True})
    assert (again["is_active"], again["disabled_reason"]) == (True, None)


@pytest.mark.parametrize(("status", "retry_after", "seconds"), [(429, "60", 60), (503, "9" * 30, 86_400)])
async def test_retry_after_of_429_and_503_is_honoured_up_to_a_day(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock, status: int, retry_after: str, seconds: float
) -> None:
    await subscribe(webhooks, receiver.url)

    async def limited(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": retry_after})

    receiver.answers = [limited]
    await emit(store, device_token="van-1")
    await deliver(webhooks)
    clock.forward(seconds - 0.001)
    await deliver(webhooks)
    assert len(receiver.received) == 1
    clock.forward(0.001)
    await deliver(webhooks)
    assert len(receiver.received) == 2


async def test_a_redirect_is_a_failure_and_its_target_is_not_called(
    webhooks: Webhooks, store: Store, receiver: Receiver
) -> None:
    subscription = await subscribe(webhooks, receiver.url)

    async def redirect(_request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": receiver.url + "/inside"})

    receiver.answers = [redirect]
    await emit(store, device_token="van-1")
    await deliver(webhooks)

    assert [each.path for each in receiver.received] == ["/hook"]
    (delivery,) = await state_of(webhooks, subscription)
    assert (delivery["state"], delivery["attempts"][0]["status"]) == ("pending", 307)
    assert "redirect" in delivery["attempts"][0]["error"]


async def test_an_endless_answer_is_cut_at_64_kib(webhooks: Webhooks, store: Store, receiver: Receiver) -> None:
    subscription = await subscribe(webhooks, receiver.url)
    written = 0
    cut = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 16_384)
                written += 16_384
        finally:
            cut.set()

    receiver.answers = [endless]
    await emit(store, device_token="van-1")
    async with asyncio.timeout(10):
        await deliver(webhooks)
        await cut.wait()

    (delivery,) = await state_of(webhooks, subscription)
    assert delivery["state"] == "delivered"
    assert delivery["attempts"][0]["answer"] == "x" * 1_000
    assert written < 16 * 1_048_576


@pytest.mark.parametrize("kind", ["silent", "trickling"])
async def test_an_attempt_has_a_limit_of_time_however_the_answer_dawdles(
    store: Store, receiver: Receiver, kind: str
) -> None:
    webhooks = make(store, settings(timeout_seconds=0.3))
    subscription = await subscribe(webhooks, receiver.url)

    async def dawdle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200)
        if kind == "trickling":
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await response.write(b".")
                    await asyncio.sleep(0.02)
        await asyncio.sleep(5)
        return response

    receiver.answers = [dawdle]
    await emit(store, device_token="van-1")
    async with asyncio.timeout(4):
        await deliver(webhooks)

    (delivery,) = await state_of(webhooks, subscription)
    assert (delivery["state"], delivery["attempts"][0]["status"]) == ("pending", None)
    assert delivery["attempts"][0]["error"] == "no answer within 0.3 s"
    await webhooks.close()


async def test_a_target_dead_for_120_hours_is_switched_off_and_one_success_forgives(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock
) -> None:
    subscription = await subscribe(webhooks, receiver.url, subscribed_events=["device.*"])
    forgiven = await subscribe(webhooks, receiver.url + "/sometimes", subscribed_events=["device.*"])
    await subscribe(webhooks, receiver.url + "/witness", subscribed_events=["webhook.disabled"])
    hour = 0

    async def answer(request: web.Request) -> web.Response:
        well = request.path.endswith("witness") or (request.path.endswith("sometimes") and hour == 60)
        return web.Response(status=200 if well else 500)

    receiver.default = answer
    for hour in range(0, 121, 3):
        await emit(store, device_token=f"van-{hour}")
        await deliver(webhooks)
        if hour < 120:
            assert (await webhooks.subscriptions.one(None, subscription["id"]))["is_active"]
        clock.forward(3 * HOURS)

    off = await webhooks.subscriptions.one(None, subscription["id"])
    assert (off["is_active"], off["disabled_reason"]) == (False, "failing")
    assert (await webhooks.subscriptions.one(None, forgiven["id"]))["is_active"]
    told = [each.event["data"] for each in receiver.received if each.path == "/hook/witness"]
    assert told == [{"subscription_id": subscription["id"], "reason": "failing"}]
    assert "pending" not in {each["state"] for each in await state_of(webhooks, subscription)}


async def test_a_subscription_whose_events_are_all_dead_is_switched_off_by_the_clock_alone(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock
) -> None:
    subscription = await subscribe(webhooks, receiver.url, subscribed_events=["device.*"])
    receiver.default = 500
    await emit(store, device_token="van-1")
    for _ in range(119):
        await deliver(webhooks)
        clock.forward(HOURS)
        await webhooks.housekeeping.clean()
    assert (await webhooks.subscriptions.one(None, subscription["id"]))["is_active"]
    assert len(receiver.received) == 10

    clock.forward(HOURS)
    await webhooks.housekeeping.clean()

    assert not (await webhooks.subscriptions.one(None, subscription["id"]))["is_active"]


async def test_a_dead_target_is_left_alone_by_its_breaker_and_another_one_is_not(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock
) -> None:
    dead = "http://127.0.0.1:9"  # discard: nobody listens
    await subscribe(webhooks, dead.replace(":9", ":59999"))
    await subscribe(webhooks, receiver.url)
    for number in range(40):
        await emit(store, device_token=f"van-{number}")
    await deliver(webhooks)
    assert len(receiver.received) == 40
    assert webhooks.deliverer.open_breakers == 1
    waiting, _ = await webhooks.housekeeping.measure()
    assert waiting == 40
    clock.forward(31)
    assert webhooks.deliverer.open_breakers == 0
