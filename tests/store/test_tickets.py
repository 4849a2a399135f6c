"""Tickets on both databases: handed out once, also when many come at the same moment, and not after their time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from waybridge.store.tables import stream_sessions
from waybridge.store.tickets import keep_ticket, take_ticket

if TYPE_CHECKING:
    from waybridge.store.engine import Store

MINUTE_US = 60_000_000


async def keep(store: Store, digest: bytes, value: object, us: int = MINUTE_US) -> None:
    expires_us = store.now_us() + us
    await store.write(lambda tx: keep_ticket(tx, digest, value, expires_us))


async def take(store: Store, digest: bytes) -> object:
    taken: object = await store.write(lambda tx: take_ticket(tx, digest))
    return taken


async def test_a_ticket_is_handed_out_once(store: Store) -> None:
    await keep(store, b"one", {"interval": 5})

    assert await take(store, b"two") is None
    taken = await asyncio.gather(*(take(store, b"one") for _ in range(20)))

    assert [value for value in taken if value is not None] == [{"interval": 5}]


async def test_a_ticket_ends_with_its_time_and_is_cleared(store: Store) -> None:
    await keep(store, b"late", 1, us=-1)
    assert await take(store, b"late") is None

    await keep(store, b"forgotten", 1, us=-1)
    await keep(store, b"next", 2)
    async with store.read() as conn:
        left = (await conn.execute(select(func.count()).select_from(stream_sessions))).scalar()

    assert left == 1
    assert await take(store, b"next") == 2
