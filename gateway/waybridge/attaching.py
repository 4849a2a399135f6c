"""Attaching sources to a device, in the operator's order (contract section 10)."""

from __future__ import annotations

from collections.abc import Sequence

from waybridge.bus import DeviceEvent
from waybridge.errors import Invalid, NotFound
from waybridge.model import canonical_token
from waybridge.roster import Roster
from waybridge.store import fleet
from waybridge.store.engine import Store, Tx
from waybridge.store.newcomers import make_sources

NATIVE = "native"
Ranked = Sequence[tuple[str, str, float]]
"""(connection, external id, fallback after in seconds), the best first."""


class Attaching:
    """Gives devices their sources."""

    def __init__(self, store: Store, roster: Roster, default_policy: fleet.DefaultPolicy) -> None:
        self._store = store
        self._roster = roster
        self._default_policy = default_policy

    async def attach(
        self, instance_id: str, device_token: str, *, hold: float, ranked: Ranked
    ) -> None:
        """Ranks sources; a source that is unknown yet is made known.

        A source leaves the device that it had. Raises NotFound, Invalid for an unknown connection or a repetition.
        """
        errors = self._wrong(instance_id, ranked)
        if errors:
            raise Invalid("the sources are not valid", errors=errors)
        await self._store.write(
            lambda tx: self._unit(tx, instance_id, device_token, hold, [_key(each) for each in ranked]), alone=True
        )

    def _wrong(self, instance_id: str, ranked: Ranked) -> list[tuple[str, str]]:
        errors: list[tuple[str, str]] = []
        seen: set[tuple[str, str]] = set()
        for number, each in enumerate(ranked):
            if self._roster.policy(instance_id, each[0]) is None:
                errors.append((f"sources.{number}.connection_id", "there is no such connection"))
                continue
            try:
                connection_id, external_id, _ = _key(each)
            except ValueError as error:
                errors.append((f"sources.{number}.external_id", str(error)))
                continue
            if (connection_id, external_id) in seen:
                errors.append((f"sources.{number}", "is listed twice"))
            seen.add((connection_id, external_id))
        return errors

    async def _unit(
        self, tx: Tx, instance_id: str, device_token: str, hold: float, ranked: list[tuple[str, str, float]]
    ) -> None:
        device = self._roster.device(instance_id, device_token)
        if device is None:
            raise NotFound("there is no such device")
        touched = {device.id}
        numbers: list[tuple[int, float]] = []
        for connection_id, external_id, fallback_after in ranked:
            policy = self._roster.policy(instance_id, connection_id)
            provider = policy.provider if policy is not None else connection_id
            made = await make_sources(tx, instance_id, connection_id, provider, {external_id: device.id})
            source_id, owner_id, _ = made[external_id]
            touched.add(owner_id)
            numbers.append((source_id, fallback_after))
        await fleet.lock_devices(tx, sorted(touched))
        await fleet.rank_sources(tx, device.id, hold, numbers)
        await fleet.load(tx.conn, self._roster, self._default_policy, sorted(touched))
        for device_id in touched:
            changed = self._roster.by_id(device_id)
            if changed is not None:
                tx.publish(DeviceEvent("sources", instance_id, changed.id, changed.token, tx.now_us))


def _key(ranked: tuple[str, str, float]) -> tuple[str, str, float]:
    connection_id, external_id, fallback_after = ranked
    if connection_id == NATIVE:
        external_id = canonical_token(external_id)
    if not 0 < len(external_id) <= 500 or any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in external_id):
        raise ValueError("must be 1 to 500 characters without control characters")
    return connection_id, external_id, fallback_after
