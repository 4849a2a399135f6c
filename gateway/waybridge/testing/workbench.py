"""A gateway in memory for one connection: what a provider is handed, and what becomes of what it returns."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from waybridge.egress import make_session
from waybridge.model import Position, Report, now_utc
from waybridge.provider import (
    JSON,
    Answer,
    CompareAndSet,
    Intent,
    Outcome,
    Provider,
    ProviderContext,
    ProviderSettings,
    Push,
    PutIfAbsent,
    Sender,
)

INSTANCE: Final = "acme"
CONNECTION: Final = "tested"
_TRIES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Something that the vendor sends, and the positions that it means.

    `body` is bytes as they are, a text in UTF-8, or anything else as JSON. `positions` name what is expected of
    each position, in order: `external_id` and any field of `waybridge.Position`.
    """

    body: Any = b""
    path: str = ""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    positions: Sequence[Mapping[str, Any]] = ()

    @property
    def raw(self) -> bytes:
        match self.body:
            case bytes():
                return self.body
            case str():
                return self.body.encode()
            case _:
                return json.dumps(self.body).encode()

    def push(self, received_at: datetime, *, body: bytes | None = None, path: str | None = None) -> Push:
        """The request as a provider gets it."""
        path = self.path if path is None else path
        return Push(
            method=self.method,
            path=path,
            segments=tuple(path.split("/")) if path else (),
            query=dict(self.query),
            headers={"content-type": "application/json"} | {name.lower(): text for name, text in self.headers.items()},
            body=self.raw if body is None else body,
            received_at=received_at,
            sender=Sender(subject="conformance", instances=frozenset({INSTANCE})),
        )


class StateConflict(Exception):
    """An intent did not hold; the push is read again."""


class MemoryState:
    """Keyed state that keeps JSON as the databases do: in no order, and without anything that is no JSON."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    async def get(self, key: str) -> JSON:
        await asyncio.sleep(0)
        return json.loads(self.texts[key]) if key in self.texts else None

    async def items(self, prefix: str = "") -> dict[str, JSON]:
        await asyncio.sleep(0)
        return {key: json.loads(text) for key, text in sorted(self.texts.items()) if key.startswith(prefix)}

    async def put(self, key: str, value: JSON) -> None:
        await asyncio.sleep(0)
        self._write(key, value)

    def apply(self, intents: Sequence[Intent]) -> None:
        """All or nothing. Raises StateConflict."""
        for intent in intents:
            held = self.texts.get(intent.key)
            match intent:
                case PutIfAbsent() if held is not None:
                    raise StateConflict(intent.key)
                case CompareAndSet() if held != (None if intent.expected is None else _canonical(intent.expected)):
                    raise StateConflict(intent.key)
        for intent in intents:
            self._write(intent.key, intent.value)

    def _write(self, key: str, value: JSON) -> None:
        if not 0 < len(key) <= 200:
            raise ValueError(f"a state key has 1 to 200 characters: {key!r}")
        if value is None:
            self.texts.pop(key, None)
        else:
            self.texts[key] = _canonical(value)


class WallClock:
    """The machine's own time."""

    def now(self) -> datetime:
        return now_utc()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class RecordingLog(logging.Handler):
    """Everything that was logged, by the context's log or by the standard library's."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {record.exc_info!r}")

    def bind(self, **fields: Any) -> RecordingLog:
        self.lines.append(repr(fields))
        return self

    def __getattr__(self, level: str) -> Callable[..., None]:
        if level not in {"debug", "info", "warning", "error", "critical", "exception", "msg"}:
            raise AttributeError(level)
        return lambda text, *args, **fields: self.lines.append(f"{text} {args!r} {fields!r}")


class Workbench:
    """One connection. `reports` are all that were committed, `positions` the last of each source and time."""

    def __init__(self) -> None:
        self.state = MemoryState()
        self.clock = WallClock()
        self.log = RecordingLog()
        self.counts: Counter[str] = Counter()
        self.reports: list[Report] = []
        self.positions: dict[tuple[Any, datetime], Position] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = make_session(guarded=False)
        logging.getLogger().addHandler(self.log)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger().removeHandler(self.log)
        if self._session is not None:
            await self._session.close()

    def context(self) -> ProviderContext:
        """What a provider is made with."""
        if self._session is None:
            raise RuntimeError("use `async with`")
        return ProviderContext(
            instance_id=INSTANCE,
            connection_id=CONNECTION,
            session=self._session,
            state=self.state,
            clock=self.clock,
            count=self._count,
            log=self.log,
            callback_url=f"https://gateway.example/ingest/{CONNECTION}",
        )

    def make(self, kind: type[Provider[Any]], settings: Mapping[str, Any]) -> Provider[Any]:
        """A provider of the connection."""
        made: ProviderSettings = kind.Settings.model_validate(dict(settings))
        return kind(made, self.context())

    async def push(self, provider: Provider[Any], push: Push) -> Answer:
        """Hands a push in, commits what it means, and answers. Raises what the provider raises."""
        for _ in range(_TRIES):
            receipt = await provider.receive(push)
            try:
                self.state.apply(receipt.intents)
            except StateConflict:
                continue
            outcome = self.commit(receipt.reports)
            outcome.rejected = list(receipt.rejected)
            return receipt.answer if isinstance(receipt.answer, Answer) else receipt.answer(outcome)
        raise AssertionError("a push that conflicts with itself: its intents never hold")

    def commit(self, reports: Sequence[Report]) -> Outcome:
        """Keeps reports as the gateway would: a source has one position a moment."""
        outcome = Outcome()
        for report in reports:
            self.reports.append(report)
            if isinstance(report, Position):
                key = (report.source, report.recorded_at)
                known = key in self.positions
                outcome.duplicates += known
                outcome.accepted += not known
                self.positions.setdefault(key, report)
        return outcome

    def _count(self, name: str, amount: int = 1) -> None:
        self.counts[name] += amount


def _canonical(value: JSON) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
