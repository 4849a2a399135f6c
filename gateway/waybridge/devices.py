"""What operators do to devices: find, name, profile and erase them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from waybridge import names, periods
from waybridge.bus import DeviceEvent
from waybridge.errors import Conflict, NotFound, ProviderError, RequestError
from waybridge.roster import Device, Roster
from waybridge.store import devices as rows
from waybridge.store import fleet, tracks
from waybridge.store.engine import Store, Tx
from waybridge.store.state import forget_source

log = structlog.get_logger("waybridge.devices")

UNKNOWN = "there is no such device"
ERASE_MINUTES = 2_000
"""Minutes of history that one transaction erases at the most, so that others can write in between."""
REFRESH_AT_ONCE = 8
REFRESH_SECONDS = 20.0

EndShares = Callable[[Tx, int, str, str], Awaitable[object]]
"""(tx, device number, device token, instance): ends a device's share sessions, cause `erased`."""
RefreshProfile = Callable[[Device], Awaitable[bool]]
"""Fetches a device's profile from its vendors and takes it in; False where none has one."""


class Devices:
    """The operators' side of devices."""

    def __init__(
        self,
        store: Store,
        roster: Roster,
        *,
        default_policy: fleet.DefaultPolicy,
        end_shares: EndShares,
        refresh_profile: RefreshProfile,
        exclusive: bool = True,
    ) -> None:
        self._store = store
        self._roster = roster
        self._default_policy = default_policy
        self._end_shares = end_shares
        self._refresh_profile = refresh_profile
        self._exclusive = exclusive

    def find(self, instance_ids: Iterable[str], device_token: str) -> Device:
        """A device by its canonical token, wherever the caller may look.

        Raises NotFound; Conflict when it is in more than one of the instances.
        """
        roster = self._roster
        found = [
            device for instance_id in instance_ids if (device := roster.device(instance_id, device_token)) is not None
        ]
        if not found:
            raise NotFound(UNKNOWN)
        if len(found) > 1:
            raise Conflict("the device is in more than one instance; name one by instance_id")
        return found[0]

    # -- names and profiles

    async def keep_profile(self, instance_id: str, device_token: str, profile: Mapping[str, str | None]) -> Device:
        """Replaces a device's profile, and makes the device if it is new."""

        async def unit(tx: Tx) -> int:
            device_id, _ = await fleet.make_device(tx, instance_id, device_token)
            if not self._exclusive:
                await fleet.lock_devices(tx, [device_id])
            await rows.keep_profile(tx, device_id, profile)
            is_new = self._roster.by_id(device_id) is None
            tx.after_commit(lambda: self._profiled(device_id, instance_id, device_token, profile, tx.now_us))
            if is_new:
                tx.publish(_event("created", instance_id, device_id, device_token, tx.now_us))
            tx.publish(_event("profile", instance_id, device_id, device_token, tx.now_us))
            return device_id

        device_id = await self._store.write(unit, alone=True)
        device = self._roster.by_id(device_id)
        if device is None:
            raise NotFound(UNKNOWN)
        return device

    def _profiled(
        self, device_id: int, instance_id: str, device_token: str, profile: Mapping[str, str | None], now_us: int
    ) -> None:
        device = self._roster.by_id(device_id) or self._roster.add_device(Device(device_id, instance_id, device_token))
        device.profile = dict(profile)
        device.profile_updated_us = now_us

    async def choose_fields(self, instance_id: str, chosen: Mapping[str, str]) -> Sequence[str]:
        """Chooses the profile field that names each device (token -> field); the tokens of unknown devices."""
        known: dict[int, str] = {}
        unknown: list[str] = []
        for token, field in chosen.items():
            device = self._roster.device(instance_id, token)
            if device is None:
                unknown.append(token)
            else:
                known[device.id] = field
        if known:
            await self._store.write(lambda tx: self._choose(tx, known), alone=True)
        return unknown

    async def _choose(self, tx: Tx, known: Mapping[int, str]) -> None:
        await rows.keep_display_fields(tx, known)
        changed = [device for device_id in known if (device := self._roster.by_id(device_id)) is not None]

        def apply() -> None:
            for device in changed:
                device.display_field = known[device.id]

        tx.after_commit(apply)
        for device in changed:
            tx.publish(_event("display_field", device.instance_id, device.id, device.token, tx.now_us))

    async def refresh(self, devices: Sequence[Device]) -> tuple[int, list[tuple[str, str]]]:
        """Fetches profiles from the vendors, a few at a time: how many went well, and (token, why) of the rest.

        A device whose vendors have no profiles is no failure.
        """
        gate = asyncio.Semaphore(REFRESH_AT_ONCE)
        failed: list[tuple[str, str]] = []

        async def one(device: Device) -> None:
            async with gate:
                try:
                    async with asyncio.timeout(REFRESH_SECONDS):
                        await self._refresh_profile(device)
                except TimeoutError:
                    failed.append((device.token, "the vendor did not answer in time"))
                except (ProviderError, RequestError, OSError) as error:
                    log.debug("A profile could not be fetched", error=type(error).__name__)
                    failed.append((device.token, "the vendor did not give the profile"))

        await asyncio.gather(*(one(device) for device in devices))
        return len(devices) - len(failed), sorted(failed)

    # -- erasure

    async def erase(self, device: Device) -> None:
        """Erases everything known of a device: history, trips, periods, profile, sources, payloads about it, and
        what their connections remember of its sources.

        Its shares end. A source that goes on sending makes it anew.
        """
        own, past = await self._sources_of(device.id)
        await self._erase_history(device.id, own, past)
        await self._store.write(lambda tx: self._erase(tx, device, own), alone=True)
        await self._erase_history(device.id, own, past)  # what was on its way in meanwhile

    async def _sources_of(self, device_id: int) -> tuple[list[int], list[int]]:
        async with self._store.read() as conn:
            return await rows.sources_of(conn, device_id)

    async def _erase_history(self, device_id: int, own: Sequence[int], past: Sequence[int]) -> None:
        """Some minutes at a time, leaping over what nobody moved in: one fix of long ago must not cost years."""
        minute = 0
        while own or past:
            async with self._store.read() as conn:
                first = await tracks.next_minute(conn, minute)
            if first is None:
                return
            minute = first + ERASE_MINUTES

            async def unit(tx: Tx, first: int = first, last: int = minute - 1) -> None:
                await rows.delete_thoroughly(tx, on=True)
                for source_id in own:
                    await tracks.erase_points(tx.conn, source_id, first, last)
                for source_id in past:
                    await rows.erase_history_of_device(tx, device_id, source_id, first, last)
                await rows.delete_thoroughly(tx, on=False)

            await self._store.write(unit, alone=True)

    async def _erase(self, tx: Tx, device: Device, own: Sequence[int]) -> None:
        if not self._exclusive:
            await fleet.lock_devices(tx, [device.id])
            await fleet.load(tx.conn, self._roster, self._default_policy, [device.id])
        await rows.delete_thoroughly(tx, on=True)
        await rows.erase_names(tx, device.id, device.token)
        for source in device.sources:
            period = source.period
            if period is not None and await fleet.end_period(tx, period.id, tx.now_us, "erased"):
                told = periods.stopped_data(
                    device, source.policy, period, shared_by=device.token, ended_us=tx.now_us, cause="erased"
                )
                told |= {"shared_by": device.token, "chat_id": None}
                self._emit(tx, device, "location.sharing.stopped", told)
            policy = source.policy
            await forget_source(tx, policy.instance_id, policy.connection_id, source.external_id)
        await rows.erase_payloads(tx, device.id, device.instance_id, device.token)
        await self._end_shares(tx, device.id, device.token, device.instance_id)
        await rows.erase_device(tx, device.id, own)
        await rows.delete_thoroughly(tx, on=False)
        tx.after_commit(lambda: self._roster.remove_device(device))
        tx.publish(_event("erased", device.instance_id, device.id, device.token, tx.now_us))

    @staticmethod
    def _emit(tx: Tx, device: Device, event_type: str, data: dict[str, Any]) -> None:
        tx.emit(
            event_type,
            instance_id=device.instance_id,
            data=data,
            device_id=device.id,
            device_token=device.token,
            cause="erased",
        )


def metadata(device: Device) -> dict[str, Any]:
    """A device's names: `display_field` is the chosen one, `resolved_field` the one that won."""
    value, won = names.resolve(device.profile, device.display_field, device.token)
    return {
        "device_token": device.token,
        "display_field": device.display_field,
        "display_value": value,
        "resolved_field": won,
        "profile": profile_of(device),
    }


def profile_of(device: Device) -> dict[str, str | None] | None:
    """The whole profile with every field, or None where nobody profiled the device."""
    return names.complete(device.profile) if device.profile is not None else None


def _event(kind: str, instance_id: str, device_id: int, device_token: str, at_us: int) -> DeviceEvent:
    return DeviceEvent(kind=kind, instance_id=instance_id, device_id=device_id, device_token=device_token, at_us=at_us)
