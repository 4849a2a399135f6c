"""Devices and sources on the day they are first heard of: made in one statement, however many they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from waybridge.store.tables import devices, sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from waybridge.store.engine import Tx

_AT_ONCE = 5000

# One parameter holds them all: a JSON array on SQLite, an array on PostgreSQL. In one order, so that two nodes that
# make the same ones wait for each other and do not block each other.
_DEVICES = {
    "sqlite": (
        "INSERT INTO devices (instance_id, device_token, created_us) SELECT ?1, value, ?2 FROM json_each(?3) WHERE true"
        " ON CONFLICT (instance_id, device_token) DO NOTHING RETURNING device_token, id"
    ),
    "postgresql": (
        "INSERT INTO devices (instance_id, device_token, created_us)"
        " SELECT $1::text, token, $2::bigint FROM unnest($3::text[]) AS given(token)"
        " ON CONFLICT (instance_id, device_token) DO NOTHING RETURNING device_token, id"
    ),
}
_SOURCES = {
    "sqlite": (
        "INSERT INTO sources (instance_id, connection_id, provider, created_us, external_id, device_id)"
        " SELECT ?1, ?2, ?3, ?4, json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?5) WHERE true"
        " ON CONFLICT (instance_id, connection_id, external_id) DO NOTHING RETURNING external_id, id, device_id"
    ),
    "postgresql": (
        "INSERT INTO sources (instance_id, connection_id, provider, created_us, external_id, device_id)"
        " SELECT $1::text, $2::text, $3::text, $4::bigint, external_id, device_id"
        " FROM unnest($5::text[], $6::bigint[]) AS given(external_id, device_id)"
        " ON CONFLICT (instance_id, connection_id, external_id) DO NOTHING RETURNING external_id, id, device_id"
    ),
}


async def make_devices(tx: Tx, instance_id: str, tokens: Iterable[str]) -> dict[str, tuple[int, bool]]:
    """Token -> (number, whether it is new) of an instance's devices, made where they are unknown."""
    asked = sorted(set(tokens))
    found: dict[str, tuple[int, bool]] = {}
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        given: Any = _as_json(part) if tx.dialect == "sqlite" else part
        made: Any = await tx.conn.exec_driver_sql(_DEVICES[tx.dialect], (instance_id, tx.now_us, given))
        found.update((token, (number, True)) for token, number in made)
        known = [token for token in part if token not in found]
        if known:
            question = select(devices.c.device_token, devices.c.id).where(
                devices.c.instance_id == instance_id, devices.c.device_token.in_(known)
            )
            found.update((token, (number, False)) for token, number in await tx.conn.execute(question))
    return found


async def make_sources(
    tx: Tx, instance_id: str, connection_id: str, provider: str, owners: Mapping[str, int]
) -> dict[str, tuple[int, int, bool]]:
    """External id -> (number, device number, whether it is new) of a connection's sources.

    `owners`: external id -> the number of the device that the source is made for where it is unknown.
    """
    asked = sorted(owners.items())
    found: dict[str, tuple[int, int, bool]] = {}
    for start in range(0, len(asked), _AT_ONCE):
        part = asked[start : start + _AT_ONCE]
        given: Any = (_as_json(part),) if tx.dialect == "sqlite" else tuple(map(list, zip(*part, strict=True)))
        made: Any = await tx.conn.exec_driver_sql(
            _SOURCES[tx.dialect], (instance_id, connection_id, provider, tx.now_us, *given)
        )
        found.update((external_id, (number, owner, True)) for external_id, number, owner in made)
        known = [external_id for external_id, _ in part if external_id not in found]
        if known:
            question = select(sources.c.external_id, sources.c.id, sources.c.device_id).where(
                sources.c.instance_id == instance_id,
                sources.c.connection_id == connection_id,
                sources.c.external_id.in_(known),
            )
            rows = await tx.conn.execute(question)
            found.update((external_id, (number, owner, False)) for external_id, number, owner in rows)
    return found


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
