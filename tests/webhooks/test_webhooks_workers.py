from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import delete, func, select
from webhooks_harness import Clock, Receiver, deliver, emit, make, settings, state_of, subscribe

from waybridge.errors import StoreUnavailable
from waybridge.metrics import REGISTRY
from waybridge.store import deliveries, tables
from waybridge.store.engine import Store, Tx
from waybridge.webhooks import Webhooks, delivery, dispatch


async def test_no_more_than_so_many_attempts_run_at_one_target(store: Store, receiver: Receiver) -> None:
    webhooks = make(store, settings())
    await subscribe(webhooks, receiver.url)
    release = asyncio.Event()

    async def hold(_request: web.Request) -> web.Response:
        await release.wait()
        return web.Response(status=200)

    receiver.default = hold
    for number in range(40):
        await emit(store, device_token=f"van-{number}")
    await webhooks.dispatcher.expand()
    running = asyncio.create_task(webhooks.deliverer.drain())
    await receiver.until(16)
    release.set()
    await running
    assert len(receiver.received) == 40
    assert receiver.most_running == 16
    await webhooks.close()


async def test_a_claim_whose_worker_died_is_taken_again_after_its_lease_and_the_late_word_counts_nothing(
    store: Store, receiver: Receiver, clock: Clock
) -> None:
    first, second = make(store, settings()), make(store, settings())
    subscription = await subscribe(first, receiver.url)
    hang = asyncio.Event()

    async def hold(_request: web.Request) -> web.Response:
        await hang.wait()
        return web.Response(status=500)

    receiver.answers = [hold]
    event_id = await emit(store, device_token="van-1")
    following = await emit(store, device_token="van-1")
    await first.dispatcher.expand()
    stuck = asyncio.create_task(first.deliverer.drain())
    await receiver.until(1)

    clock.forward(24)
    await second.deliverer.drain()
    assert receiver.ids == [event_id]
    clock.forward(2)
    await second.deliverer.drain()
    assert receiver.ids == [event_id, event_id, following]
    hang.set()
    await stuck
    states = await state_of(first, subscription)
    assert [(each["state"], each["attempt_count"]) for each in states] == [("delivered", 1), ("delivered", 1)]
    await first.close()
    await second.close()


async def test_workers_that_stop_give_their_claims_back(store: Store, receiver: Receiver) -> None:
    first, second = make(store, settings()), make(store, settings())
    await subscribe(first, receiver.url)
    release = asyncio.Event()

    async def hold(_request: web.Request) -> web.Response:
        await release.wait()
        return web.Response(status=200)

    receiver.answers = [hold]
    event_id = await emit(store, device_token="van-1")
    await first.dispatcher.expand()
    running = asyncio.create_task(first.deliverer.drain())
    await receiver.until(1)
    await first.deliverer.close(grace_seconds=0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    await second.deliverer.drain()

    assert receiver.ids == [event_id, event_id]
    release.set()
    await first.close()
    await second.close()


async def test_a_running_gateway_is_woken_by_the_commit(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (dispatch, delivery):
        monkeypatch.setattr(module, "LOOK_SECONDS", 3_600.0)  # no timer helps
    webhooks = make(store, settings())
    store._publish = webhooks.dispatcher._bus.publish
    await subscribe(webhooks, receiver.url)
    await webhooks.start()
    for number in range(10):
        await emit(store, device_token="van-1")
        await receiver.until(number + 1)
    await webhooks.close()


async def test_two_nodes_share_the_work_without_sending_twice_and_keep_the_order(
    store: Store, database_url: str, receiver: Receiver, clock: Clock
) -> None:
    second_store = Store(database_url, now_us=clock, shared_file=True)
    await second_store.start()
    nodes = [make(store, settings()), make(second_store, settings())]
    await subscribe(nodes[0], receiver.url)
    await subscribe(nodes[0], receiver.url + "/two", subscribed_events=["device.*"])
    ids: dict[str, list[str]] = {}

    async def told(tx: Tx) -> None:
        for number in range(100):
            token = f"van-{number % 7}"
            event_id = tx.emit("device.online", instance_id="acme", data={"device_token": token}, device_token=token)
            ids.setdefault(token, []).append(event_id)

    await store.write(told)
    await asyncio.gather(*(node.dispatcher.expand() for node in nodes))
    await asyncio.gather(*(node.deliverer.drain() for node in nodes))
    for node in nodes:  # whoever stopped first may have left what the other one's last attempts set free
        await node.deliverer.drain()

    for path in ("/hook", "/hook/two"):
        got: dict[str, list[str]] = {}
        for each in receiver.received:
            if each.path == path:
                got.setdefault(each.event["data"]["device_token"], []).append(each.event_id)
        assert got == ids
    for node in nodes:
        await node.close()
    await second_store.close()


async def test_what_was_parked_behind_rows_that_somebody_deleted_is_set_free(
    webhooks: Webhooks, store: Store, receiver: Receiver
) -> None:
    await subscribe(webhooks, receiver.url)
    for _ in range(3):
        await emit(store, device_token="van-1")
    await webhooks.dispatcher.expand()

    async def by_hand(tx: Tx) -> None:
        oldest = select(func.min(tables.deliveries.c.id)).scalar_subquery()
        await tx.conn.execute(delete(tables.deliveries).where(tables.deliveries.c.id == oldest))

    await store.write(by_hand)
    await deliver(webhooks)
    assert receiver.received == []
    await webhooks.housekeeping.clean()
    await deliver(webhooks)
    assert len(receiver.received) == 2


async def test_what_waits_and_what_was_tried_is_measured(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock
) -> None:
    def counted(outcome: str) -> float:
        return REGISTRY.get_sample_value("waybridge_webhook_attempts_total", {"outcome": outcome}) or 0.0

    before = counted("delivered"), counted("limited")
    await subscribe(webhooks, receiver.url)
    receiver.answers = [200, 429]
    await emit(store, device_token="van-1")
    await emit(store, device_token="van-1")
    await deliver(webhooks)
    clock.forward(3)
    await emit(store, device_token="van-2")

    assert await webhooks.housekeeping.measure() == (2, 3.0)
    assert REGISTRY.get_sample_value("waybridge_webhook_waiting") == 2
    assert REGISTRY.get_sample_value("waybridge_webhook_oldest_seconds") == 3.0
    assert REGISTRY.get_sample_value("waybridge_webhook_running") == 0
    assert (counted("delivered"), counted("limited")) == (before[0] + 1, before[1] + 1)


async def test_what_ended_while_the_database_was_away_is_written_down_when_it_is_back(
    webhooks: Webhooks, store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await subscribe(webhooks, receiver.url)
    event_id = await emit(store, device_token="van-1")
    following = await emit(store, device_token="van-1")
    await webhooks.dispatcher.expand()
    write, away = store.write, asyncio.Event()

    async def gone_after_the_claim(*unit: Any, **how: Any) -> Any:
        if away.is_set():
            raise StoreUnavailable("the database does not answer")
        return await write(*unit, **how)

    async def fall(_request: web.Request) -> web.Response:
        away.set()
        return web.Response(status=200)

    receiver.answers = [fall]
    monkeypatch.setattr(store, "write", gone_after_the_claim)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await webhooks.deliverer.drain()
    assert receiver.ids == [event_id]

    monkeypatch.undo()
    await webhooks.deliverer.drain()
    assert receiver.ids == [event_id, following]
    states = await state_of(webhooks, subscription)
    assert [(each["state"], each["attempt_count"]) for each in states] == [("delivered", 1), ("delivered", 1)]


async def test_nothing_is_asked_of_the_backlog_of_a_target_whose_slots_are_taken(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks = make(store, settings())
    hanging = await subscribe(webhooks, receiver.url + "/hang")
    well = await subscribe(webhooks, receiver.url + "/well")
    release, asked = asyncio.Event(), []
    claim = deliveries.claim

    async def watched(tx: Tx, slots: Mapping[str, int], *more: Any) -> Any:
        asked.append(dict(slots))
        return await claim(tx, slots, *more)

    async def hold(request: web.Request) -> web.Response:
        if request.path == "/hook/hang":
            await release.wait()
        return web.Response(status=200)

    receiver.default = hold
    monkeypatch.setattr(deliveries, "claim", watched)
    for number in range(100):
        await emit(store, device_token=f"van-{number}")
    await webhooks.dispatcher.expand()
    running = asyncio.create_task(webhooks.deliverer.drain())
    await receiver.until(16 + 100)

    assert sum(each.path == "/hook/hang" for each in receiver.received) == 16
    assert [each for each in asked if hanging["id"] in each] == asked[:1]
    assert sum(well["id"] in each for each in asked) > 1
    release.set()
    await running
    assert len(receiver.received) == 200
    await webhooks.close()
