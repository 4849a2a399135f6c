"""Sharing periods: when a source lets its location be seen. Pure rules, and what integrators are told."""

from __future__ import annotations

from typing import Any

from waybridge.bus import Fix
from waybridge.model import iso_us
from waybridge.roster import Device, Period, Policy


def opens_by_fix(policy: Policy, fix: Fix, *, vendor_online: bool | None, now_us: int) -> bool:
    """Whether a live fix opens a period by itself: only where the provider says so, and only while it is fresh."""
    return (
        policy.begins == "fix" and vendor_online is not False and now_us - fix.recorded_us <= policy.stale_after_us
    )


def started_data(device: Device, policy: Policy, period: Period, *, shared_by: str) -> dict[str, Any]:
    """The payload of `location.sharing.started` of a source (contract section 11); no coordinates."""
    return {
        "sharing_id": period.sharing_id,
        "kind": "source",
        "device_token": device.token,
        "provider": policy.provider,
        "connection_id": policy.connection_id,
        "shared_by": period.shared_by or shared_by,
        "shared_with": period.shared_with or device.instance_id,
        "chat_id": period.chat_id,
        "began_at": iso_us(period.began_us),
        "ends_at": iso_us(period.ends_us),
        "cause": period.cause,
    }


def stopped_data(
    device: Device, policy: Policy, period: Period, *, shared_by: str, ended_us: int, cause: str
) -> dict[str, Any]:
    """The payload of `location.sharing.stopped` of a source."""
    return {
        **started_data(device, policy, period, shared_by=shared_by),
        "ended_at": iso_us(ended_us),
        "cause": cause,
    }
