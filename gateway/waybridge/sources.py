"""Which of a device's sources wins, and why (contract section 10). Pure rules.

The first fresh source wins; a better one takes back only after it has been fresh for `hold`; recorded time
never goes back, so a source can win only with a fix that is newer than what was shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from waybridge.bus import Fix
from waybridge.roster import Device, Policy, Source


class Candidate(Protocol):
    """A source as the rule sees it (the roster's, or what it will be after the commit)."""

    @property
    def id(self) -> int: ...
    @property
    def rank(self) -> int: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def fallback_after_us(self) -> int | None: ...
    @property
    def last(self) -> Fix | None: ...
    @property
    def vendor_online(self) -> bool | None: ...
    @property
    def fresh_since_us(self) -> int | None: ...
    @property
    def visible(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """The winner's id (None while nothing was ever seen), and the rule that decided."""

    winner_id: int | None
    reason: str


def limit_us(source: Candidate) -> int:
    """The age beyond which a source no longer counts as fresh among its siblings."""
    return source.fallback_after_us if source.fallback_after_us is not None else source.policy.stale_after_us


def is_fresh(source: Candidate, now_us: int) -> bool:
    """Whether a source may win now."""
    return (
        source.last is not None
        and source.visible
        and source.vendor_online is not False
        and now_us - source.last.recorded_us <= limit_us(source)
    )


def decide(candidates: Sequence[Candidate], current_id: int | None, hold_us: int, now_us: int) -> Verdict:
    """Who wins among sources in the order of their ranks."""
    current = next((each for each in candidates if each.id == current_id), None)
    if current is None:
        return _first(candidates, now_us)
    shown = current.last.recorded_us if current.last is not None else None
    current_fresh = is_fresh(current, now_us)
    for each in candidates:
        if each.id == current.id:
            if current_fresh:
                return Verdict(current.id, "fresh")
            continue
        if not is_fresh(each, now_us) or each.last is None:
            continue
        if shown is not None and each.last.recorded_us <= shown and current.visible:
            continue  # time would go back; its next fix may win
        if each.rank < current.rank and current_fresh:
            if each.fresh_since_us is None or now_us - each.fresh_since_us < hold_us:
                continue
            return Verdict(each.id, "better source is back")
        if not current_fresh:
            return Verdict(each.id, "first fresh source")
    return Verdict(current.id, "last seen")


def explain(device: Device, now_us: int) -> dict[str, Any]:
    """Every candidate's age and the rule that decided, for `GET /devices/{t}/sources`."""
    verdict = decide(device.sources, device.winner.id if device.winner else None, device.hold_us, now_us)
    return {
        "device_token": device.token,
        "hold": device.hold_us / 1e6,
        "winner": _key(device.winner) if device.winner else None,
        "rule": verdict.reason,
        "sources": [
            {
                **_key(source),
                "provider": source.policy.provider,
                "rank": rank,
                "fallback_after": limit_us(source) / 1e6,
                "age_seconds": round((now_us - source.last.recorded_us) / 1e6, 3) if source.last is not None else None,
                "fresh": is_fresh(source, now_us),
                "fresh_for_seconds": round((now_us - source.fresh_since_us) / 1e6, 3)
                if source.fresh_since_us is not None and is_fresh(source, now_us)
                else None,
                "sharing": source.sharing,
                "winner": source is device.winner,
            }
            for rank, source in enumerate(device.sources, start=1)
        ],
    }


def _key(source: Source) -> dict[str, str]:
    return {"connection_id": source.connection_id, "external_id": source.external_id}


def _first(candidates: Sequence[Candidate], now_us: int) -> Verdict:
    seen = [each for each in candidates if each.last is not None]
    for each in seen:
        if is_fresh(each, now_us):
            return Verdict(each.id, "first fresh source")
    if seen:
        newest = max(seen, key=lambda each: (each.last.recorded_us if each.last is not None else 0, -each.rank))
        return Verdict(newest.id, "last seen")
    return Verdict(candidates[0].id if candidates else None, "no position yet")
