"""What the database keeps of stream sessions, on SQLite and on PostgreSQL."""

from __future__ import annotations

from waybridge.bus import Nudge
from waybridge.errors import NotFound
from waybridge.roster import Roster
from waybridge.settings_tables import StreamSettings
from waybridge.store.engine import Store, Tx
from waybridge.store.streams import StreamSpec, hold_stream, purge_streams, stream_by_id
from waybridge.streams.fanout import Fanout
from waybridge.streams.sessions import StreamSessions

SPEC = StreamSpec(device_tokens=("a", "ü"), fields=("device_token", "latitude"), min_interval_seconds=1.5)


async def test_a_stream_is_found_by_its_token_alone_until_it_expires(store: Store) -> None:
    sessions = StreamSessions(Fanout(), Roster(), store, StreamSettings(lifetime_seconds=60), node_id="n")
    row, token = await sessions.create("acme", SPEC)
    assert await sessions.find(token) == row
    assert row.spec == SPEC
    for wrong in (row.stream_id, token[:-1], token + "A", "\ud800"):
        try:
            await sessions.find(wrong)
        except NotFound:
            continue
        raise AssertionError(wrong)
    async with store.read() as conn:
        stored = (await conn.exec_driver_sql("SELECT * FROM stream_sessions")).one()
    assert token not in str(tuple(stored))


async def test_the_newest_holder_is_kept_and_expired_streams_go(store: Store) -> None:
    told: list[object] = []
    store._publish = told.extend
    sessions = StreamSessions(Fanout(), Roster(), store, StreamSettings(lifetime_seconds=60), node_id="n")
    row, _ = await sessions.create("acme", StreamSpec())

    async def hold(tx: Tx, holder: str) -> bool:
        tx.publish(Nudge("streams", row.stream_id))
        return await hold_stream(tx, row.stream_id, holder)

    assert await store.write(lambda tx: hold(tx, "n:1"))
    assert await store.write(lambda tx: hold(tx, "m:2"))
    async with store.read() as conn:
        kept = await stream_by_id(conn, row.stream_id)
    assert kept is not None
    assert (kept.holder, kept.spec) == ("m:2", StreamSpec())
    assert told == [Nudge("streams", row.stream_id)] * 2
    assert await store.write(lambda tx: purge_streams(tx, row.expires_us)) == 0
    assert await store.write(lambda tx: purge_streams(tx, row.expires_us + 1)) == 1
    assert not await store.write(lambda tx: hold(tx, "n:3"))
