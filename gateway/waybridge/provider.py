"""The provider contract: what the code that talks to one kind of outside system must be.

A provider translates and has no policy: no store, no bus, no other provider. It can be tested with a payload
and nothing else. The gateway owns reconnecting, checking, ordering, storing and publishing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from waybridge.model import Profile, Report, SourceKey, no_attributes

if TYPE_CHECKING:
    import aiohttp

JSON: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None


class ProviderSettings(BaseModel):
    """The settings of one connection. Subclass it; secrets are `SecretStr`, unknown keys are refused.

    `stale_after`: seconds after which a position of this connection is called stale; None takes the
    provider's default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    stale_after: float | None = Field(default=None, gt=0)


S = TypeVar("S", bound=ProviderSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an inbound request is answered with."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = "application/json"
    headers: Mapping[str, str] = field(default_factory=no_attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider can do, and how its sources are to be treated.

    consent: who sees a source outside a sharing period: `none` = periods decide nothing (everybody sees it),
      `public` = viewers and streams see it only inside one, `all` = nobody sees it outside one.
    begins: what opens a period by itself: `fix` = the first fresh fix (a trip, a vehicle coming online),
      `report` = only a SharingStarted report.
    verifies: who proves the sender of a push: `gateway` = a token with scope `ingest` (found in the places of
      `token_in`), `provider` = the provider itself, from the raw bytes.
    unauthorized: the answer to a missing, bad or too narrow token, where the vendor's dialect has its own.
    future_skew_seconds: how far ahead of the clock a fix may be before it is clamped and called suspect.
    """

    streams: bool = False
    receives: bool = False
    asks: bool = False
    stale_after: float = 60.0
    expected_interval: float = 5.0
    consent: Literal["none", "public", "all"] = "none"
    begins: Literal["fix", "report"] = "fix"
    verifies: Literal["gateway", "provider"] = "gateway"
    token_in: frozenset[Literal["header", "basic", "query"]] = frozenset({"header"})
    unauthorized: Answer | None = None
    max_body: int = 1_048_576
    future_skew_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who sent a push, as the gateway verified it."""

    subject: str
    instances: frozenset[str]
    device_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One inbound request, read whole. `path` is what follows `/ingest/{connection_id}/` (no leading slash),
    percent-decoded per segment; header names are lower-case. `frame` is the number, from 1, of a frame of a
    socket that the gateway owns (method "FRAME"), else None. `sender` is None where the provider verifies.
    """

    method: str
    path: str
    segments: Sequence[str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime
    sender: Sender | None = None
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class PutIfAbsent:
    """Keep `value` under `key`, if nothing is there; else the whole push or batch is tried again."""

    key: str
    value: JSON


@dataclass(frozen=True, slots=True)
class CompareAndSet:
    """Replace `expected` under `key` by `value` (None deletes), if it is still there; else tried again."""

    key: str
    expected: JSON
    value: JSON


@dataclass(frozen=True, slots=True)
class Put:
    """Keep `value` under `key`, whatever was there (None deletes)."""

    key: str
    value: JSON


Intent: TypeAlias = PutIfAbsent | CompareAndSet | Put


@dataclass(frozen=True, slots=True)
class Rejection:
    """An item that was refused: its index in what was handed in, the field, and why."""

    index: int
    field: str
    error: str


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of the reports of one push or batch, told after the commit.

    `accepted` counts positions kept (late ones too), `duplicates` those that were known, `late` those of the
    accepted that were older than the newest.
    """

    accepted: int = 0
    duplicates: int = 0
    late: int = 0
    rejected: list[Rejection] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a push means: reports, state changes committed with them, and the answer.

    `answer` is sent after the commit; a function of the outcome where the answer tells what became of it.
    `rejected` are items that the provider itself refused; they appear in the outcome.
    `indexes` are the reports' places in the sender's own list, where that differs from their order here.
    `instance_id` is the instance that the body names (only the native connection has more than one).
    """

    reports: Sequence[Report] = ()
    intents: Sequence[Intent] = ()
    answer: Answer | Callable[[Outcome], Answer] = Answer()
    rejected: Sequence[Rejection] = ()
    indexes: Sequence[int] | None = None
    instance_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Reports of a stream that belong together, with the state that is to be kept with them."""

    reports: Sequence[Report] = ()
    intents: Sequence[Intent] = ()


class State(Protocol):
    """A connection's own small persisted state: JSON values under text keys (at most 200 characters).

    What is kept about one source is kept under `anything/{external_id}` (with more behind, if need be): it is
    forgotten when the source's device is erased.
    """

    async def get(self, key: str) -> JSON: ...
    async def items(self, prefix: str = "") -> dict[str, JSON]: ...
    async def put(self, key: str, value: JSON) -> None:
        """Keep a value outside any report (None deletes)."""
        ...


class Clock(Protocol):
    """Time, so that tests own it."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


class Counter(Protocol):
    """Counts things of a connection that are worth a metric, e.g. `unknown_event`."""

    def __call__(self, name: str, amount: int = 1) -> None: ...


@dataclass(frozen=True, kw_only=True)
class ProviderContext:
    """What the gateway hands to a provider. `session` may be used for any address of the settings: it refuses
    private addresses where the settings came through the API, follows no redirects and reads no proxy from the
    environment. `callback_url` is where the vendor reaches this connection from outside
    (`{public_base_url}/ingest/{connection_id}`). `log` takes sentences with fields; secrets never.
    """

    instance_id: str
    connection_id: str
    session: aiohttp.ClientSession
    state: State
    clock: Clock
    count: Counter
    log: Any
    callback_url: str = ""

    def source(self, external_id: str) -> SourceKey:
        """The key of one of this connection's sources."""
        return SourceKey(self.connection_id, external_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSite:
    """Where a provider's demo fleet plays: the gateway, and streets to drive on (lists of [longitude, latitude])."""

    gateway_url: str
    connection_id: str
    token: str
    routes: Sequence[Sequence[Sequence[float]]]


class Demo(Protocol):
    """A provider's part of `waybridge demo`: its vendor's stand-in, and a small fleet that comes in through it.

    `sources` are the external ids that it will show, each with where it goes (or None).
    """

    sources: Sequence[tuple[str, Mapping[str, Any] | None]]

    async def start(self, site: DemoSite) -> Mapping[str, Any]:
        """Starts the stand-in; returns the settings of the connection to it. The gateway is not up yet."""
        ...

    async def drive(self) -> None:
        """Moves the fleet until it is cancelled. The gateway is up."""
        ...

    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What `ask` did: the request went out; `source` where the provider knows who will share."""

    source: SourceKey | None = None


class Provider(ABC, Generic[S]):
    """Brings reports in from one kind of outside system. One object serves one connection.

    `kind` is the provider's name in configurations. `__init__` does no I/O.
    """

    kind: ClassVar[str]
    Settings: ClassVar[type[ProviderSettings]] = ProviderSettings
    capabilities: ClassVar[Capabilities] = Capabilities()
    simulator: ClassVar[Any] = None
    demo: ClassVar[type[Demo] | None] = None

    def __init__(self, settings: S, context: ProviderContext) -> None:
        self.settings = settings
        self.context = context

    @abstractmethod
    async def check(self) -> None:
        """Prove the credentials. Raises CredentialsRejected or SourceUnavailable."""

    async def stream(self) -> AsyncIterator[Report | Batch]:
        """Reports for ever; ending normally means that there is nothing to stream (push only)."""
        return
        yield

    async def receive(self, push: Push) -> Receipt:
        """One inbound request. Pure but for reads of the state; run again when an intent conflicts."""
        from waybridge.errors import PushRejected  # noqa: PLC0415 - keeps this page free of the error tree

        raise PushRejected(404, reason=f"{self.kind} takes no pushes ({push.method})")

    async def ask(self, target: str) -> Asked:
        """Prompt a source (its external id, or what the vendor asks by: a chat) to share.

        Raises AskRefused (409), SourceUnavailable with `retry_after` (429) or without (502: never retried).
        """
        from waybridge.errors import AskRefused  # noqa: PLC0415

        raise AskRefused(f"sources of {self.kind} cannot be asked: {target}")

    async def behind(self, target: str) -> Sequence[SourceKey] | None:
        """The sources known behind what `ask` takes (the people of a chat), or None if it is not ours."""
        del target
        return None

    async def end_sharing(self, source: SourceKey) -> None:
        """Ends a source's sharing at its vendor: its last share session was cancelled. Nothing by default.

        Raises SourceUnavailable, which is logged; the vendor is not asked again.
        """
        del source

    async def profile(self, source: SourceKey) -> Profile | None:
        """The newest profile of a source at its vendor, or None where the vendor has none."""
        del source
        return None

    async def close(self) -> None:
        """Let go of everything; called once after the stream ended, harmless when called twice."""
