"""What one transaction of intake works on: drafts of sources and devices, and what is told after the commit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from waybridge.bus import DeviceEvent, Fix, PositionEvent
from waybridge.drafts import DeviceDraft, SourceDraft
from waybridge.model import canonical_token, vendor_device_token
from waybridge.roster import Device, Policy, Roster, Source, Trip
from waybridge.store import fleet, newcomers, sync
from waybridge.store.changes import Changes
from waybridge.store.engine import Tx
from waybridge.store.fixes import FixRow
from waybridge.trips import TripRules

NATIVE = "native"
_NO_NAME = "must be 1 to 500 characters without control characters"


class Shares(Protocol):
    """What the share sessions do when a journey ends, inside intake's transaction."""

    async def complete_for_device(self, tx: Tx, device_id: int, device_token: str, instance_id: str) -> None: ...


class Ledger:
    """Sources and devices as they will be after the commit; the roster becomes so in `_commit`."""

    def __init__(
        self,
        tx: Tx,
        roster: Roster,
        *,
        rules: TripRules,
        shares: Shares,
        default_policy: fleet.DefaultPolicy,
        history: bool,
        by_clock: bool = False,
    ) -> None:
        self._tx = tx
        self._by_clock = by_clock
        self._roster = roster
        self._rules = rules
        self._shares = shares
        self._default_policy = default_policy
        self._history = history
        self._sources: dict[tuple[str, str, str], SourceDraft] = {}
        self._devices: dict[int, DeviceDraft] = {}
        self._changes = Changes(tx)
        self._new_devices: dict[tuple[str, str], Device] = {}
        self._new_sources: dict[tuple[str, str, str], Source] = {}
        self._known: set[tuple[int, int]] = set()
        self._left_trips: dict[tuple[int, str], Trip] = {}
        self._plain: dict[Source, tuple[Fix, FixRow]] = {}  # the newest plain fix of each source, see plain.py
        self._plain_events: list[PositionEvent] = []
        self._held: set[Source] = set()
        self._rows: list[FixRow] = []
        self._shown: list[tuple[SourceDraft, Fix, str | None]] = []
        self._told: list[DeviceEvent] = []

    # -- state

    async def reload(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """Locks the sources' devices and takes over what other nodes wrote."""
        if wanted := set(keys):
            await sync.take_over(self._tx, self._roster, self._default_policy, wanted)

    # -- newcomers

    async def meet(self, named: Iterable[tuple[Policy, str, str | None]]) -> None:
        """Makes the sources that nobody heard of yet, and their devices, in a few statements.

        `named`: (policy, external id, the device that a new source belongs to; None for its own).
        """
        unknown: dict[tuple[str, str, str], tuple[Policy, str]] = {}
        for policy, external_id, device_token in named:
            try:
                key = _key(policy, external_id)
                if key not in unknown and self._roster.source(*key) is None:
                    unknown[key] = policy, _token_of(key, device_token)
            except ValueError:
                continue  # told when the report is taken in
        by_instance: dict[str, set[str]] = {}
        for (instance_id, _, _), (_, token) in unknown.items():
            by_instance.setdefault(instance_id, set()).add(token)
        for instance_id, tokens in by_instance.items():
            await self._meet_devices(instance_id, tokens)
        by_connection: dict[tuple[str, str], tuple[Policy, dict[str, Device]]] = {}
        for (instance_id, connection_id, external_id), (policy, token) in unknown.items():
            _, owners = by_connection.setdefault((instance_id, connection_id), (policy, {}))
            owners[external_id] = self._new_devices.get((instance_id, token)) or self._known_device(instance_id, token)
        for policy, owners in by_connection.values():
            await self._meet_sources(policy, owners)

    async def _meet_devices(self, instance_id: str, tokens: set[str]) -> None:
        asked = [token for token in tokens if self._roster.device(instance_id, token) is None]
        if not asked:
            return
        found = await newcomers.make_devices(self._tx, instance_id, asked)
        # What another node made first is taken over as it committed it.
        await self._take_over(number for number, made in found.values() if not made)
        for token in asked:
            if self._roster.device(instance_id, token) is None:
                device = self._new_devices[instance_id, token] = Device(found[token][0], instance_id, token)
                self._devices[device.id] = DeviceDraft(device, is_new=True)
                self._tell("created", device)

    async def _meet_sources(self, policy: Policy, owners: dict[str, Device]) -> None:
        instance_id, connection_id = policy.instance_id, policy.connection_id
        numbers = {external_id: device.id for external_id, device in owners.items()}
        found = await newcomers.make_sources(self._tx, instance_id, connection_id, policy.provider, numbers)
        await self._take_over(owner for _, owner, made in found.values() if not made)
        for external_id, (number, _, _) in found.items():
            if self._roster.source(instance_id, connection_id, external_id) is None:
                key = instance_id, connection_id, external_id
                self._new_sources[key] = Source(number, connection_id, external_id, owners[external_id], policy)

    async def _take_over(self, device_ids: Iterable[int]) -> None:
        numbers = sorted(set(device_ids))
        if numbers:
            await fleet.lock_devices(self._tx, numbers)
            await fleet.load(self._tx.conn, self._roster, self._default_policy, numbers)

    def _known_device(self, instance_id: str, token: str) -> Device:
        device = self._roster.device(instance_id, token)
        if device is None:
            raise LookupError("a device that was made is not known")
        return device

    # -- resolve

    def _resolve(self, policy: Policy, external_id: str) -> SourceDraft:
        """The draft of a source that is known or was met. Raises ValueError for text that names none."""
        key = _key(policy, external_id)
        draft = self._sources.get(key)
        if draft is None:
            source = self._roster.source(*key) or self._new_sources.get(key)
            if source is None:
                raise ValueError(_NO_NAME)
            draft = self._sources[key] = self._draft(source)
            self._device(draft)
        return draft

    def _draft(self, source: Source) -> SourceDraft:
        draft = SourceDraft(source)
        newest = self._plain.pop(source, None)
        if newest is not None:
            draft.last, draft.new_last = newest[0], True
            draft.highest_sent_us = newest[0].sent_us
        return draft

    def _device(self, draft: SourceDraft) -> DeviceDraft:
        device = self._devices.get(draft.source.device.id)
        if device is None:
            device = self._devices[draft.source.device.id] = DeviceDraft(draft.source.device)
        device.sources[draft.id] = draft
        return device

    # -- after the commit

    def _commit(self) -> None:
        for device in self._devices.values():
            if device.is_new and self._roster.by_id(device.device.id) is None:
                self._roster.add_device(device.device)
        for draft in self._sources.values():
            if self._roster.source_by_id(draft.id) is None:
                self._roster.add_source(draft.source)
        for device in self._devices.values():
            device.commit()
        for source, (fix, _) in self._plain.items():
            source.last = fix
            source.highest_sent_us = fix.sent_us

    def _emit(self, event_type: str, device: Device, data: dict[str, Any], cause: str | None) -> None:
        self._tx.emit(
            event_type,
            instance_id=device.instance_id,
            data=data,
            device_id=device.id,
            device_token=device.token,
            cause=cause,
        )

    def _tell(self, kind: str, device: Device, details: dict[str, Any] | None = None) -> None:
        self._told.append(
            DeviceEvent(kind, device.instance_id, device.id, device.token, self._tx.now_us, details or {})
        )


def _key(policy: Policy, external_id: str) -> tuple[str, str, str]:
    """What a source is known by. Raises ValueError for a native token that is none."""
    native = policy.connection_id == NATIVE
    return policy.instance_id, policy.connection_id, canonical_token(external_id) if native else external_id


def _token_of(key: tuple[str, str, str], device_token: str | None) -> str:
    """The token of a new source's device. Raises ValueError for an external id that cannot be kept."""
    instance_id, connection_id, external_id = key
    if not 0 < len(external_id) <= 500 or any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in external_id):
        raise ValueError(_NO_NAME)
    if connection_id == NATIVE:
        return external_id
    return device_token or vendor_device_token(instance_id, connection_id, external_id)
