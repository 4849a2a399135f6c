"""What other nodes wrote, taken over before this node decides on it: the least that has to be read.

A device's row gets a new `xmin` (PostgreSQL's number of the transaction that wrote it) whenever anything of the device
but a newest fix changes; recording.py sees to that. So a device whose rows still have the numbers that this node knows
is as the roster has it, and only its newest fixes are looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from waybridge.bus import Fix
from waybridge.store import fleet

if TYPE_CHECKING:
    from waybridge.roster import Device, Roster, Source
    from waybridge.store.engine import Tx

_LOCK = (
    "WITH held AS MATERIALIZED (SELECT s.device_id FROM unnest($1::text[], $2::text[], $3::text[]) AS k(i, c, e)"
    " JOIN sources s ON s.instance_id = k.i AND s.connection_id = k.c AND s.external_id = k.e"
    " ORDER BY s.id FOR UPDATE OF s)"
    " SELECT d.id, d.xmin::text::bigint, pg_current_xact_id()::xid::text::bigint FROM devices d"
    " WHERE d.id IN (SELECT device_id FROM held) ORDER BY d.id FOR UPDATE OF d"
)
_NEWEST = (
    "SELECT s.device_id, s.id, s.xmin::text::bigint, l.milestone, l.recorded_us, l.sent_us, l.received_us, l.latitude,"
    " l.longitude, l.altitude, l.accuracy, l.speed, l.heading, l.trip_id, l.flags, l.extra"
    " FROM sources s LEFT JOIN last l ON l.source_id = s.id WHERE s.device_id = ANY($1::bigint[])"
)
_TOUCH = "UPDATE devices SET hold_seconds = hold_seconds WHERE id = ANY($1::bigint[])"


async def take_over(
    tx: Tx, roster: Roster, default_policy: fleet.DefaultPolicy, keys: Collection[tuple[str, str, str]]
) -> None:
    """Locks the devices of these sources (instance, connection, external id) and makes the roster what is stored."""
    if tx.dialect != "postgresql":
        found = await fleet.device_ids_of(tx.conn, keys, lock=True)
        if found:
            await fleet.load(tx.conn, roster, default_policy, sorted(set(found.values())))
        return
    columns: Any = tuple(list(column) for column in zip(*sorted(keys), strict=True))
    locked: Any = (await tx.conn.exec_driver_sql(_LOCK, columns)).all()
    if not locked:
        return
    stamps: dict[int, list[int]] = {number: [stamp] for number, stamp, _ in locked}
    newest: dict[int, dict[int, dict[int, Fix]]] = {number: {} for number in stamps}
    rows: Any = await tx.conn.exec_driver_sql(_NEWEST, (list(stamps),))
    for number, source_id, stamp, milestone, *fix in rows:
        stamps[number].append(stamp)
        of_source = newest[number].setdefault(source_id, {})
        if milestone is not None:
            of_source[milestone] = Fix(*fix)
    stale = [number for number in stamps if not _known(roster.by_id(number), stamps[number], newest[number])]
    if stale:
        await fleet.load(tx.conn, roster, default_policy, stale)
    own = locked[0][2]
    for number, seen in stamps.items():
        device = roster.by_id(number)
        if device is not None:
            if number not in stale:
                for source in device.sources:
                    _take(source, newest[number][source.id])
            _stamp(tx, device, tuple(seen), own)


def touch(tx: Tx, device_ids: Collection[int]) -> None:
    """Tells other nodes, by the devices' rows, that something of these devices changed that stands elsewhere."""
    if tx.dialect == "postgresql" and device_ids:
        tx.append(_TOUCH, [(number,) for number in sorted(device_ids)])


def _known(device: Device | None, stamps: list[int], sources: dict[int, Any]) -> bool:
    return (
        device is not None
        and device.stamp is not None
        and all(stamp in device.stamp for stamp in stamps)
        and {source.id for source in device.sources} == set(sources)
    )


def _take(source: Source, stored: dict[int, Fix]) -> None:
    """Another node's newest fixes; how long the source has stood still is not known then."""
    last, milestone = stored.get(0), stored.get(1)
    if last != source.last:
        source.last = last
        if source.trip is not None and source.trip.still_since_us is not None:
            source.trip = source.trip.moving()
    source.milestone = milestone
    for fix in (last, milestone):
        if fix is not None:
            source.highest_sent_us = max(source.highest_sent_us, fix.sent_us)


def _stamp(tx: Tx, device: Device, seen: tuple[int, ...], own: int) -> None:
    """Notes what is known now, and with the commit what this transaction will have written."""
    device.stamp = seen

    def committed() -> None:
        if device.stamp is seen:  # it was not read again meanwhile
            device.stamp = (*seen, own)

    tx.after_commit(committed)
