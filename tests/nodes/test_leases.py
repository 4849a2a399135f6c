"""Leases and signs of life go by the database's clock, and end here before they end there."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from waybridge import supervisor
from waybridge.errors import StoreUnavailable
from waybridge.store import connections as rows
from waybridge.store.engine import Store
from waybridge.vault import Vault
from waybridge_mycartracks import MyCarTracksSimulator

if TYPE_CHECKING:
    from running import RunningGateway

HOUR_US = 3_600_000_000


async def _connection(store: Store) -> int:
    async def unit(tx) -> int:
        vault = Vault([b"k" * 32])
        await rows.add_connection(
            tx, vault, instance_id="default", connection_id="vans", provider="mycartracks", origin="api", settings={}
        )
        made = await rows.one_connection(tx.conn, vault, "vans")
        assert made is not None
        return made.id

    return await store.write(unit)


@pytest.mark.postgres
@pytest.mark.parametrize("skew_us", [-HOUR_US, HOUR_US])
async def test_a_node_whose_clock_is_an_hour_off_neither_takes_a_lease_nor_loses_one(postgres_url, skew_us) -> None:
    from waybridge.store.migrate import migrate

    right = Store(postgres_url)
    wrong = Store(postgres_url, now_us=lambda: time.time_ns() // 1000 + skew_us)
    await right.start()
    await wrong.start()
    await migrate(right)
    row = await _connection(right)

    assert await right.write(lambda tx: rows.claim(tx, row, "right", 600_000_000))
    assert not await wrong.write(lambda tx: rows.claim(tx, row, "wrong", 600_000_000))
    await right.write(lambda tx: rows.release(tx, "right"))
    assert await wrong.write(lambda tx: rows.claim(tx, row, "wrong", 600_000_000))
    assert not await right.write(lambda tx: rows.claim(tx, row, "right", 600_000_000))

    await wrong.write(lambda tx: rows.node_seen(tx, node_id="wrong", name="n", version="1", started_us=1))
    async with right.read() as conn:
        (node,) = await rows.every_node(conn, right.now_us())
    assert 0 <= node.silent_us < 600_000_000
    await wrong.write(lambda tx: rows.node_gone(tx, "other", 600_000_000))
    async with wrong.read() as conn:
        assert [each.node_id for each in await rows.every_node(conn, wrong.now_us())] == ["wrong"]
    await right.close()
    await wrong.close()


async def test_a_lease_that_ran_out_is_anybodys(store: Store) -> None:
    row = await _connection(store)

    assert await store.write(lambda tx: rows.claim(tx, row, "one", -1))

    async def other() -> bool:
        return await store.write(lambda tx: rows.claim(tx, row, "other", 600_000_000))

    async with asyncio.timeout(30):
        while not await other():
            await asyncio.sleep(0.01)
    assert not await store.write(lambda tx: rows.claim(tx, row, "one", 600_000_000))


@pytest.mark.postgres
@pytest.mark.nats
async def test_a_connection_is_let_go_before_its_lease_ends_while_the_database_says_nothing(
    postgres_url, tmp_path, monkeypatch
) -> None:
    from running import running_gateway

    from waybridge.cli.workers import local_nats

    monkeypatch.setattr(supervisor, "LEASE_US", 4_000_000)
    monkeypatch.setattr(supervisor, "BEAT_SECONDS", 0.1)
    vendor = MyCarTracksSimulator()
    await vendor.start()
    try:
        with local_nats() as bus:
            async with running_gateway(
                postgres_url, tmp_path, bus_url=bus, webhooks={"allow_private_targets": True}
            ) as gateway:
                await _make(gateway, vendor)
                async with asyncio.timeout(60):
                    while not vendor.open_sockets:
                        await asyncio.sleep(0.01)
                silent = asyncio.Event()
                house = gateway.house
                write = house.store.write

                async def hangs(work, *, alone=False):
                    if not silent.is_set():
                        await silent.wait()
                        raise StoreUnavailable("away")
                    return await write(work, alone=alone)

                monkeypatch.setattr(house.store, "write", hangs)
                async with asyncio.timeout(60):
                    while vendor.open_sockets:
                        await asyncio.sleep(0.01)
                silent.set()
                async with asyncio.timeout(60):
                    while not vendor.open_sockets:
                        await asyncio.sleep(0.01)
    finally:
        await vendor.stop()


async def _make(gateway: RunningGateway, vendor: MyCarTracksSimulator) -> None:
    vendor.staff(1)
    body = {
        "connection_id": "vans", "provider": "mycartracks", "instance_id": "default", "settings": vendor.settings(),
    }  # fmt: skip
    async with gateway.http.post(
        f"{gateway.url}/api/v1/connections", json=body, headers=gateway.headers()
    ) as answer:
        assert answer.status == 201, await answer.text()
