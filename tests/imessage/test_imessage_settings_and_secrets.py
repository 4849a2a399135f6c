"""The settings of the contract, and secrets that show nowhere."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from imessage_harness import START
from pydantic import ValidationError
from test_imessage_webhook import encoded, event, push, signed

from waybridge import CredentialsRejected, ProviderError
from waybridge_imessage import IMessage

if TYPE_CHECKING:
    from imessage_harness import Gateway

    from waybridge_imessage.simulator import LinqSimulator

KEY_CANARY = "lq-canary-4d1c9e"
SECRET_CANARY = "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5"


def test_defaults_are_the_contracts() -> None:
    made = IMessage.Settings(api_key="k")
    assert (made.base_url, made.chats, made.poll_interval_seconds) == ("https://api.linqapp.com/api/partner", (), 180)
    assert (made.webhook_signing_secret, made.subscribe, made.phone_numbers) == (None, False, ())
    assert (made.lapse_after, made.stale_after, IMessage.capabilities.stale_after) == (1800, None, 600)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"api_key": ""},
        {"api_key": "two\nlines"},
        {"api_key": "k", "poll_interval_seconds": 0.5},
        {"api_key": "k", "lapse_after": 0},
        {"api_key": "k", "lapse_after": float("inf")},
        {"api_key": "k", "base_url": "ftp://x"},
        {"api_key": "k", "base_url": "https://user:pass@x"},
        {"api_key": "k", "webhook_signing_secret": "whsec_###"},
        {"api_key": "k", "webhook_signing_secret": ""},
        {"api_key": "k", "chats": [""]},
        {"api_key": "k", "unknown": 1},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        IMessage.Settings(**wrong)


def test_errors_of_settings_do_not_show_what_was_given() -> None:
    with pytest.raises(ValidationError) as refused:
        IMessage.Settings(api_key=f"{KEY_CANARY}\n", webhook_signing_secret=f"{SECRET_CANARY}###")
    assert KEY_CANARY not in str(refused.value)
    assert SECRET_CANARY not in str(refused.value)


@pytest.mark.parametrize(("interval", "warned"), [(59, True), (60, False), (1, True)])
async def test_a_hurried_interval_is_warned_of(
    door: Gateway, linq: LinqSimulator, interval: float, *, warned: bool
) -> None:
    door.connect(api_key=linq.api_key, base_url=linq.base_url, poll_interval_seconds=interval)
    door.start()
    await door.quiet()
    assert any("more often" in line for line in door.log.lines) is warned


async def test_secrets_show_in_no_log_repr_error_or_answer(
    door: Gateway, linq: LinqSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    linq.api_key = KEY_CANARY
    provider = door.connect(
        api_key=KEY_CANARY,
        base_url=linq.base_url,
        webhook_signing_secret=SECRET_CANARY,
        subscribe=True,
        poll_interval_seconds=1,
    )
    heard = [repr(provider.settings), str(provider.settings), repr(provider), str(provider.settings.model_dump())]
    await provider.check()
    door.start()
    await door.quiet()
    body = encoded(event(chat_id=linq.add_chat("+14155550101")))
    for headers in (signed(body, secret=SECRET_CANARY), signed(body), {}):
        answer = await door.push(push(body, headers))
        heard += [repr(answer)]
    linq.faults.status = (401, 2004, f"no such key: {KEY_CANARY}")
    await door.pass_time(5)
    heard.append(repr(door.stream_error))
    for target in ("some-chat", "+14155550101"):
        with pytest.raises(ProviderError) as refused:
            await provider.ask(target)
        heard += [repr(refused.value), str(refused.value)]
    with pytest.raises(CredentialsRejected) as rejected:
        await provider.check()
    heard.append(repr(rejected.value))
    own = await door.state.get("secret/callback")
    heard += [text for key, text in door.state.kept.items() if not key.startswith("secret/")]
    heard += [*door.log.lines, caplog.text, repr(door.reports)]

    for canary in (KEY_CANARY, SECRET_CANARY, *own["secrets"]):
        assert canary not in "\n".join(heard)
    assert START.isoformat()[:10] in "\n".join(heard), "something was heard at all"


async def test_no_phone_number_or_place_is_in_a_log(door: Gateway, linq: LinqSimulator) -> None:
    secret = linq.subscribe(f"{door.url}/webhook")
    door.connect(
        api_key=linq.api_key,
        base_url=linq.base_url,
        webhook_signing_secret=secret,
        poll_interval_seconds=1,
        lapse_after=9,
    )
    chat = linq.add_chat("+14155550101")
    door.start()
    await door.quiet()
    linq.share(chat, "+14155550101", 60.1234, 24.9876)
    await linq.delivered()
    await door.pass_time(4)
    linq.faults.hide = True
    await door.pass_time(20)
    assert len(door.stopped) == 1
    said = "\n".join(door.log.lines)
    assert said
    assert not any(secret_text in said for secret_text in ("4155550101", "60.1234", "24.9876", chat))
