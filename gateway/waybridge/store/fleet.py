"""Devices, sources, their newest fixes, trips and periods, as intake and the roster ask for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from sys import intern
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import select, update

from waybridge.bus import Fix
from waybridge.model import Place, Stage
from waybridge.roster import Device, Period, Policy, Roster, Source, Trip
from waybridge.store.newcomers import make_devices
from waybridge.store.tables import devices, last, sharing_periods, sources

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from waybridge.store.engine import Tx

DefaultPolicy: TypeAlias = Callable[[str, str, str], Policy]
"""(instance, connection, provider) -> how to treat sources of a connection that is not configured any more."""


AT_ONCE = 1000
"""Devices that are read at once; all are read in such parts, so that their rows are never in memory together."""

_SOURCES_OF = "(SELECT s.id FROM sources s WHERE s.device_id {chosen})"
# ruff: noqa: S608 - what is put together is written here
_QUESTIONS = {
    "devices": (
        "SELECT id, instance_id, device_token, display_field, profile, profile_updated_us, handle, winner_source_id,"
        " winner_since_us, hold_seconds, online, online_since_us, stage, stage_at_us, target"
        " FROM devices WHERE id {chosen}"
    ),
    "sources": (
        "SELECT id, instance_id, connection_id, external_id, provider, device_id, rank, fallback_after_seconds,"
        " vendor_online FROM sources WHERE device_id {chosen}"
    ),
    "last": (
        "SELECT source_id, milestone, recorded_us, sent_us, received_us, latitude, longitude, altitude, accuracy,"
        f" speed, heading, trip_id, flags, extra FROM last WHERE source_id IN {_SOURCES_OF}"
    ),
    "periods": (
        "SELECT source_id, id, sharing_id, began_us, ends_us, start_cause, shared_by, shared_with, chat_id"
        " FROM sharing_periods WHERE kind = 'source' AND ended_us IS NULL"
        f" AND source_id IN {_SOURCES_OF}"
    ),
    "trips": (  # the newest of each source
        "SELECT t.source_id, t.id, t.track_token, t.started_us, t.ended_us FROM sources s JOIN trips t ON t.id ="
        " (SELECT n.id FROM trips n WHERE n.source_id = s.id ORDER BY n.started_us DESC LIMIT 1)"
        " WHERE s.device_id {chosen}"
    ),
    "ends": (  # of the newest closed period of each source, where somebody's consent or an event began it
        "SELECT source_id, max(ended_us) FROM sharing_periods WHERE kind = 'source' AND ended_us IS NOT NULL"
        f" AND start_cause <> 'online' AND source_id IN {_SOURCES_OF} GROUP BY source_id"
    ),
}
_CHOSEN = {"sqlite": "IN (SELECT value FROM json_each(?1))", "postgresql": "= ANY($1::bigint[])"}


async def load_all(conn: AsyncConnection, roster: Roster, default_policy: DefaultPolicy) -> None:
    """Makes an empty roster what the database says."""
    numbers = await device_numbers(conn, 0, AT_ONCE)
    while numbers:
        await load(conn, roster, default_policy, numbers)
        for number in numbers:
            device = roster.by_id(number)
            if device is not None:
                device.rest()
        numbers = await device_numbers(conn, numbers[-1], AT_ONCE)


async def load(
    conn: AsyncConnection,
    roster: Roster,
    default_policy: DefaultPolicy,
    device_ids: Sequence[int],
    newer: Collection[int] = (),
) -> None:
    """Brings some of the roster's devices to what the database says.

    `newer` may fill while this waits for the database: devices of which the roster knows more by then are left alone.
    """
    dialect = conn.dialect.name
    given = json.dumps(list(device_ids)) if dialect == "sqlite" else list(device_ids)
    found: dict[str, list[tuple[Any, ...]]] = {}
    for name, question in _QUESTIONS.items():
        rows: Any = await conn.exec_driver_sql(question.format(chosen=_CHOSEN[dialect]), (given,))
        found[name] = rows.all()
    # From here on nothing waits, so that no reader ever sees half of it.
    left_alone = set(newer)
    for number, instance_id, token, *rest in found["devices"]:
        if number not in left_alone:
            device = roster.by_id(number) or roster.add_device(Device(number, intern(instance_id), token))
            _fill_device(device, rest)
    filled: dict[int, Source] = {}
    for row in found["sources"]:
        if row[5] not in left_alone:
            source = _fill_source(roster, row, default_policy)
            if source is not None:
                filled[source.id] = source
    _fill_story(filled, found)
    for row in found["devices"]:
        device_now, winner = roster.by_id(row[0]), filled.get(row[7] or 0)
        if device_now is not None and winner is not None and winner.device is device_now:
            device_now.winner = winner


def _fill_story(filled: Mapping[int, Source], found: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
    for source_id, ended_us in found["ends"]:
        if source_id in filled:
            filled[source_id].last_ended_us = ended_us
    for source_id, number, sharing_id, began_us, ends_us, cause, *between in found["periods"]:
        if source_id in filled:
            filled[source_id].period = Period(number, sharing_id, began_us, ends_us, intern(cause), *between)
    for source_id, *trip in found["trips"]:
        if source_id in filled:
            filled[source_id].trip = Trip(*trip)
    for source_id, milestone, *columns in found["last"]:
        source = filled.get(source_id)
        if source is not None:
            fix = Fix(*columns)
            if milestone:
                source.milestone = fix
            else:
                source.last = fix
            source.highest_sent_us = max(source.highest_sent_us, fix.sent_us)


async def device_ids_of(
    conn: AsyncConnection, keys: Iterable[tuple[str, str, str]], *, lock: bool
) -> dict[tuple[str, str, str], int]:
    """(instance, connection, external id) -> device id, for sources that exist; locked in one order when asked."""
    found: dict[tuple[str, str, str], int] = {}
    by_connection: dict[tuple[str, str], list[str]] = {}
    for instance_id, connection_id, external_id in keys:
        by_connection.setdefault((instance_id, connection_id), []).append(external_id)
    for (instance_id, connection_id), external_ids in sorted(by_connection.items()):
        question = (
            select(sources.c.external_id, sources.c.device_id)
            .where(
                sources.c.instance_id == instance_id,
                sources.c.connection_id == connection_id,
                sources.c.external_id.in_(external_ids),
            )
            .order_by(sources.c.id)
        )
        for row in await conn.execute(question.with_for_update() if lock else question):
            found[instance_id, connection_id, row.external_id] = row.device_id
    if lock and found:
        await conn.execute(
            select(devices.c.id).where(devices.c.id.in_(set(found.values()))).order_by(devices.c.id).with_for_update()
        )
    return found


async def existing_devices(conn: AsyncConnection, device_ids: Sequence[int]) -> list[int]:
    """Which of these devices there are."""
    return list((await conn.execute(select(devices.c.id).where(devices.c.id.in_(device_ids)))).scalars())


async def device_numbers(conn: AsyncConnection, after: int, most: int) -> list[int]:
    """The numbers of the next devices behind one, in order."""
    question = select(devices.c.id).where(devices.c.id > after).order_by(devices.c.id).limit(most)
    return list((await conn.execute(question)).scalars())


async def lock_devices(tx: Tx, device_ids: Sequence[int]) -> None:
    """Keeps other nodes from changing these devices until the commit."""
    await tx.conn.execute(
        select(devices.c.id).where(devices.c.id.in_(device_ids)).order_by(devices.c.id).with_for_update()
    )


async def make_device(tx: Tx, instance_id: str, token: str) -> tuple[int, bool]:
    """(number, whether it is new) of an instance's device, made if it is unknown."""
    return (await make_devices(tx, instance_id, [token]))[token]


async def rank_sources(
    tx: Tx, device_id: int, hold_seconds: float, ranked: Sequence[tuple[int, float]]
) -> None:
    """Gives a device its sources in order: (source id, fallback after in seconds); others of it go behind."""
    await tx.conn.execute(update(devices).where(devices.c.id == device_id).values(hold_seconds=hold_seconds))
    await tx.conn.execute(
        update(sources).where(sources.c.device_id == device_id).values(rank=len(ranked), fallback_after_seconds=None)
    )
    for rank, (source_id, fallback_after) in enumerate(ranked):
        await tx.conn.execute(
            update(sources)
            .where(sources.c.id == source_id)
            .values(device_id=device_id, rank=rank, fallback_after_seconds=fallback_after)
        )
        await tx.conn.execute(update(last).where(last.c.source_id == source_id).values(device_id=device_id))
        await tx.conn.execute(
            update(sharing_periods)
            .where(sharing_periods.c.source_id == source_id, sharing_periods.c.ended_us.is_(None))
            .values(device_id=device_id)
        )


async def known_fixes(conn: AsyncConnection, keys: Sequence[tuple[int, int]], dialect: str) -> set[tuple[int, int]]:
    """Which (source id, time as sent) are stored already."""
    found: set[tuple[int, int]] = set()
    for start in range(0, len(keys), 300):
        part = [(sent // 60_000_000, source, sent) for source, sent in keys[start : start + 300]]
        if dialect == "postgresql":
            rows: Any = await conn.exec_driver_sql(
                "SELECT p.source_id, p.recorded_us FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS k(m, s, r)"
                " JOIN positions p ON p.minute = k.m AND p.source_id = k.s AND p.recorded_us = k.r",
                tuple(list(column) for column in zip(*part, strict=True)),
            )
        else:
            values = ",".join("(?,?,?)" for _ in part)
            rows = await conn.exec_driver_sql(
                f"WITH k(m, s, r) AS (VALUES {values}) SELECT p.source_id, p.recorded_us FROM k"
                " CROSS JOIN positions p ON p.minute = k.m AND p.source_id = k.s AND p.recorded_us = k.r",
                tuple(value for row in part for value in row),
            )
        found.update((source, sent) for source, sent in rows)
    return found


async def forget_last(tx: Tx, source_id: int) -> None:
    """Forgets where a source was (it does not share any more and its vendor demands that nothing stays)."""
    await tx.conn.execute(last.delete().where(last.c.source_id == source_id))


async def trips_by_token(
    conn: AsyncConnection, keys: Sequence[tuple[int, str]], dialect: str
) -> dict[tuple[int, str], Trip]:
    """(source id, the provider's own token) -> the newest of those trips."""
    columns = "t.source_id, t.id, t.track_token, t.started_us, t.ended_us"
    if dialect == "postgresql":
        rows: Any = await conn.exec_driver_sql(
            f"SELECT {columns} FROM unnest($1::bigint[], $2::text[]) AS k(s, token)"
            " JOIN trips t ON t.source_id = k.s AND t.track_token = k.token ORDER BY t.started_us",
            tuple(map(list, zip(*keys, strict=True))),
        )
    else:
        rows = await conn.exec_driver_sql(
            f"SELECT {columns} FROM json_each(?) AS k CROSS JOIN trips t"
            " ON t.source_id = json_extract(k.value, '$[0]') AND t.track_token = json_extract(k.value, '$[1]')"
            " ORDER BY t.started_us",
            (json.dumps(keys),),
        )
    return {(source_id, token): Trip(number, token, *times) for source_id, number, token, *times in rows}


async def begin_period(tx: Tx, values: Mapping[str, Any]) -> bool:
    """Opens a sharing period; False when the source has an open one already."""
    made = tx.insert(sharing_periods).values(values).on_conflict_do_nothing().returning(sharing_periods.c.id)
    return (await tx.conn.execute(made)).one_or_none() is not None


async def end_period(tx: Tx, period_id: int, ended_us: int, cause: str) -> bool:
    """Closes a period; False when it was closed already."""
    change = (
        update(sharing_periods)
        .where(sharing_periods.c.id == period_id, sharing_periods.c.ended_us.is_(None))
        .values(ended_us=ended_us, stop_cause=cause)
    )
    return (await tx.conn.execute(change)).rowcount == 1


async def newest_end(conn: AsyncConnection, source_id: int) -> tuple[int, int] | None:
    """(began, ended) of the source's newest closed period."""
    question = (
        select(sharing_periods.c.began_us, sharing_periods.c.ended_us)
        .where(sharing_periods.c.source_id == source_id, sharing_periods.c.ended_us.is_not(None))
        .order_by(sharing_periods.c.ended_us.desc())
        .limit(1)
    )
    row = (await conn.execute(question)).one_or_none()
    return None if row is None else (row.began_us, row.ended_us)


def _fill_device(device: Device, columns: Sequence[Any]) -> None:
    display_field, profile, profile_updated_us, handle, _, winner_since_us, hold_seconds, online = columns[:8]
    online_since_us, stage, stage_at_us, target = columns[8:]
    device.stamp = None
    device.display_field = intern(display_field)
    device.profile = json.loads(profile) if profile else None
    device.profile_updated_us = profile_updated_us
    device.handle = handle
    device.hold_us = _us(hold_seconds)
    device.online = None if online is None else bool(online)
    # One number where both are the same: there are as many as devices.
    device.online_since_us = winner_since_us if online_since_us == winner_since_us else online_since_us
    device.winner_since_us = winner_since_us
    device.stage = Stage(stage) if stage else None
    device.stage_at_us = stage_at_us
    device.target = Place(**json.loads(target)) if target else None


def _fill_source(roster: Roster, row: Sequence[Any], default_policy: DefaultPolicy) -> Source | None:
    number, instance_id, connection_id, external_id, provider, device_id, rank, fallback_after, vendor_online = row
    device = roster.by_id(device_id)
    if device is None:
        return None
    source = roster.source_by_id(number)
    if source is None:
        policy = roster.policy(instance_id, connection_id) or default_policy(instance_id, connection_id, provider)
        name = device.token if external_id == device.token else external_id
        source = Source(number, intern(connection_id), name, device, policy)
    elif source.device is not device:
        roster.move_source(source, device)
    source.rank = rank
    source.fallback_after_us = None if fallback_after is None else _us(fallback_after)
    source.vendor_online = None if vendor_online is None else bool(vendor_online)
    source.last = source.milestone = source.period = None  # what is there follows from the rows
    return roster.add_source(source)


@lru_cache(1000)
def _us(seconds: float) -> int:
    return int(seconds * 1e6)
