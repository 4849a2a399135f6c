"""A gateway of one connection, small enough to read: keyed state with conflicts, a clock that tests own, a door."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import aiohttp
from aiohttp import web

from waybridge import (
    Batch,
    CompareAndSet,
    Position,
    ProviderContext,
    Push,
    PushRejected,
    PutIfAbsent,
    SharingStarted,
    SharingStopped,
)
from waybridge_imessage import IMessage
from waybridge_imessage.simulator import LinqSimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

START = datetime(2026, 4, 12, 13, 20, tzinfo=UTC)


def soak(small: int, long: int) -> int:
    """The count of a long test: small in `make test`, long in `make soak`."""
    return long if os.environ.get("SOAK_TESTS") == "1" else small


class Conflict(Exception):
    """An intent did not hold."""


class OwnClock:
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return 1000.0 + self.elapsed

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (self.elapsed + seconds, future)
        self.sleepers.append(entry)
        try:
            await future
        finally:
            if entry in self.sleepers:
                self.sleepers.remove(entry)

    def advance(self, seconds: float) -> None:
        self.elapsed += seconds
        for entry in [one for one in self.sleepers if one[0] <= self.elapsed]:
            self.sleepers.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)


class KeyedState:
    """Values go through JSON, as they do in a database."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    async def get(self, key: str) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else None

    async def items(self, prefix: str = "") -> dict[str, Any]:
        return {k: json.loads(v) for k, v in self.kept.items() if k.startswith(prefix)}

    async def put(self, key: str, value: Any) -> None:
        assert 0 < len(key) <= 200
        if value is None:
            self.kept.pop(key, None)
        else:
            self.kept[key] = json.dumps(value)

    async def commit(self, intents: Sequence[Any]) -> None:
        for intent in intents:
            now = await self.get(intent.key)
            taken = isinstance(intent, PutIfAbsent) and now is not None
            if taken or (isinstance(intent, CompareAndSet) and now != intent.expected):
                raise Conflict(intent.key)
        for intent in intents:
            await self.put(intent.key, intent.value)


class Log:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def _say(self, sentence: str, **fields: Any) -> None:
        self.lines.append(f"{sentence} {fields}")

    debug = info = warning = error = exception = _say


class Gateway:
    """Runs one connection's stream and serves its door at `/ingest/imessage/...` on a real socket."""

    def __init__(self, session: aiohttp.ClientSession, clock: OwnClock, state: KeyedState | None = None) -> None:
        self.session = session
        self.clock = clock
        self.state = state or KeyedState()
        self.counts: Counter[str] = Counter()
        self.log = Log()
        self.reports: list[Any] = []
        self.conflicts = 0
        self.stream_error: BaseException | None = None
        self.url = ""
        self.provider: IMessage | None = None
        self._task: asyncio.Task[None] | None = None

    def connect(self, **settings: Any) -> IMessage:
        context = ProviderContext(
            instance_id="acme",
            connection_id="imessage",
            session=self.session,
            state=self.state,
            clock=self.clock,
            count=lambda name, amount=1: self.counts.update({name: amount}),
            log=self.log,
            callback_url=self.url,
        )
        self.provider = IMessage(IMessage.Settings(**settings), context)
        return self.provider

    @property
    def shown(self) -> IMessage:
        assert self.provider is not None
        return self.provider

    async def push(self, push: Push) -> Any:
        """One inbound request, run again on conflicts, as the gateway does; answers (status, body)."""
        for _ in range(10):
            try:
                receipt = await self.shown.receive(push)
            except PushRejected as refused:
                return refused.status, refused.body
            try:
                await self.state.commit(receipt.intents)
            except Conflict:
                self.conflicts += 1
                continue
            self.reports += receipt.reports
            return receipt.answer.status, receipt.answer.body
        raise AssertionError("the push never settled")

    def start(self) -> None:
        self.stream_error = None
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async for item in self.shown.stream():
                batch = item if isinstance(item, Batch) else Batch(reports=[item])
                try:
                    await self.state.commit(batch.intents)
                except Conflict:
                    self.conflicts += 1
                    continue
                self.reports += batch.reports
        except Exception as error:  # noqa: BLE001 - handed to the test
            self.stream_error = error

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def quiet(self) -> None:
        """Until the stream has done all there is to do at this moment (or has failed)."""
        await self.until(lambda: self.stream_error is not None or self._idle())

    def _idle(self) -> bool:
        """The loop sleeps, and so does each read that is under way (it waits for its next try)."""
        poller = self.shown._poller
        return not poller._nudged.is_set() and len(self.clock.sleepers) > len(poller._reads)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0)

    async def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Lets time pass in steps, the stream doing its work in each."""
        left = seconds
        while left > 0:
            self.clock.advance(min(step, left))
            left -= step
            await self.quiet()

    def of(self, kind: type) -> list[Any]:
        return [report for report in self.reports if isinstance(report, kind)]

    @property
    def positions(self) -> list[Position]:
        return self.of(Position)

    @property
    def started(self) -> list[SharingStarted]:
        return self.of(SharingStarted)

    @property
    def stopped(self) -> list[SharingStopped]:
        return self.of(SharingStopped)


async def _serve(gateway: Gateway, request: web.Request) -> web.Response:
    path = request.raw_path.partition("?")[0].removeprefix("/ingest/imessage/")
    status, body = await gateway.push(
        Push(
            method=request.method,
            path=unquote(path),
            segments=[unquote(part) for part in path.split("/")],
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
            received_at=gateway.clock.now(),
        )
    )
    return web.Response(status=status, body=body)


@asynccontextmanager
async def gateway(clock: OwnClock, state: KeyedState | None = None) -> AsyncIterator[Gateway]:
    """A gateway with an open door; closes everything."""
    async with aiohttp.ClientSession() as session:
        made = Gateway(session, clock, state)

        async def serve(request: web.Request) -> web.Response:
            return await _serve(made, request)

        app = web.Application()
        app.router.add_route("*", "/ingest/imessage/{tail:.*}", serve)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/ingest/imessage"
        try:
            yield made
        finally:
            await made.stop()
            if made.provider is not None:
                await made.provider.close()
            await runner.cleanup()


@asynccontextmanager
async def vendor(clock: OwnClock, **options: Any) -> AsyncIterator[LinqSimulator]:
    async with LinqSimulator(clock=clock.now, retry_delays=(), **options) as linq:
        yield linq
