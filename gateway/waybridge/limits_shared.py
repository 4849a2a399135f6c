"""Rate limits over all nodes: this node's own first, which costs nothing, then the database's.

The key in the database is a digest, so that it holds no client's address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from waybridge.errors import StoreUnavailable
from waybridge.limits import Bucket, Limiter, Verdict, judge
from waybridge.store import limits as rows
from waybridge.store.engine import Store, Tx


class SharedLimiter:
    """A limiter of many nodes. While the database is away this node's own limit holds."""

    def __init__(self, store: Store, local: Limiter, buckets: Mapping[str, Bucket]) -> None:
        self._store = store
        self._local = local
        self._buckets = dict(buckets)

    async def hit(self, bucket: str, key: str) -> Verdict:
        own = await self._local.hit(bucket, key)
        if not own.allowed:
            return own
        try:
            return await self._store.write(lambda tx: self._judge(tx, bucket, key, count=True))
        except StoreUnavailable:
            return own

    async def peek(self, bucket: str, key: str) -> Verdict:
        own = await self._local.peek(bucket, key)
        if not own.allowed:
            return own
        try:
            return await self._store.write(lambda tx: self._judge(tx, bucket, key, count=False))
        except StoreUnavailable:
            return own

    async def tidy(self) -> None:
        """Forgets keys that limit nobody any more."""
        await self._store.write(lambda tx: rows.forget_arrivals(tx, tx.now_us))

    async def _judge(self, tx: Tx, bucket: str, key: str, *, count: bool) -> Verdict:
        rule = self._buckets[bucket]
        name = f"{bucket}/{hashlib.sha256(key.encode()).hexdigest()[:32]}"
        now = tx.now_us / 1e6
        kept = await rows.arrival_us(tx, name)
        full = 60 / rule.per_minute * rule.burst
        # A clock that was set back must not lock anybody out: no honest arrival lies further ahead than `full`.
        arrival = now if kept is None else min(kept / 1e6, now + full)
        verdict, after = judge(rule, arrival, now)
        if count:
            await rows.keep_arrival(tx, name, round(after * 1e6))
        return verdict
