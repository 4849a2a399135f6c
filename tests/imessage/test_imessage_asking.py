"""Asking: a prompt on a person's phone, at most once a call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from waybridge import AskRefused, CredentialsRejected, SourceKey, SourceUnavailable

if TYPE_CHECKING:
    from imessage_harness import Gateway

    from waybridge_imessage.simulator import LinqSimulator

ANNA, BOB = "+14155550101", "+14155550102"


@pytest.fixture
def asking(door: Gateway, linq: LinqSimulator) -> Gateway:
    secret = linq.subscribe(f"{door.url}/webhook")
    door.connect(api_key=linq.api_key, base_url=linq.base_url, webhook_signing_secret=secret)
    return door


async def test_a_chat_is_asked_and_the_person_behind_it_named(asking: Gateway, linq: LinqSimulator) -> None:
    chat = linq.add_chat(ANNA)
    asked = await asking.shown.ask(chat)
    assert asked.source == SourceKey("imessage", ANNA)
    assert linq.prompts == [chat]
    assert await asking.shown.behind(chat) == [SourceKey("imessage", ANNA)]
    assert await asking.shown.behind("another") is None


async def test_a_person_is_asked_in_the_chat_that_is_remembered(asking: Gateway, linq: LinqSimulator) -> None:
    group, chat = linq.add_chat(ANNA, BOB), linq.add_chat(ANNA)
    await asking.state.put(f"chat/{group}", {"handles": [ANNA, BOB]})
    await asking.state.put(f"chat/{chat}", {"handles": [ANNA]})
    asked = await asking.shown.ask("+1 415 555-0101")
    assert (linq.prompts, asked.source) == ([chat], SourceKey("imessage", ANNA))


@pytest.mark.parametrize("target", [ANNA, "nobody@icloud.example", "", "a\x00b", ".."])
async def test_what_is_not_known_cannot_be_asked(asking: Gateway, linq: LinqSimulator, target: str) -> None:
    with pytest.raises(AskRefused):
        await asking.shown.ask(target)
    assert linq.calls["POST request"] == 0


async def test_a_chat_id_is_one_segment_of_the_path(asking: Gateway, linq: LinqSimulator) -> None:
    chat = linq.add_chat(ANNA, chat_id="a/../b c?d#e%2f")
    await asking.shown.ask(chat)
    assert linq.prompts == [chat]


@pytest.mark.parametrize("service", ["SMS", "RCS"])
async def test_chats_that_cannot_be_asked_are_remembered(asking: Gateway, linq: LinqSimulator, service: str) -> None:
    chat = linq.add_chat(ANNA, service=service)  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(AskRefused, match="2017") as refused:
            await asking.shown.ask(chat)
        assert not refused.value.already_sharing
    assert linq.calls["POST request"] == 1


async def test_groups_cannot_be_asked(asking: Gateway, linq: LinqSimulator) -> None:
    with pytest.raises(AskRefused, match="2016"):
        await asking.shown.ask(linq.add_chat(ANNA, BOB))


async def test_an_unavailable_chat_is_not_remembered(asking: Gateway, linq: LinqSimulator) -> None:
    chat = linq.add_chat(ANNA)
    linq.faults.request_conflict = 2013
    with pytest.raises(AskRefused, match="2013"):
        await asking.shown.ask(chat)
    linq.faults.request_conflict = None
    await asking.shown.ask(chat)
    assert linq.prompts == [chat]


async def test_who_shares_already_is_not_asked_and_is_read_at_once(asking: Gateway, linq: LinqSimulator) -> None:
    chat = linq.add_chat(ANNA)
    asking.start()
    await asking.quiet()
    linq.share(chat, ANNA, 60.17, 24.94, notify=False)

    with pytest.raises(AskRefused) as refused:
        await asking.shown.ask(chat)

    assert (refused.value.reason, refused.value.already_sharing) == ("already sharing", True)
    assert linq.prompts == []
    await asking.pass_time(1, step=0.25)
    assert [s.source.external_id for s in asking.started] == [ANNA]
    assert len(asking.positions) == 1


async def test_a_share_without_a_position_yet_counts_as_sharing(asking: Gateway, linq: LinqSimulator) -> None:
    chat = linq.add_chat(ANNA)
    linq.share(chat, ANNA, 60.17, 24.94)
    await linq.delivered()
    linq.faults.request_conflict, linq.faults.hide = 0, True
    with pytest.raises(AskRefused) as refused:
        await asking.shown.ask(chat)
    assert refused.value.already_sharing


async def test_another_conflict_is_told_in_the_vendors_words(asking: Gateway, linq: LinqSimulator) -> None:
    chat = linq.add_chat(ANNA)
    linq.faults.request_conflict = 2099
    with pytest.raises(AskRefused, match="Conflict") as refused:
        await asking.shown.ask(chat)
    assert not refused.value.already_sharing


async def test_a_limited_chat_is_told_with_the_vendors_wait_and_never_tried_again(
    asking: Gateway, linq: LinqSimulator
) -> None:
    chat = linq.add_chat(ANNA)
    await asking.shown.ask(chat)
    with pytest.raises(SourceUnavailable) as limited:
        await asking.shown.ask(chat)
    assert limited.value.retry_after is not None
    assert 59 <= limited.value.retry_after <= 61
    assert linq.calls["POST request"] == 2
    assert linq.prompts == [chat]


async def test_a_limit_without_a_wait_is_still_a_limit(asking: Gateway, linq: LinqSimulator) -> None:
    chat = linq.add_chat(ANNA)
    linq.faults.rate_limited, linq.faults.retry_after = 1, None
    with pytest.raises(SourceUnavailable) as limited:
        await asking.shown.ask(chat)
    assert limited.value.retry_after == 60


@pytest.mark.parametrize("fault", ["lose_answers", "server_errors"])
async def test_a_lost_or_broken_answer_is_never_asked_twice(asking: Gateway, linq: LinqSimulator, fault: str) -> None:
    chat = linq.add_chat(ANNA)
    setattr(linq.faults, fault, 1)
    with pytest.raises(SourceUnavailable) as lost:
        await asking.shown.ask(chat)
    assert lost.value.retry_after is None
    assert linq.calls["POST request"] == 1


async def test_a_connection_that_was_never_made_is_tried_again(asking: Gateway, linq: LinqSimulator) -> None:
    chat = linq.add_chat(ANNA)
    port = int(linq.base_url.split(":")[2].split("/")[0])
    await linq.stop()
    task = asyncio.create_task(asking.shown.ask(chat))
    await asking.until(lambda: bool(asking.clock.sleepers))
    await linq.start(port=port)
    asking.clock.advance(10)
    await task
    assert linq.prompts == [chat]


async def test_an_unreachable_vendor_is_told_after_three_tries(asking: Gateway, linq: LinqSimulator) -> None:
    await linq.stop()
    task = asyncio.create_task(asking.shown.ask("some-chat"))
    for _ in range(2):
        await asking.until(lambda: bool(asking.clock.sleepers))
        asking.clock.advance(10)
    with pytest.raises(SourceUnavailable, match="nobody was asked"):
        await task


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ((401, 2004, "Unauthorized"), CredentialsRejected),
        ((403, 2005, "Denied"), CredentialsRejected),
        ((403, 2024, "The recipient opted out"), AskRefused),
        ((404, 2001, "Chat not found"), AskRefused),
        ((400, 1005, "Bad value"), AskRefused),
    ],
)
async def test_refusals_have_one_meaning_each(
    asking: Gateway, linq: LinqSimulator, status: tuple[int, int, str], error: type[Exception]
) -> None:
    linq.faults.status = status
    with pytest.raises(error):
        await asking.shown.ask("some-chat")


async def test_a_person_who_accepts_shares_at_once(asking: Gateway, linq: LinqSimulator) -> None:
    linq.person_accepts_requests = True
    chat = linq.add_chat(ANNA)
    await asking.shown.ask(chat)
    await linq.delivered()
    assert [s.chat_id for s in asking.started] == [chat]
    with pytest.raises(AskRefused, match="already sharing"):
        await asking.shown.ask(ANNA)
