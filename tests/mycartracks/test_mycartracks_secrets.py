"""Credentials are canaries: nothing that is said, kept or raised may hold one."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest
from mycartracks_harness import Bench, HandClock, settle

from waybridge_mycartracks import MyCarTracksSimulator
from waybridge_mycartracks.redact import clean, excerpt
from waybridge_mycartracks.simulator import Refusal

if TYPE_CHECKING:
    import aiohttp

CANARY = "canary-secret-7f3a"
CANARY_ID = "canary-client.mycartracks.com"


async def test_no_credential_token_or_address_is_ever_said(http: aiohttp.ClientSession, clock: HandClock) -> None:
    vendor = MyCarTracksSimulator(client_id=CANARY_ID, client_secret=CANARY, clock=clock)
    await vendor.start()
    ours = Bench(http, clock, vendor.settings())
    tokens: set[str] = set()
    ours.start()
    await settle()
    echo = (
        f'{{"you sent": "{CANARY}", "client_id": "{CANARY_ID}", "access_token": "abc123", "url": "wss://x/y?token=t"}}'
    )
    for what in ("stream", "lastPositions", "token"):
        tokens |= set(vendor._desk._tokens) | {session.token for session in vendor._sessions.values()}
        vendor.faults.always[what] = Refusal(500, body=echo)
        vendor.revoke_tokens()
        vendor.drop_sockets()
        await clock.advance(120)
    vendor.faults.always.clear()
    vendor.faults.websocket_host = "evil.example"
    await clock.advance(120)
    vendor.faults.websocket_host = None
    vendor._sessions.clear()
    await clock.advance(60)
    tokens |= set(vendor._desk._tokens)
    vendor.faults.always["lastPositions"] = vendor.faults.always["stream"] = Refusal(403, body=echo)
    vendor.drop_sockets()
    await clock.advance(120)
    await ours.stop()
    await vendor.stop()

    said = ["".join(traceback.format_exception(error)) + repr(error.__context__) for error in ours.ended]
    said += [*ours.log.lines, repr(ours.settings), str(ours.settings), repr(ours.provider), repr(vars(ours.provider))]
    said += [repr(ours.settings.model_dump()), repr(list(ours.counts))]
    everything = "\n".join(said)
    assert len(ours.ended) > 5
    assert len(tokens) >= 3
    assert "answered 500" in everything
    assert CANARY not in everything
    assert CANARY_ID not in everything.replace(repr(ours.settings.model_dump()), "")
    assert [token for token in tokens if token in everything] == []
    assert "abc123" not in everything
    assert "token=t" not in everything


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer ***"),
        ("wss://host/path?token=abc", "wss://***"),
        ('{"access_token":"abc","x":1}', '{"access_token":***,"x":1}'),
        ("client_secret=abc&scope=read", "client_secret=***&scope=read"),
        ("nothing special", "nothing special"),
    ],
)
def test_what_looks_like_a_secret_is_struck_out(said: str, left: str) -> None:
    assert clean(said) == left


def test_an_excerpt_is_short_printable_and_never_holds_half_a_secret() -> None:
    body = b"x" * 505 + CANARY.encode() + b"\x00\xff" * 5000

    cut = excerpt(body, [CANARY])

    assert len(cut) <= 512
    assert cut.isprintable()
    assert "canary" not in cut
