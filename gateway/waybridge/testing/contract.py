"""The conformance class: what every provider must hold to, checked from outside.

Each check is one sentence; those that cannot apply to a provider are not there to be run (nothing is skipped).
They need no plugin of pytest: each runs its own event loop.
"""

# ruff: noqa: S101 - these are tests that ship
from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, ClassVar, Final

import pytest
from pydantic import ValidationError

from waybridge.errors import CredentialsRejected, PushRejected, SourceUnavailable
from waybridge.model import Position
from waybridge.provider import Capabilities, Provider, Push
from waybridge.testing.probes import (
    SOON,
    UNAVAILABLE,
    agrees,
    altered,
    cancelled,
    collect,
    no_secret,
    outcome,
    refused_or_answered,
    revealed,
    secrets_of,
    within,
)
from waybridge.testing.vendor import HUGE, RETRY_AFTER, Fault, HostileVendor, filled
from waybridge.testing.workbench import CONNECTION, Example, Workbench

_LONG: Final = 15.0
_SWALLOWED: Final = 24 * 1_048_576
_MANY_REQUESTS: Final = 3


class ProviderContract:
    """Subclass it as `Test...`, give it your provider, and pytest runs it.

    provider: the class under test.
    settings: a valid mapping, or settings object, with values for every secret that a test may hold (4 characters up).
    hostile: settings that lead to a vendor's address, with `{vendor}` in its place; the contract puts a vendor
      there that refuses, limits, cuts answers short, floods, or never answers. Without it these checks are not run.
    stand_in: an async context manager of a well-behaved vendor that yields the settings to reach it (`{}` is fine).
      Needed by providers that stream positions.
    streamed: what the first positions of the stand-in must be: `external_id` and any field of a Position.
    examples: what the vendor pushes, with the positions meant. `prepare` are pushed before, and keep their order.
    any_order: whether examples mean the same in any order; False where the vendor's own rules order them.
    """

    provider: ClassVar[type[Provider[Any]]]
    settings: ClassVar[Mapping[str, Any]] = {}
    hostile: ClassVar[Mapping[str, str]] = {}
    streamed: ClassVar[Sequence[Mapping[str, Any]]] = ()
    prepare: ClassVar[Sequence[Example]] = ()
    examples: ClassVar[Sequence[Example]] = ()
    any_order: ClassVar[bool] = True

    def stand_in(self) -> AbstractAsyncContextManager[Mapping[str, Any]]:
        """The well-behaved vendor; nobody, unless a subclass has one."""
        return _nobody()

    def sign(self, push: Push, settings: Mapping[str, Any]) -> Push:
        """Makes a push authentic, where the provider itself verifies its sender."""
        del settings
        return push

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.settings = revealed(cls.settings)
        kind = getattr(cls, "provider", None)
        if kind is not None:
            for name in _inapplicable(cls, kind.capabilities):
                setattr(cls, name, None)  # pytest collects functions only

    def test_it_says_what_it_is(self) -> None:
        kind, can = self.provider.kind, self.provider.capabilities
        assert re.fullmatch(r"[a-z][a-z0-9_]{0,63}", kind), f"kind {kind!r} must be lower-case letters, digits, _"
        assert isinstance(can, Capabilities), "capabilities must be a Capabilities"
        assert can.stale_after > 0, "stale_after must be positive"
        assert can.expected_interval > 0, "expected_interval must be positive"
        assert can.max_body <= HUGE, "max_body must be 10 MiB at most"

    def test_unknown_settings_are_refused_by_name(self) -> None:
        with pytest.raises(ValidationError, match="no_such_setting"):
            self.provider.Settings.model_validate({**self._valid(), "no_such_setting": 1})

    def test_secrets_are_in_no_repr(self) -> None:
        async def check(bench: Workbench) -> None:
            made = bench.make(self.provider, self._valid())
            shown = " ".join([repr(made), str(made), repr(made.settings), str(made.settings), repr(vars(made))])
            no_secret(self._secrets(), shown, "a repr")

        self._run(check)

    # -- its life

    def test_closing_twice_is_harmless(self) -> None:
        async def check(bench: Workbench) -> None:
            made = bench.make(self.provider, self._valid())
            await within(_LONG, made.close(), "close")
            await within(_LONG, made.close(), "close, called again,")

        self._run(check)

    def test_without_streaming_the_stream_ends_by_itself(self) -> None:
        async def check(bench: Workbench) -> None:
            made = bench.make(self.provider, self._valid())
            found = await within(SOON, collect(bench, made, math.inf), "a stream of a provider that does not stream")
            assert not found, "a provider that does not stream brought reports"

        self._run(check)

    def test_a_cancelled_stream_ends_within_a_second(self) -> None:
        async def check(bench: Workbench) -> None:
            async with self.stand_in() as reach:
                made = bench.make(self.provider, {**self._valid(), **reach})
                await cancelled(collect(bench, made, math.inf), "the stream")
                await within(SOON, made.close(), "close after the stream")

        self._run(check)

    # -- a vendor that misbehaves

    def test_refused_credentials_are_said_so(self) -> None:
        async def check(bench: Workbench, vendor: HostileVendor) -> None:
            error = await self._failure(bench, vendor)
            assert isinstance(error, CredentialsRejected), f"a 401 must be CredentialsRejected, not {error!r}"

        self._against("refused", check)

    def test_a_limit_is_passed_on_with_the_time_the_vendor_asked_for(self) -> None:
        async def check(bench: Workbench, vendor: HostileVendor) -> None:
            error = await self._failure(bench, vendor)
            assert isinstance(error, SourceUnavailable), f"a 429 must be SourceUnavailable, not {error!r}"
            assert error.retry_after is not None, "Retry-After must be passed on as retry_after"
            assert abs(error.retry_after - RETRY_AFTER) <= 1, f"retry_after is {error.retry_after}"

        self._against("limited", check)

    def test_a_limit_without_a_time_is_waited_out_by_the_gateway(self) -> None:
        async def check(bench: Workbench, vendor: HostileVendor) -> None:
            error = await self._failure(bench, vendor)
            assert isinstance(error, UNAVAILABLE), f"a 429 must be SourceUnavailable, not {error!r}"
            assert len(vendor.requests) <= _MANY_REQUESTS, f"{len(vendor.requests)} requests against a limit"

        self._against("limited_silently", check)

    def test_a_truncated_answer_is_unavailability(self) -> None:
        async def check(bench: Workbench, vendor: HostileVendor) -> None:
            error = await self._failure(bench, vendor)
            assert isinstance(error, UNAVAILABLE), f"truncated JSON must be SourceUnavailable, not {error!r}"

        self._against("truncated", check)

    def test_an_answer_of_tens_of_megabytes_is_not_swallowed(self) -> None:
        async def check(bench: Workbench, vendor: HostileVendor) -> None:
            error = await self._failure(bench, vendor)
            assert isinstance(error, UNAVAILABLE), f"a flood must be SourceUnavailable, not {error!r}"
            assert vendor.sent < _SWALLOWED, f"{vendor.sent} bytes of one answer were read"

        self._against("huge", check)

    def test_a_vendor_that_never_answers_can_be_left_within_a_second(self) -> None:
        async def check(bench: Workbench, vendor: HostileVendor) -> None:
            made = bench.make(self.provider, self._reaching(vendor))
            await cancelled(made.check(), "check")
            await within(SOON, made.close(), "close after a cancelled check")

        self._against("mute", check)

    def test_secrets_are_in_no_log_and_no_error(self) -> None:
        async def check(bench: Workbench) -> None:
            said = []
            for fault in ("refused", "limited", "truncated") if self.hostile else ():
                async with HostileVendor(fault) as vendor:
                    said.append(repr(await self._failure(bench, vendor)))
            made = bench.make(self.provider, self._valid())
            for example in (*self.prepare, *self.examples):
                push = self._push(bench, example)
                for sent in (push, altered(push, body=push.body[: len(push.body) // 2])):
                    answer = await outcome(bench.push(made, sent))
                    said.append(repr(answer))
            no_secret(self._secrets(), "\n".join([*bench.log.lines, *said]), "a log line or an error")

        self._run(check)

    # -- what it brings

    def test_positions_are_in_si_units(self) -> None:
        async def check(bench: Workbench) -> None:
            wanted = [*self.streamed, *(each for example in self.examples for each in example.positions)]
            found = await self._positions(bench)
            for each in wanted:
                same = [one for one in found if one.source.external_id == str(each["external_id"])]
                assert same, f"there is no position of {each['external_id']!r}"
                assert any(agrees(one, each) for one in same), f"no position is {dict(each)!r}: {same!r}"

        self._run(check)

    def test_times_are_aware_and_in_utc(self) -> None:
        async def check(bench: Workbench) -> None:
            found = await self._positions(bench)
            for position in found:
                offset = position.recorded_at.utcoffset()
                assert offset == timedelta(0), f"recorded_at must be aware and in UTC: {position.recorded_at!r}"
            for each in (each for example in self.examples for each in example.positions if "recorded_at" in each):
                times = [one.recorded_at for one in found if one.source.external_id == str(each["external_id"])]
                assert each["recorded_at"] in times, f"no position is of {each['recorded_at']}: {times}"

        self._run(check)

    def test_sources_are_of_the_connection(self) -> None:
        async def check(bench: Workbench) -> None:
            for position in await self._positions(bench):
                assert position.source.connection_id == CONNECTION, "make sources by `context.source(external_id)`"
                assert position.source.external_id, "external_id must not be empty"

        self._run(check)

    def test_what_is_brought_twice_is_the_same_twice(self) -> None:
        async def check(bench: Workbench) -> None:
            before = {(one.source, one.recorded_at) for one in await self._positions(bench)}
            await asyncio.sleep(0.01)
            after = {(one.source, one.recorded_at) for one in await self._positions(bench, streaming=False)}
            assert after <= before, f"sent again, it became other positions: {after - before}"

        self._run(check)

    def test_the_order_of_pushes_makes_no_other_positions(self) -> None:
        async def check(bench: Workbench) -> None:
            keys = []
            for examples in (self.examples, tuple(reversed(self.examples))):
                async with Workbench() as other:
                    found = await self._pushed(other, examples)
                keys.append({(one.source, one.recorded_at) for one in found})
            assert keys[0] == keys[1], f"the order of pushes decides what they mean: {keys[0] ^ keys[1]}"
            del bench

        self._run(check)

    # -- pushes

    def test_reading_a_push_changes_nothing_before_the_commit(self) -> None:
        async def check(bench: Workbench) -> None:
            made = bench.make(self.provider, self._valid())
            for example in (*self.prepare, *self.examples):
                push = self._push(bench, example)
                kept = dict(bench.state.texts)
                first = await made.receive(push)
                assert bench.state.texts == kept, "receive wrote state by itself; return intents"
                again = await made.receive(push)
                same = (list(first.reports), list(first.intents)) == (list(again.reports), list(again.intents))
                assert same, "receive is run again on a conflict and must say the same again"
                await bench.push(made, push)

        self._run(check)

    def test_a_forged_push_is_refused(self) -> None:
        async def check(bench: Workbench) -> None:
            made = bench.make(self.provider, self._valid())
            for example in self.examples:
                forged = altered(self._push(bench, example), headers={"content-type": "application/json"})
                answer = await outcome(bench.push(made, forged))
                refused = isinstance(answer, PushRejected) and answer.status in {401, 403}
                assert refused, f"a push without its proof must be PushRejected(401), not {answer!r}"
            assert not bench.reports, "a forged push brought reports"

        self._run(check)

    def test_a_truncated_push_is_refused_or_ignored(self) -> None:
        async def check(bench: Workbench) -> None:
            made = bench.make(self.provider, self._valid())
            for example in self.prepare:
                await bench.push(made, self._push(bench, example))
            kept = len(bench.reports)
            for example in self.examples:
                raw = example.raw
                for body in {raw[: len(raw) // 2], raw[:-1], raw[:1]} if raw else ():
                    answer = await outcome(bench.push(made, self._push(bench, example, body=body)))
                    refused_or_answered(answer, "a truncated push")
            assert len(bench.reports) == kept, "a truncated push brought reports"

        self._run(check)

    def test_a_push_of_ten_megabytes_is_refused_or_ignored(self) -> None:
        async def check(bench: Workbench) -> None:
            made = bench.make(self.provider, self._valid())
            for example in self.examples:
                for body in (b"[" * HUGE, b'{"' + b"x" * HUGE + b'": 1}'):
                    sent = self._push(bench, example, body=body)
                    answer = await within(_LONG, outcome(bench.push(made, sent)), "a push of 10 MB")
                    refused_or_answered(answer, "a push of 10 MB")
            assert not bench.positions, "a push of 10 MB brought positions"

        self._run(check)

    def test_a_push_to_an_unknown_address_is_refused(self) -> None:
        async def check(bench: Workbench) -> None:
            made = bench.make(self.provider, self._valid())
            for example in self.examples[:1]:
                push = example.push(bench.clock.now(), path="no/such/address/anywhere")
                answer = await outcome(bench.push(made, self.sign(push, self._valid())))
                refused = isinstance(answer, PushRejected) and 400 <= answer.status < 500
                assert refused, f"an unknown address must be PushRejected, not {answer!r}"

        self._run(check)

    # -- how it is done

    def _run(self, check: Callable[[Workbench], Awaitable[None]]) -> None:
        async def run() -> None:
            async with Workbench() as bench:
                await check(bench)

        asyncio.run(run())

    def _against(self, fault: Fault, check: Callable[[Workbench, HostileVendor], Awaitable[None]]) -> None:
        async def run(bench: Workbench) -> None:
            async with HostileVendor(fault) as vendor:
                await check(bench, vendor)

        self._run(run)

    def _valid(self) -> dict[str, Any]:
        """The settings, with nobody at the vendor's address."""
        return {**self.settings, **filled(dict(self.hostile), "http://127.0.0.1:9")}

    def _reaching(self, vendor: HostileVendor) -> dict[str, Any]:
        return {**self.settings, **filled(dict(self.hostile), vendor.url)}

    def _secrets(self) -> list[str]:
        return secrets_of(self.provider.Settings.model_validate(self._valid()))

    def _push(self, bench: Workbench, example: Example, body: bytes | None = None) -> Push:
        return self.sign(example.push(bench.clock.now(), body=body), self._valid())

    async def _failure(self, bench: Workbench, vendor: HostileVendor) -> BaseException | Any:
        """What check says of the vendor."""
        made = bench.make(self.provider, self._reaching(vendor))
        try:
            return await within(_LONG, outcome(made.check()), "check")
        finally:
            await made.close()

    async def _positions(self, bench: Workbench, *, streaming: bool = True) -> list[Position]:
        found = await self._pushed(bench, self.examples)
        if streaming and self.streamed:
            async with self.stand_in() as reach, Workbench() as other:  # what was pushed is not its business
                made = other.make(self.provider, {**self._valid(), **reach})
                found += await within(_LONG, collect(other, made, len(self.streamed)), "the stand-in's first positions")
                await made.close()
        return found

    async def _pushed(self, bench: Workbench, examples: Sequence[Example]) -> list[Position]:
        made = bench.make(self.provider, self._valid())
        known = len(bench.reports)
        for example in (*self.prepare, *examples):
            await bench.push(made, self._push(bench, example))
        await made.close()
        return [each for each in bench.reports[known:] if isinstance(each, Position)]


@asynccontextmanager
async def _nobody() -> AsyncIterator[Mapping[str, Any]]:
    yield {}


def _inapplicable(cls: type[ProviderContract], can: Capabilities) -> set[str]:
    """The checks that mean nothing for a provider."""
    pushes = {
        "test_reading_a_push_changes_nothing_before_the_commit", "test_a_truncated_push_is_refused_or_ignored",
        "test_a_push_of_ten_megabytes_is_refused_or_ignored", "test_a_push_to_an_unknown_address_is_refused",
    }  # fmt: skip
    forged, order = "test_a_forged_push_is_refused", "test_the_order_of_pushes_makes_no_other_positions"
    hostile = {
        "test_refused_credentials_are_said_so", "test_a_truncated_answer_is_unavailability",
        "test_a_limit_is_passed_on_with_the_time_the_vendor_asked_for",
        "test_a_limit_without_a_time_is_waited_out_by_the_gateway",
        "test_an_answer_of_tens_of_megabytes_is_not_swallowed",
        "test_a_vendor_that_never_answers_can_be_left_within_a_second",
    }  # fmt: skip
    streams = {"test_a_cancelled_stream_ends_within_a_second"}
    left_out = {"test_without_streaming_the_stream_ends_by_itself"} if can.streams else streams
    if not (can.receives and cls.examples):
        left_out |= {*pushes, forged, order}
    if can.verifies != "provider":
        left_out |= {forged}
    if not cls.any_order or len(cls.examples) < 2:
        left_out |= {order}
    return left_out | (set() if cls.hostile else hostile)
