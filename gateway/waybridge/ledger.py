"""What one transaction of intake works on: drafts of sources and devices, and what is told after the commit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from waybridge.bus import DeviceEvent, Fix
from waybridge.drafts import DeviceDraft, SourceDraft
from waybridge.model import canonical_token, vendor_device_token
from waybridge.roster import Device, Policy, Roster, Source
from waybridge.store import fleet, sync
from waybridge.store.engine import Tx
from waybridge.trips import TripRules

NATIVE = "native"


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
        self._new_tokens: dict[tuple[str, str], Device] = {}
        self._known: set[tuple[int, int]] = set()
        self._rows: list[fleet.FixRow] = []
        self._shown: list[tuple[SourceDraft, Fix, str | None]] = []
        self._told: list[DeviceEvent] = []

    # -- state

    async def reload(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """Locks the sources' devices and takes over what other nodes wrote."""
        if wanted := set(keys):
            await sync.take_over(self._tx, self._roster, self._default_policy, wanted)

    # -- resolve

    async def _resolve(self, policy: Policy, external_id: str, device_token: str | None) -> SourceDraft:
        native = policy.connection_id == NATIVE
        if native:
            external_id = canonical_token(external_id)
        key = (policy.instance_id, policy.connection_id, external_id)
        draft = self._sources.get(key)
        if draft is None:
            source = self._roster.source(*key)
            if source is None:
                source = await self._make(policy, external_id, device_token, native=native)
            draft = self._sources[key] = SourceDraft(source)
            self._device(draft)
        return draft

    async def _make(self, policy: Policy, external_id: str, device_token: str | None, *, native: bool) -> Source:
        if not 0 < len(external_id) <= 500 or any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in external_id):
            raise ValueError("must be 1 to 500 characters without control characters")
        tx = self._tx
        token = device_token or vendor_device_token(policy.instance_id, policy.connection_id, external_id)
        if native:
            token = external_id
        device = self._new_tokens.get((policy.instance_id, token)) or self._roster.device(policy.instance_id, token)
        device_id, made = (device.id, False) if device else await fleet.make_device(tx, policy.instance_id, token)
        source_id, owner_id = await fleet.make_source(
            tx, policy.instance_id, policy.connection_id, external_id, policy.provider, device_id
        )
        if owner_id != device_id or (device is None and not made and self._roster.by_id(device_id) is None):
            # Another node knew it first: what it committed is taken over.
            await fleet.load(tx.conn, self._roster, self._default_policy, [owner_id])
            known = self._roster.source(policy.instance_id, policy.connection_id, external_id)
            if known is not None:
                return known
        if device is None:
            device = self._roster.by_id(device_id) or Device(device_id, policy.instance_id, token)
            self._new_tokens[policy.instance_id, token] = device
            self._devices.setdefault(device_id, DeviceDraft(device, is_new=True))
            self._tell("created", device)
        return Source(source_id, policy.connection_id, external_id, device, policy)

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
