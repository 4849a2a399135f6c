"""One connection at work: its provider object, the task that streams, its state, its retries."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import aiohttp
import structlog
from pydantic import BaseModel, SecretStr

from waybridge import metrics
from waybridge.errors import CredentialsRejected, SourceUnavailable, StoreUnavailable
from waybridge.intake import Intake
from waybridge.model import Report, now_utc
from waybridge.provider import JSON, Batch, Provider, ProviderContext, ProviderSettings
from waybridge.roster import Policy
from waybridge.store.engine import Store
from waybridge.store.state import StateConflict, put_state, state_items, state_value
from waybridge.vault import Vault
from waybridge.watch import Verdict, Watch, quiet_seconds

STATES = ("starting", "running", "idle", "retrying", "rejected", "failed", "stopped")
LONGEST_WAIT = 60.0
HEALTHY_AFTER = 60.0
CLOSE_SECONDS = 5.0


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        return now_utc()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class KeyedState:
    """A connection's keyed state in the database."""

    def __init__(self, store: Store, vault: Vault, instance_id: str, connection_id: str) -> None:
        self._store = store
        self._vault = vault
        self._instance_id = instance_id
        self._connection_id = connection_id

    async def get(self, key: str) -> JSON:
        async with self._store.read() as conn:
            return await state_value(conn, self._vault, self._instance_id, self._connection_id, key)

    async def items(self, prefix: str = "") -> dict[str, JSON]:
        async with self._store.read() as conn:
            return await state_items(conn, self._vault, self._instance_id, self._connection_id, prefix)

    async def put(self, key: str, value: JSON) -> None:
        await self._store.write(
            lambda tx: put_state(tx, self._vault, self._instance_id, self._connection_id, key, value)
        )


class Runtime:
    """A connection's provider at work. `changed` is told when the state changes."""

    def __init__(
        self,
        *,
        row_id: int,
        policy: Policy,
        generation: int,
        provider: Provider[Any],
        settings: ProviderSettings,
        intake: Intake,
        changed: Callable[[Runtime], Awaitable[None]],
        session: aiohttp.ClientSession,
    ) -> None:
        self.row_id = row_id
        self.policy = policy
        self.generation = generation
        self.provider = provider
        self.settings = settings
        self.session = session
        self.state = "starting"
        self.since_us = 0
        self.last_error: str | None = None
        self.stored_position_us = 0
        self.told_down = False
        self._intake = intake
        self._changed = changed
        self._secrets = secrets_of(settings)
        self._task: asyncio.Task[None] | None = None
        stale_after = policy.stale_after_us / 1e6
        self.watch = Watch(stale_after, quiet_seconds(stale_after, provider.capabilities.expected_interval))
        self._log = structlog.get_logger("waybridge.connection").bind(
            connection=policy.connection_id, instance=policy.instance_id, provider=policy.provider
        )

    @property
    def runs_here(self) -> bool:
        """This node streams the connection, or did until it was refused or had no more: what it knows of it counts."""
        return self._task is not None

    def start(self) -> None:
        """Begins to stream; harmless while it streams, and where it was refused for good."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"connection {self.policy.connection_id}")

    async def halt(self) -> None:
        """Stops streaming, but goes on receiving (another node streams now)."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=CLOSE_SECONDS)

    async def close(self) -> None:
        """Stops for good."""
        await self.halt()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.provider.close()
        except Exception as error:  # noqa: BLE001 - a provider's bug at its end must not keep the others
            self._log.error("A provider failed to close", error=self.redacted(error))
        await self.session.close()
        self._metric("stopped")

    async def check(self) -> tuple[bool, str]:
        """Whether the vendor accepts the credentials, and what it said."""
        try:
            async with asyncio.timeout(20):
                await self.provider.check()
        except (CredentialsRejected, SourceUnavailable) as error:
            return False, self.redacted(error)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return False, self.redacted(error)
        except Exception as error:  # noqa: BLE001 - a stranger's code
            self._log.exception("A provider failed in its check", error=self.redacted(error))
            return False, f"the provider failed: {type(error).__name__}"
        return True, "the vendor accepts the credentials"

    def redacted(self, error: BaseException) -> str:
        """An error in a line, without any of the connection's secrets."""
        text = " ".join(str(error).split()) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text[:300]

    # -- the task

    async def _run(self) -> None:
        attempt = 0
        checked = False
        while True:
            began = time.monotonic()
            wait: float | None = None
            try:
                if not checked:
                    await self._set("starting")
                    await self.provider.check()
                    checked = True
                    await self._set("running")
                while verdict := await self._stream():
                    self._log.warning("The stream brings nothing new; opened anew", reason=verdict)
                    self._count(verdict)
                await self._set("idle")
                return
            except CredentialsRejected as error:
                self._log.error("The vendor refuses the credentials; not tried again", error=self.redacted(error))
                await self._set("rejected", error)
                return
            except StateConflict:
                self._count("state_conflict")
            except StoreUnavailable as error:
                await self._set("retrying", error)
            except (SourceUnavailable, aiohttp.ClientError, TimeoutError, OSError) as error:
                wait = getattr(error, "retry_after", None)
                await self._down("retrying", error)
            except Exception as error:  # noqa: BLE001 - the provider's bug: said, retried, siblings live on
                self._log.exception("The provider has a bug", error=self.redacted(error))
                await self._down("failed", error)
            attempt = 0 if time.monotonic() - began >= HEALTHY_AFTER else attempt + 1
            jitter = random.uniform(0.5, min(LONGEST_WAIT, 2.0 ** min(attempt, 6)))  # noqa: S311
            await asyncio.sleep(max(jitter, min(wait or 0.0, 3600.0)))

    async def _stream(self) -> Verdict | None:
        """Streams until the provider has no more (None), or until the watchdog wants the stream opened anew."""
        loop = asyncio.get_running_loop()
        verdict: Verdict | None = None
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal verdict, timer
            delay = self.watch.delay()
            if delay is not None:
                metrics.POSITION_DELAY.labels(self.policy.instance_id, self.policy.connection_id).set(delay)
            verdict = self.watch.verdict(loop.time())
            if verdict is not None:
                limit.reschedule(loop.time())
            else:
                timer = loop.call_later(self.watch.quiet_after / 10, look)

        healthy = loop.call_later(5.0, self._alive)
        timer = loop.call_later(self.watch.quiet_after / 10, look)
        try:
            async with asyncio.timeout(None) as limit:
                await self._follow(self.provider.stream())
        except TimeoutError:
            if not limit.expired():
                raise
        finally:
            healthy.cancel()
            timer.cancel()
        return verdict

    async def _follow(self, stream: AsyncIterator[Report | Batch]) -> None:
        async with contextlib.aclosing(stream) as reports:  # type: ignore[type-var]
            async for each in reports:
                if self.state != "running":
                    await self._set("running")
                if isinstance(each, Batch):
                    self.watch.seen(each.reports, asyncio.get_running_loop().time(), time.time_ns() // 1000)
                    await self._intake.accept(self.policy, each.reports, intents=each.intents)
                else:
                    self.watch.seen((each,), asyncio.get_running_loop().time(), time.time_ns() // 1000)
                    await self._intake.accept(self.policy, [each])

    def _alive(self) -> None:
        """Five seconds without an error count as running, although no vehicle moved."""
        if self.state == "retrying":
            self._recovering = asyncio.create_task(self._set("running"), name="connection recovered")

    async def _down(self, state: str, error: BaseException) -> None:
        if self.state not in ("retrying", "failed"):
            self._log.warning("The connection is down; trying again", error=self.redacted(error))
        self._count("reconnect")
        await self._set(state, error)

    async def _set(self, state: str, error: BaseException | None = None) -> None:
        before = self.state
        if state == "running" and before in ("retrying", "failed"):
            self._log.info("The connection is back")
        if error is not None or state == "running":
            self.last_error = self.redacted(error) if error is not None else None
        if state != before or error is not None:
            if state != before:
                self.since_us = time.time_ns() // 1000
            self.state = state
            self._metric(state)
            await self._changed(self)

    def _metric(self, state: str) -> None:
        for each in STATES:
            metrics.CONNECTION_STATE.labels(self.policy.instance_id, self.policy.connection_id, each).set(each == state)

    def _count(self, event: str, amount: int = 1) -> None:
        metrics.CONNECTION_EVENTS.labels(self.policy.instance_id, self.policy.connection_id, event).inc(amount)


def context_of(
    *,
    policy: Policy,
    session: aiohttp.ClientSession,
    store: Store,
    vault: Vault,
    callback_url: str,
) -> ProviderContext:
    """What a connection's provider is handed."""

    def count(name: str, amount: int = 1) -> None:
        metrics.CONNECTION_EVENTS.labels(policy.instance_id, policy.connection_id, name).inc(amount)

    return ProviderContext(
        instance_id=policy.instance_id,
        connection_id=policy.connection_id,
        session=session,
        state=KeyedState(store, vault, policy.instance_id, policy.connection_id),
        clock=SystemClock(),
        count=count,
        log=structlog.get_logger(f"waybridge_{policy.provider}").bind(connection=policy.connection_id),
        callback_url=callback_url,
    )


def secrets_of(model: BaseModel) -> list[str]:
    """The secret values in a model, longest first."""
    found: list[str] = []

    def walk(value: object) -> None:
        if isinstance(value, SecretStr):
            found.append(value.get_secret_value())
        elif isinstance(value, BaseModel):
            for name in type(value).model_fields:
                walk(getattr(value, name))
        elif isinstance(value, Mapping):
            for each in value.values():
                walk(each)
        elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            for each in value:
                walk(each)

    walk(model)
    return sorted({secret for secret in found if len(secret) >= 4}, key=len, reverse=True)


def shown_settings(model: BaseModel) -> dict[str, Any]:
    """A connection's settings as the API shows them: secrets as ***."""

    def show(value: Any) -> Any:
        match value:
            case SecretStr():
                return "***" if value.get_secret_value() else ""
            case BaseModel():
                return {name: show(getattr(value, name)) for name in type(value).model_fields}
            case Mapping():
                return {key: show(each) for key, each in value.items()}
            case list() | tuple() | set() | frozenset():
                return [show(each) for each in value]
            case _:
                return value

    return {name: show(getattr(model, name)) for name in type(model).model_fields}
