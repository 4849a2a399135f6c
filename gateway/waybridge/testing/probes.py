"""What the conformance checks ask with: run something, and look at what became of it."""

# ruff: noqa: S101 - these are tests that ship
from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeVar

import aiohttp
from pydantic import BaseModel, SecretStr

from waybridge.errors import CredentialsRejected, PushRejected, SourceUnavailable
from waybridge.model import Position
from waybridge.provider import Batch, Provider, Push
from waybridge.testing.workbench import Workbench

T = TypeVar("T")
UNAVAILABLE: Final = (SourceUnavailable, aiohttp.ClientError, TimeoutError, OSError)
SOON: Final = 1.0
_NOT_COMPARED: Final = {"external_id", "recorded_at"}


async def collect(bench: Workbench, made: Provider[Any], count: float) -> list[Position]:
    """The first positions of a stream, each batch committed; all of what it has, when it ends before."""
    found: list[Position] = []
    stream: Any = made.stream()
    async with aclosing(stream) as reports:
        async for each in reports:
            batch = each if isinstance(each, Batch) else Batch(reports=[each])
            bench.state.apply(batch.intents)
            bench.commit(batch.reports)
            found += [report for report in batch.reports if isinstance(report, Position)]
            if len(found) >= count:
                break
    return found


async def outcome(work: Awaitable[Any]) -> Any:
    """What became of something: its result, or the exception that it raised."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - which exception it is, is what is asked
        return error


async def within(seconds: float, work: Awaitable[T], what: str) -> T:
    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError:
        raise AssertionError(f"{what} took longer than {seconds:g} s") from None


async def cancelled(work: Coroutine[Any, Any, Any], what: str) -> None:
    """Starts something, lets it get going, cancels it; an error of its own before that is none of this check."""
    task = asyncio.create_task(work)
    await asyncio.wait([task], timeout=0.3)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=SOON)
    if not done:
        raise AssertionError(f"{what} did not end within a second of its cancellation")
    if task.cancelled():
        return
    error = task.exception()
    assert error is not None, f"{what} swallowed its cancellation"
    assert isinstance(error, (*UNAVAILABLE, CredentialsRejected)), f"{what} failed: {error!r}"


def agrees(position: Position, expected: Mapping[str, Any]) -> bool:
    for name, value in expected.items():
        if name in _NOT_COMPARED:
            continue
        held = getattr(position, name)
        if isinstance(value, float) and isinstance(held, (int, float)):
            if not math.isclose(held, value, rel_tol=1e-4, abs_tol=1e-6):
                return False
        elif held != value:
            return False
    return True


def altered(push: Push, *, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Push:
    return Push(
        method=push.method,
        path=push.path,
        segments=push.segments,
        query=push.query,
        headers=push.headers if headers is None else headers,
        body=push.body if body is None else body,
        received_at=push.received_at,
        sender=push.sender,
        frame=push.frame,
    )


def refused_or_answered(answer: Any, what: str) -> None:
    if isinstance(answer, BaseException):
        assert isinstance(answer, PushRejected), f"{what} must be PushRejected or answered, not {answer!r}"
        assert 400 <= answer.status < 500, f"{what} was refused with {answer.status}"


def no_secret(secrets: Sequence[str], text: str, where: str) -> None:
    for secret in secrets:
        assert secret not in text, f"a secret is in {where}"


def revealed(settings: Any) -> Any:
    """Settings as a configuration has them: a model becomes what was set of it, secrets the text that they hide."""
    if isinstance(settings, SecretStr):
        return settings.get_secret_value()
    if isinstance(settings, BaseModel):
        settings = {name: getattr(settings, name) for name in settings.model_fields_set}
    if isinstance(settings, Mapping):
        return {name: revealed(value) for name, value in settings.items()}
    return [revealed(value) for value in settings] if isinstance(settings, (list, tuple)) else settings


def secrets_of(model: BaseModel) -> list[str]:
    found = []
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, SecretStr):
            found.append(value.get_secret_value())
        elif isinstance(value, BaseModel):
            found += secrets_of(value)
    return [secret for secret in found if len(secret) >= 4]
