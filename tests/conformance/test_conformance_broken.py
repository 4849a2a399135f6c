"""Each check of the conformance class is proved by a provider that is broken in one place and fails exactly it."""

import asyncio
import json
from datetime import timedelta

import pytest
from harbour import Harbour, HarbourContract, HarbourSettings

from waybridge import (
    Capabilities,
    CompareAndSet,
    PushRejected,
    PutIfAbsent,
    Receipt,
    SourceKey,
    SourceUnavailable,
)


def failing(contract):
    """The names of the checks that a provider fails."""
    checks = [name for name in dir(contract) if name.startswith("test_") and callable(getattr(contract, name))]
    assert checks
    failed = set()
    for name in checks:
        try:
            getattr(contract(), name)()
        except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whichever way it fails
            failed.add(name.removeprefix("test_"))
    return failed


def under_contract(broken, base=HarbourContract):
    return type(f"Test{broken.__name__}", (base,), {"provider": broken})


def test_the_whole_provider_holds_to_everything():
    assert failing(under_contract(Harbour)) == set()


class BadName(Harbour):
    kind = "The Harbour"


class LooseSettings(HarbourSettings, extra="ignore"):
    pass


class Loose(Harbour):
    Settings = LooseSettings


class Talkative(Harbour):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.headers = {"X-Key": settings.api_key.get_secret_value()}


class ClosesOnce(Harbour):
    closed = False

    async def close(self):
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


class Undying(Harbour):
    async def stream(self):
        while True:
            try:
                for each in await self.read():
                    yield self.position(each)
                await self.context.clock.sleep(30)
            except asyncio.CancelledError:
                await asyncio.sleep(3)


class KeepsTrying(Harbour):
    async def look(self, answer):
        if answer.status == 401:
            raise SourceUnavailable("perhaps later")
        await super().look(answer)


class Impatient(Harbour):
    async def look(self, answer):
        try:
            await super().look(answer)
        except SourceUnavailable as error:
            raise SourceUnavailable(str(error)) from error


class Hammering(Harbour):
    async def check(self):
        for _ in range(10):
            try:
                return await self.read()
            except SourceUnavailable as error:
                if error.retry_after is not None:
                    raise
        raise SourceUnavailable("ten times in vain")


class Trusting(Harbour):
    async def body(self, answer):
        return (json.loads(await answer.read()))["ships"]


class Swallowing(Harbour):
    async def body(self, answer):
        whole = bytearray()
        async for chunk in answer.content.iter_chunked(65_536):
            whole += chunk
        try:
            return json.loads(whole)["ships"]
        except (ValueError, LookupError) as error:
            raise SourceUnavailable("no JSON") from error


class Holding(Harbour):
    async def check(self):
        try:
            await self.read()
        except asyncio.CancelledError:
            await asyncio.sleep(3)
            raise


class Indiscreet(Harbour):
    async def look(self, answer):
        if answer.status == 401:
            self.context.log.error("refused", key=self.settings.api_key.get_secret_value())
        await super().look(answer)


class Nautical(Harbour):
    def speed(self, ship):
        return ship["knots"]


class Naive(Harbour):
    def time(self, ship):
        return super().time(ship).replace(tzinfo=None)


class Stranger(Harbour):
    def position(self, ship):
        found = super().position(ship)
        return type(found)(
            source=SourceKey("elsewhere", found.source.external_id), latitude=found.latitude,
            longitude=found.longitude, recorded_at=found.recorded_at, speed_mps=found.speed_mps,
        )  # fmt: skip


class Inventive(Harbour):
    """Takes what it knows already for something new."""

    async def taken(self, ship):
        key = f"seen/{ship['at']}"
        seen = await self.context.state.get(key)
        found = self.position(ship)
        if seen is None:
            return Receipt(reports=[found], intents=[PutIfAbsent(key, 1)])
        moved = type(found)(
            source=found.source, latitude=found.latitude, longitude=found.longitude, speed_mps=found.speed_mps,
            recorded_at=found.recorded_at + timedelta(microseconds=seen),
        )  # fmt: skip
        return Receipt(reports=[moved], intents=[CompareAndSet(key, seen, seen + 1)])


class Forgetful(Harbour):
    """Drops what is older than the newest, which is the gateway's business."""

    async def taken(self, ship):
        newest = await self.context.state.get("newest")
        if newest is not None and ship["at"] < newest:
            return Receipt()
        intent = PutIfAbsent("newest", ship["at"]) if newest is None else CompareAndSet("newest", newest, ship["at"])
        return Receipt(reports=[self.position(ship)], intents=[intent])


class Hasty(Harbour):
    async def taken(self, ship):
        await self.context.state.put("newest", ship["at"])
        return await super().taken(ship)


class Gullible(Harbour):
    async def receive(self, push):
        if push.path != "ships":
            raise PushRejected(404)
        if len(push.body) > 65_536:
            raise PushRejected(413)
        return await self.taken(self.decoded(push.body))


class Unguarded(Harbour):
    def decoded(self, body):
        return json.loads(body)


class Overfed(Harbour):
    async def receive(self, push):
        if len(push.body) > 65_536:
            raise ValueError("too much")
        return await super().receive(push)


class Anywhere(Harbour):
    async def receive(self, push):
        ships = type(push)(
            method=push.method, path="ships", segments=("ships",), query=push.query, headers=push.headers,
            body=push.body, received_at=push.received_at,
        )  # fmt: skip
        return await super().receive(ships)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (BadName, "it_says_what_it_is"),
        (Loose, "unknown_settings_are_refused_by_name"),
        (Talkative, "secrets_are_in_no_repr"),
        (ClosesOnce, "closing_twice_is_harmless"),
        (Undying, "a_cancelled_stream_ends_within_a_second"),
        (KeepsTrying, "refused_credentials_are_said_so"),
        (Impatient, "a_limit_is_passed_on_with_the_time_the_vendor_asked_for"),
        (Hammering, "a_limit_without_a_time_is_waited_out_by_the_gateway"),
        (Trusting, "a_truncated_answer_is_unavailability"),
        (Swallowing, "an_answer_of_tens_of_megabytes_is_not_swallowed"),
        (Holding, "a_vendor_that_never_answers_can_be_left_within_a_second"),
        (Indiscreet, "secrets_are_in_no_log_and_no_error"),
        (Nautical, "positions_are_in_si_units"),
        (Naive, "times_are_aware_and_in_utc"),
        (Stranger, "sources_are_of_the_connection"),
        (Inventive, "what_is_brought_twice_is_the_same_twice"),
        (Forgetful, "the_order_of_pushes_makes_no_other_positions"),
        (Hasty, "reading_a_push_changes_nothing_before_the_commit"),
        (Gullible, "a_forged_push_is_refused"),
        (Unguarded, "a_truncated_push_is_refused_or_ignored"),
        (Overfed, "a_push_of_ten_megabytes_is_refused_or_ignored"),
        (Anywhere, "a_push_to_an_unknown_address_is_refused"),
    ],
)
def test_a_broken_provider_fails_exactly_its_check(broken, check):
    assert failing(under_contract(broken)) == {check}


class Quiet(Harbour):
    """Only pushed to, and hangs where its stream should end."""

    capabilities = Capabilities(receives=True, verifies="provider")

    async def stream(self):
        await asyncio.Event().wait()
        yield


class QuietContract(HarbourContract):
    streamed = ()
    hostile = {}
    settings = {**HarbourContract.settings, "base_url": "http://127.0.0.1:9"}


def test_a_push_only_provider_that_never_ends_its_stream_fails_exactly_that():
    assert failing(under_contract(Quiet, QuietContract)) == {"without_streaming_the_stream_ends_by_itself"}


def test_every_check_is_proved_by_a_broken_provider():
    names = {check for _, check in test_a_broken_provider_fails_exactly_its_check.pytestmark[0].args[1]}
    names |= {"without_streaming_the_stream_ends_by_itself"}
    there = {name.removeprefix("test_") for name in dir(HarbourContract) if name.startswith("test_")}
    assert names == there


def test_checks_that_mean_nothing_for_a_provider_are_not_there():
    there = {name for name in dir(under_contract(Quiet, QuietContract)) if name.startswith("test_")}
    gone = {name for name in there if getattr(under_contract(Quiet, QuietContract), name) is None}
    assert "test_refused_credentials_are_said_so" in gone
    assert "test_a_cancelled_stream_ends_within_a_second" in gone
    assert "test_a_forged_push_is_refused" not in gone
