"""Rate limits: the generic cell rate algorithm (GCRA) on a monotonic clock, and who a client is.

A bucket lets `burst` requests through at once and `per_minute` a minute on the long run, so at most
`burst + per_minute` in any minute. A wall clock that is set back locks nobody out, for none is read.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from waybridge.settings import LimitSettings, Network

PUBLIC = "public"
"""Requests and handshakes of the share endpoints, per client."""
MISSES = "misses"
"""Unknown share tokens, per client: `peek` before the look-up, `hit` when it found nothing."""
TOKEN = "token"  # noqa: S105 - a bucket's name
"""Requests of POST /oauth/token, per client."""
UNKNOWN_CLIENT = "unknown"
IPV6_PREFIX = 64
SLACK_SECONDS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """`per_minute` requests a minute, `burst` of them at once."""

    per_minute: int
    burst: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass; what is left in the bucket; seconds until the next one may, and until it is full."""

    allowed: bool
    remaining: int
    retry_after: float
    reset_after: float


class Limiter(Protocol):
    """Counts requests by bucket and key. Raises KeyError for a bucket that is not configured."""

    async def hit(self, bucket: str, key: str) -> Verdict:
        """Counts one request, if it is allowed."""
        ...

    async def peek(self, bucket: str, key: str) -> Verdict:
        """What `hit` would say, without counting."""
        ...


def buckets(limits: LimitSettings) -> dict[str, Bucket]:
    """The gateway's buckets; a burst of 0 is as many as a minute has."""
    return {
        PUBLIC: _bucket(limits.public_requests_per_minute, limits.public_requests_burst),
        MISSES: _bucket(limits.public_misses_per_minute, limits.public_misses_burst),
        TOKEN: _bucket(limits.token_requests_per_minute, 0),
    }


class MemoryLimiter:
    """Limits inside one process.

    At most `capacity` keys are remembered. When there are more, the one not seen for the longest is forgotten and
    begins anew: whoever can come from more addresses than that is not held by a limit per address anyway.
    """

    def __init__(self, buckets: Mapping[str, Bucket], *, monotonic: Callable[[], float], capacity: int) -> None:
        self._buckets = dict(buckets)
        self._monotonic = monotonic
        self._capacity = capacity
        self._arrivals: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._arrivals)

    async def hit(self, bucket: str, key: str) -> Verdict:
        now = self._monotonic()
        verdict, arrival = judge(self._buckets[bucket], self._arrivals.get((bucket, key), now), now)
        self._arrivals[bucket, key] = arrival
        self._arrivals.move_to_end((bucket, key))
        if len(self._arrivals) > self._capacity:
            self._arrivals.popitem(last=False)
        return verdict

    async def peek(self, bucket: str, key: str) -> Verdict:
        now = self._monotonic()
        return judge(self._buckets[bucket], self._arrivals.get((bucket, key), now), now)[0]


def judge(bucket: Bucket, arrival: float, now: float) -> tuple[Verdict, float]:
    """The verdict on a request at `now`, and the theoretical arrival time to keep.

    `arrival` is what was kept for the key, or `now`; both in seconds of one clock. Pure, so that a limiter which
    keeps its state elsewhere decides alike.
    """
    step = 60 / bucket.per_minute
    full = step * bucket.burst
    arrival = max(arrival, now)
    used = arrival + step - now
    if used > full + SLACK_SECONDS:
        return Verdict(allowed=False, remaining=0, retry_after=used - full, reset_after=arrival - now), arrival
    remaining = int((full - used + SLACK_SECONDS) / step)
    return Verdict(allowed=True, remaining=remaining, retry_after=0.0, reset_after=used), arrival + step


def headers(name: str, bucket: Bucket, verdict: Verdict) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers), and `Retry-After` when refused."""
    seconds = math.ceil((verdict.reset_after if verdict.allowed else verdict.retry_after) - SLACK_SECONDS)
    said = {
        "RateLimit-Policy": f'"{name}";q={bucket.per_minute};w=60',
        "RateLimit": f'"{name}";r={verdict.remaining};t={max(seconds, 0)}',
    }
    if not verdict.allowed:
        said["Retry-After"] = str(max(seconds, 1))
    return said


def client_key(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Who a request comes from: an IPv4 address, or an IPv6 network of /64.

    `peer` is the socket's other end, `forwarded` every X-Forwarded-For header in order. They are believed only
    when the peer is a trusted proxy, and read from the right: the first address that is no trusted proxy itself.
    An entry that is no address ends the reading, and the peer stands.
    """
    address = _address(peer or "")
    if address is None:
        return UNKNOWN_CLIENT
    if not forwarded or not _within(address, trusted):
        return _key(address)
    client = address
    for entry in reversed(",".join(forwarded).split(",")):
        hop = _address(_without_port(entry.strip()))
        if hop is None:
            return _key(address)
        client = hop
        if not _within(hop, trusted):
            break
    return _key(client)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _bucket(per_minute: int, burst: int) -> Bucket:
    return Bucket(per_minute=per_minute, burst=burst or per_minute)


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _key(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
