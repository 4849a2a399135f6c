"""What every device looks like now, in memory: the newest fix of each source, who wins, who may see it.

The database is the truth; the roster is what it says after the last commit, so that reads and fan-out need no
query. Intake changes it after each commit; on other nodes the bus does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import msgspec
from msgspec.structs import replace

from waybridge import names
from waybridge.bus import Fix
from waybridge.model import Place, Stage

NOT_LIVE, SUSPECT, LATE = 1, 2, 4
_NONE: Mapping[str, Source] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the sources of one connection are treated."""

    instance_id: str
    connection_id: str
    provider: str
    stale_after_us: int = 60_000_000
    consent: Literal["none", "public", "all"] = "none"
    begins: Literal["fix", "report"] = "fix"
    future_skew_us: int = 30_000_000


class Period(msgspec.Struct, array_like=True, gc=False):
    """An open sharing period of a source."""

    id: int
    sharing_id: str
    began_us: int
    ends_us: int | None
    cause: str
    shared_by: str | None
    shared_with: str | None
    chat_id: str | None


class Trip(msgspec.Struct, array_like=True, gc=False):
    """A source's newest trip; `ended_us` None while it runs. `still_since_us`: since when the source stands."""

    id: int
    track_token: str
    started_us: int
    ended_us: int | None = None
    still_since_us: int | None = None

    def moving(self) -> Trip:
        """The same trip of a source that is not known to stand."""
        return replace(self, still_since_us=None)


class _Now(msgspec.Struct, array_like=True, gc=False):
    """What changes of a source as it moves."""

    last: Fix | None = None
    milestone: Fix | None = None
    period: Period | None = None
    trip: Trip | None = None
    highest_sent_us: int = 0


class Source:
    """One source, as it is now.

    A source of which nobody asked for a while may `rest`: its fixes, period and trip are kept packed, which takes a
    third of the memory, until somebody asks for one of them.
    """

    __slots__ = (
        "_now", "connection_id", "device", "external_id", "fallback_after_us", "fresh_since_us", "id", "last_ended_us",
        "policy", "rank", "vendor_online",
    )  # fmt: skip

    def __init__(self, id: int, connection_id: str, external_id: str, device: Device, policy: Policy) -> None:  # noqa: A002
        self.id = id
        self.connection_id = connection_id
        self.external_id = external_id
        self.device = device
        self.policy = policy
        self.rank = 0
        self.fallback_after_us: int | None = None
        self.vendor_online: bool | None = None
        self.last_ended_us: int | None = None
        self.fresh_since_us: int | None = None
        self._now: _Now | bytes = _Now()

    def rest(self) -> None:
        """Packs what is not asked for often; harmless while it rests."""
        if not isinstance(self._now, bytes):
            self._now = _pack(self._now)

    @property
    def resting(self) -> bool:
        """Whether nobody asked since it rests."""
        return isinstance(self._now, bytes)

    def _wake(self) -> _Now:
        now = self._now
        if isinstance(now, bytes):
            now = self._now = _unpack(now)
        return now

    @property
    def last(self) -> Fix | None:
        """The newest live fix."""
        now = self._now
        return (now if type(now) is _Now else self._wake()).last

    @last.setter
    def last(self, value: Fix | None) -> None:
        now = self._now
        (now if type(now) is _Now else self._wake()).last = value

    @property
    def milestone(self) -> Fix | None:
        """The newest coordinate that is not live."""
        now = self._now
        return (now if type(now) is _Now else self._wake()).milestone

    @milestone.setter
    def milestone(self, value: Fix | None) -> None:
        now = self._now
        (now if type(now) is _Now else self._wake()).milestone = value

    @property
    def period(self) -> Period | None:
        """The open sharing period."""
        now = self._now
        return (now if type(now) is _Now else self._wake()).period

    @period.setter
    def period(self, value: Period | None) -> None:
        now = self._now
        (now if type(now) is _Now else self._wake()).period = value

    @property
    def trip(self) -> Trip | None:
        """The newest trip."""
        now = self._now
        return (now if type(now) is _Now else self._wake()).trip

    @trip.setter
    def trip(self, value: Trip | None) -> None:
        now = self._now
        (now if type(now) is _Now else self._wake()).trip = value

    @property
    def highest_sent_us(self) -> int:
        """The newest time that was ever sent: what is newer is no duplicate."""
        now = self._now
        return (now if type(now) is _Now else self._wake()).highest_sent_us

    @highest_sent_us.setter
    def highest_sent_us(self, value: int) -> None:
        now = self._now
        (now if type(now) is _Now else self._wake()).highest_sent_us = value

    @property
    def newest(self) -> Fix | None:
        """The newest fix, live or milestone."""
        if self.milestone is None or (self.last is not None and self.last.recorded_us >= self.milestone.recorded_us):
            return self.last
        return self.milestone

    @property
    def sharing(self) -> bool:
        """Whether a sharing period is open."""
        return self.period is not None

    @property
    def visible(self) -> bool:
        """Whether viewers and streams may see it."""
        return self.policy.consent == "none" or self.period is not None

    def fresh(self, now_us: int) -> bool:
        """Whether the newest live fix is no older than the connection's `stale_after` and the vendor agrees."""
        return (
            self.last is not None
            and self.vendor_online is not False
            and now_us - self.last.recorded_us <= self.policy.stale_after_us
        )


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Now).decode


class Device:
    """One tracked subject, as it is now."""

    __slots__ = (
        "display_field", "handle", "hold_us", "id", "instance_id", "online", "online_since_us", "profile",
        "profile_updated_us", "sources", "stage", "stage_at_us", "stamp", "target", "token", "watched", "winner",
        "winner_since_us",
    )  # fmt: skip

    def __init__(self, id: int, instance_id: str, token: str) -> None:  # noqa: A002
        self.id = id
        self.instance_id = instance_id
        self.token = token
        self.display_field = "full_name"
        self.profile: dict[str, str | None] | None = None
        self.profile_updated_us: int | None = None
        self.handle: str | None = None
        self.hold_us = 30_000_000
        self.sources: tuple[Source, ...] = ()
        self.winner: Source | None = None
        self.winner_since_us: int | None = None
        self.online: bool | None = None
        self.online_since_us: int | None = None
        self.stage: Stage | None = None
        self.stage_at_us: int | None = None
        self.target: Place | None = None
        self.watched: int | None = None  # the second in which the clock looks at it again (presence.py)
        self.stamp: tuple[int, ...] | None = None  # on many nodes: what of it is known to be stored (store/sync.py)

    def order_sources(self) -> None:
        """Puts the sources in the operator's order."""
        if len(self.sources) > 1:
            self.sources = tuple(sorted(self.sources, key=lambda each: (each.rank, each.id)))

    def rest(self) -> None:
        """Lets its sources rest."""
        for source in self.sources:
            source.rest()

    @property
    def provider(self) -> str | None:
        """The kind of the source that wins, or of the first one."""
        source = self.winner or (self.sources[0] if self.sources else None)
        return source.policy.provider if source else None

    @property
    def display_name(self) -> str:
        return names.resolve(self.profile, self.display_field, self.token)[0]

    @property
    def public_name(self) -> str | None:
        return names.public_name(self.profile, self.display_field)

    @property
    def operator_fix(self) -> Fix | None:
        """The position that operators read, or None: hidden without consent where the vendor demands it."""
        return self.winner.newest if self.winner is not None and not self.kept_back else None

    @property
    def kept_back(self) -> bool:
        """Whether the vendor demands that nothing is shown to anybody: its source does not share (any more)."""
        source = self.winner or (self.sources[0] if self.sources else None)
        return source is not None and source.policy.consent == "all" and source.period is None

    @property
    def public_fix(self) -> Fix | None:
        """The position that viewers and streams see, or None."""
        winner = self.winner
        return winner.last if winner is not None and winner.visible else None

    @property
    def hidden(self) -> bool:
        """Whether the source keeps its position back although one is known or asked for (not sharing)."""
        return self.winner is not None and not self.winner.visible

    @property
    def sharing(self) -> bool:
        return self.winner is not None and self.winner.period is not None

    def stale(self, now_us: int) -> bool:
        """Whether what is shown is older than its connection's `stale_after`."""
        winner = self.winner
        fix = winner.newest if winner is not None else None
        return fix is None or winner is None or now_us - fix.recorded_us > winner.policy.stale_after_us

    def online_at(self, now_us: int) -> bool:
        """Whether it is online to a reader: what the clock has not told yet is not said to be online any more."""
        return bool(self.online) and self.winner is not None and self.winner.fresh(now_us)

    @property
    def stale_after_us(self) -> int:
        source = self.winner or (self.sources[0] if self.sources else None)
        return source.policy.stale_after_us if source else 60_000_000

    @property
    def trip(self) -> Trip | None:
        return self.winner.trip if self.winner is not None else None


class Roster:
    """All devices of this node, by token, number and source."""

    def __init__(self) -> None:
        self._by_token: dict[str, dict[str, Device]] = {}
        self._by_id: dict[int, Device] = {}
        self._sources: dict[tuple[str, str], dict[str, Source]] = {}
        self._sources_by_id: dict[int, Source] = {}
        self._policies: dict[tuple[str, str], Policy] = {}

    def device(self, instance_id: str, token: str) -> Device | None:
        """A device by its canonical token."""
        devices = self._by_token.get(instance_id)
        return devices.get(token) if devices is not None else None

    def by_id(self, device_id: int) -> Device | None:
        return self._by_id.get(device_id)

    def devices(self, instance_id: str) -> Iterable[Device]:
        """An instance's devices in the order in which they were made known."""
        return self._by_token.get(instance_id, {}).values()

    def everything(self) -> Iterator[Device]:
        return iter(tuple(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def source(self, instance_id: str, connection_id: str, external_id: str) -> Source | None:
        return self.sources_of(instance_id, connection_id).get(external_id)

    def sources_of(self, instance_id: str, connection_id: str) -> Mapping[str, Source]:
        """A connection's sources by their external ids."""
        return self._sources.get((instance_id, connection_id), _NONE)

    def source_by_id(self, source_id: int) -> Source | None:
        return self._sources_by_id.get(source_id)

    def policy(self, instance_id: str, connection_id: str) -> Policy | None:
        return self._policies.get((instance_id, connection_id))

    def set_policy(self, policy: Policy) -> None:
        """Makes a connection's rules known; its sources follow at once."""
        self._policies[policy.instance_id, policy.connection_id] = policy
        for source in self.sources_of(policy.instance_id, policy.connection_id).values():
            source.policy = policy

    def forget_policy(self, instance_id: str, connection_id: str) -> None:
        """The connection is gone; its sources keep the rules that they had."""
        self._policies.pop((instance_id, connection_id), None)

    def add_device(self, device: Device) -> Device:
        self._by_token.setdefault(device.instance_id, {})[device.token] = device
        self._by_id[device.id] = device
        return device

    def add_source(self, source: Source) -> Source:
        device = source.device
        if source not in device.sources:
            device.sources = (*device.sources, source)
        device.order_sources()
        self._sources.setdefault((device.instance_id, source.connection_id), {})[source.external_id] = source
        self._sources_by_id[source.id] = source
        return source

    def move_source(self, source: Source, device: Device) -> None:
        """Attaches a source to another device of the same instance."""
        before = source.device
        before.sources = tuple(each for each in before.sources if each is not source)
        if source.device.winner is source:
            source.device.winner = None
        source.device = device
        self.add_source(source)

    def remove_source(self, source: Source) -> None:
        device = source.device
        device.sources = tuple(each for each in device.sources if each is not source)
        if device.winner is source:
            device.winner = None
        self._sources.get((device.instance_id, source.connection_id), {}).pop(source.external_id, None)
        self._sources_by_id.pop(source.id, None)

    def remove_device(self, device: Device) -> None:
        for source in device.sources:
            self.remove_source(source)
        self._by_id.pop(device.id, None)
        self._by_token.get(device.instance_id, {}).pop(device.token, None)
