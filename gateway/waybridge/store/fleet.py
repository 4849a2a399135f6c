"""Devices, sources, their newest fixes, trips and periods, as intake and the roster ask for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Select, func, select, update

from waybridge.bus import Fix
from waybridge.model import Place, Stage
from waybridge.roster import Device, Period, Policy, Roster, Source, Trip
from waybridge.store.newcomers import make_devices
from waybridge.store.tables import devices, last, sharing_periods, sources, trips

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from waybridge.store.engine import Tx

DefaultPolicy: TypeAlias = Callable[[str, str, str], Policy]
"""(instance, connection, provider) -> how to treat sources of a connection that is not configured any more."""


async def load(
    conn: AsyncConnection,
    roster: Roster,
    default_policy: DefaultPolicy,
    device_ids: Sequence[int] | None = None,
    newer: Collection[int] = (),
) -> None:
    """Brings the roster's devices (all, or some) to what the database says.

    `newer` may fill while this waits for the database: devices of which the roster knows more by then are left alone.
    """

    def some(question: Select[Any], column: Any) -> Select[Any]:
        return question if device_ids is None else question.where(column.in_(device_ids))

    later = trips.alias("newer")
    newest_trips = select(trips).where(
        ~select(later.c.id)
        .where(later.c.source_id == trips.c.source_id, later.c.started_us > trips.c.started_us)
        .exists()
    )
    periods = select(sharing_periods).where(sharing_periods.c.kind == "source", sharing_periods.c.ended_us.is_(None))
    device_rows = (await conn.execute(some(select(devices), devices.c.id))).all()
    source_rows = (await conn.execute(some(select(sources), sources.c.device_id))).all()
    last_rows = (await conn.execute(some(select(last), last.c.device_id))).all()
    period_rows = (await conn.execute(some(periods, sharing_periods.c.device_id))).all()
    trip_rows = (await conn.execute(some(newest_trips, trips.c.device_id))).all()
    ended_rows = (await conn.execute(some(_last_ends(), sharing_periods.c.device_id))).all()
    # From here on nothing waits, so that no reader ever sees half of it.
    if newer:
        device_rows = [row for row in device_rows if row.id not in newer]
        source_rows, last_rows, period_rows, trip_rows, ended_rows = (
            [row for row in rows if row.device_id not in newer]
            for rows in (source_rows, last_rows, period_rows, trip_rows, ended_rows)
        )
    for row in device_rows:
        device = roster.by_id(row.id) or roster.add_device(Device(row.id, row.instance_id, row.device_token))
        _fill_device(device, row)
    for row in source_rows:
        _fill_source(roster, row, default_policy)
    for row in last_rows:
        source = roster.source_by_id(row.source_id)
        if source is not None:
            if row.milestone:
                source.milestone = _fix(row)
            else:
                source.last = _fix(row)
            source.highest_sent_us = max(source.highest_sent_us, row.sent_us)
    _fill_periods_and_trips(roster, period_rows, trip_rows, ended_rows)
    for row in device_rows:
        device_now, winner = roster.by_id(row.id), roster.source_by_id(row.winner_source_id or 0)
        if device_now is not None and winner is not None and winner.device is device_now:
            device_now.winner = winner


def _last_ends() -> Select[Any]:
    """When the newest closed period of each source ended, where somebody's consent or an event began it."""
    ended = sharing_periods.c.ended_us
    return (
        select(sharing_periods.c.source_id, sharing_periods.c.device_id, func.max(ended).label("ended_us"))
        .where(sharing_periods.c.kind == "source", ended.is_not(None), sharing_periods.c.start_cause != "online")
        .group_by(sharing_periods.c.source_id, sharing_periods.c.device_id)
    )


def _fill_periods_and_trips(
    roster: Roster, period_rows: Sequence[Row[Any]], trip_rows: Sequence[Row[Any]], ended_rows: Sequence[Row[Any]]
) -> None:
    for row in ended_rows:
        source = roster.source_by_id(row.source_id)
        if source is not None:
            source.last_ended_us = max(row.ended_us, source.last_ended_us or 0)  # one row a device that it was of
    for row in period_rows:
        source = roster.source_by_id(row.source_id)
        if source is not None:
            source.period = Period(
                row.id, row.sharing_id, row.began_us, row.ends_us, row.start_cause, row.shared_by, row.shared_with,
                row.chat_id,
            )  # fmt: skip
    for row in trip_rows:
        source = roster.source_by_id(row.source_id)
        if source is not None:
            source.trip = Trip(row.id, row.track_token, row.started_us, row.ended_us)


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
                f"WITH k(m, s, r) AS (VALUES {values}) SELECT p.source_id, p.recorded_us FROM k"  # noqa: S608 - only ?
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
            f"SELECT {columns} FROM unnest($1::bigint[], $2::text[]) AS k(s, token)"  # noqa: S608 - only $
            " JOIN trips t ON t.source_id = k.s AND t.track_token = k.token ORDER BY t.started_us",
            tuple(map(list, zip(*keys, strict=True))),
        )
    else:
        rows = await conn.exec_driver_sql(
            f"SELECT {columns} FROM json_each(?) AS k CROSS JOIN trips t"  # noqa: S608 - only ?
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


def _fill_device(device: Device, row: Row[Any]) -> None:
    device.stamp = None
    device.display_field = row.display_field
    device.profile = json.loads(row.profile) if row.profile else None
    device.profile_updated_us = row.profile_updated_us
    device.handle = row.handle
    device.hold_us = int(row.hold_seconds * 1e6)
    device.online = row.online
    device.online_since_us = row.online_since_us
    device.winner_since_us = row.winner_since_us
    device.stage = Stage(row.stage) if row.stage else None
    device.stage_at_us = row.stage_at_us
    device.target = Place(**json.loads(row.target)) if row.target else None


def _fill_source(roster: Roster, row: Row[Any], default_policy: DefaultPolicy) -> None:
    device = roster.by_id(row.device_id)
    if device is None:
        return
    source = roster.source_by_id(row.id)
    if source is None:
        policy = roster.policy(row.instance_id, row.connection_id) or default_policy(
            row.instance_id, row.connection_id, row.provider
        )
        source = Source(row.id, row.connection_id, row.external_id, device, policy)
    elif source.device is not device:
        roster.move_source(source, device)
    source.rank = row.rank
    source.fallback_after_us = None if row.fallback_after_seconds is None else int(row.fallback_after_seconds * 1e6)
    source.vendor_online = row.vendor_online
    source.last = source.milestone = source.period = None  # what is there follows from the rows
    roster.add_source(source)
    device.sources.sort(key=lambda each: (each.rank, each.id))


def _fix(row: Row[Any]) -> Fix:
    return Fix(
        row.recorded_us, row.sent_us, row.received_us, row.latitude, row.longitude, row.altitude, row.accuracy,
        row.speed, row.heading, row.trip_id, row.flags, row.extra,
    )  # fmt: skip
