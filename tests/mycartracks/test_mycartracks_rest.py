"""Tokens and REST against the stand-in: both forms of credentials, refusals, paging, shapes, limits."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from mycartracks_harness import Bench, Desk, HandClock, positions

from waybridge import CredentialsRejected, SourceUnavailable
from waybridge_mycartracks.simulator import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from waybridge_mycartracks import MyCarTracksSimulator


async def test_basic_credentials_are_those_of_curl(desk: Desk, at_desk: Callable[..., Bench]) -> None:
    await at_desk().provider.check()

    path, headers, body = desk.requests[0]
    assert path == "/oauth/token"
    assert (
        headers["Authorization"]
        == "Basic " + base64.b64encode("an-id.mycartracks.com:a secret with ü:%".encode("latin-1")).decode()
    )
    assert parse_qs(body) == {"grant_type": ["client_credentials"], "scope": ["read"]}
    assert desk.requests[1][0] == "/v3/vehicles/lastPositions?limit=1"
    assert desk.requests[1][1]["Authorization"] == "Bearer a-token"


async def test_form_credentials_are_in_the_body_alone(desk: Desk, at_desk: Callable[..., Bench]) -> None:
    await at_desk(token_endpoint_auth_method="client_secret_post", scope="read write").provider.check()

    _, headers, body = desk.requests[0]
    assert "Authorization" not in headers
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert parse_qs(body) == {
        "grant_type": ["client_credentials"],
        "scope": ["read write"],
        "client_id": ["an-id.mycartracks.com"],
        "client_secret": ["a secret with ü:%"],
    }


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_the_stand_in_takes_both_forms_and_refuses_wrong_ones(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], method: str
) -> None:
    await bench(token_endpoint_auth_method=method).provider.check()
    with pytest.raises(CredentialsRejected, match="invalid_client"):
        await bench(token_endpoint_auth_method=method, client_secret="wrong").provider.check()
    assert vendor.tokens_issued == 1


async def test_more_scope_than_granted_is_final(vendor: MyCarTracksSimulator, bench: Callable[..., Bench]) -> None:
    with pytest.raises(CredentialsRejected, match="invalid_scope"):
        await bench(scope="read write").provider.check()


async def test_credentials_that_basic_cannot_carry_are_refused_before_they_go_out(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench]
) -> None:
    with pytest.raises(CredentialsRejected, match="Basic authentication"):
        await bench(client_secret="снег").provider.check()
    assert vendor.token_requests == 0


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, '{"error":"invalid_scope"}', CredentialsRejected),
        (400, '{"error":"invalid_grant"}', CredentialsRejected),
        (400, '{"error":"unauthorized_client"}', CredentialsRejected),
        (401, "", CredentialsRejected),
        (401, '{"error":"invalid_client"}', CredentialsRejected),
        (403, "no", CredentialsRejected),
        (400, '{"error":"temporarily_unavailable"}', SourceUnavailable),
        (400, "gibberish", SourceUnavailable),
        (404, "", SourceUnavailable),
        (429, "", SourceUnavailable),
        (500, '{"error":"invalid_client"}', SourceUnavailable),
        (503, "", SourceUnavailable),
        (200, "{}", SourceUnavailable),
        (200, '{"access_token":"line\\nbreak"}', SourceUnavailable),
        (200, '{"access_token":7}', SourceUnavailable),
        (200, "<html>", SourceUnavailable),
        (200, "x" * 70_000, SourceUnavailable),
    ],
)
async def test_token_answers_mean_one_thing(
    desk: Desk, at_desk: Callable[..., Bench], status: int, body: str, error: type[Exception]
) -> None:
    desk.token = lambda: web.Response(status=status, text=body)

    with pytest.raises(error):
        await at_desk().provider.check()
    assert len(desk.requests) == 1


async def test_a_redirect_of_the_token_request_is_not_followed(
    desk: Desk, at_desk: Callable[..., Bench], vendor: MyCarTracksSimulator
) -> None:
    desk.token = lambda: web.Response(status=302, headers={"Location": vendor.token_url})

    with pytest.raises(SourceUnavailable, match="correct token_url"):
        await at_desk().provider.check()
    assert vendor.token_requests == 0


async def test_a_token_is_fetched_once_for_all_and_again_a_minute_before_its_end(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    provider = bench().provider

    await asyncio.gather(*(provider.check() for _ in range(10)))
    assert vendor.token_requests == 1
    await clock.advance(3592 - 61)
    await provider.check()
    assert vendor.token_requests == 1
    await clock.advance(1)
    await provider.check()
    assert vendor.token_requests == 2


async def test_a_token_of_untold_life_is_good_for_five_minutes(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.faults.expires_in = False
    provider = bench().provider
    await provider.check()
    await clock.advance(239)
    await provider.check()
    assert vendor.token_requests == 1
    await clock.advance(1)
    await provider.check()
    assert vendor.token_requests == 2


async def test_a_revoked_token_is_replaced_without_anybody_noticing(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench]
) -> None:
    vendor.move(1, 48.0, 17.0)
    ours = bench()
    await ours.provider.check()
    vendor.revoke_tokens()

    results = await asyncio.gather(*(positions(ours) for _ in range(5)))

    assert results == [["1"]] * 5
    assert vendor.tokens_issued == 2


async def test_a_new_token_refused_is_final(vendor: MyCarTracksSimulator, bench: Callable[..., Bench]) -> None:
    vendor.faults.forget_tokens, vendor.faults.reissue = True, False

    with pytest.raises(CredentialsRejected, match="401 with a fresh token"):
        await bench().provider.check()
    assert (vendor.token_requests, vendor.rest_requests) == (2, 2)


async def test_the_same_token_refused_again_is_given_one_more_try_then_is_final(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench]
) -> None:
    vendor.faults.forget_tokens = True
    provider = bench().provider

    with pytest.raises(SourceUnavailable, match="handed out the refused token"):
        await provider.check()
    with pytest.raises(CredentialsRejected):
        await provider.check()
    assert vendor.rest_requests == 4


@pytest.mark.parametrize(
    ("refusal", "error", "wait"),
    [
        (Refusal(403), CredentialsRejected, None),
        (Refusal(404), SourceUnavailable, None),
        (Refusal(409, 3), SourceUnavailable, 3),
        (Refusal(422), SourceUnavailable, None),
        (Refusal(429), SourceUnavailable, None),
        (Refusal(429, 17), SourceUnavailable, 17),
        (Refusal(500), SourceUnavailable, None),
        (Refusal(503, 30), SourceUnavailable, 30),
    ],
)
async def test_rest_refusals_mean_one_thing(
    vendor: MyCarTracksSimulator,
    bench: Callable[..., Bench],
    refusal: Refusal,
    error: type[Exception],
    wait: float | None,
) -> None:
    vendor.faults.always["lastPositions"] = refusal

    with pytest.raises(error, match=str(refusal.status)) as raised:
        await bench().provider.check()
    assert getattr(raised.value, "retry_after", None) == wait


async def test_a_refused_vehicle_is_named(vendor: MyCarTracksSimulator, bench: Callable[..., Bench]) -> None:
    ours = bench(vehicle_ids=[123, 456])
    with pytest.raises(CredentialsRejected, match="123, 456"):
        await ours.once()


async def test_retry_after_may_be_a_date(desk: Desk, at_desk: Callable[..., Bench]) -> None:
    desk.positions = lambda _: web.Response(
        status=429,
        headers={"Retry-After": "Mon, 01 Jun 2026 14:00:40 GMT", "Date": "Mon, 01 Jun 2026 14:00:00 GMT"},
    )

    with pytest.raises(SourceUnavailable) as raised:
        await at_desk().provider.check()
    assert raised.value.retry_after == 40


@pytest.mark.parametrize("fault", ["truncated", "oversized"])
async def test_half_an_answer_or_ten_megabytes_are_unavailability(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], fault: str
) -> None:
    ours = bench()
    await ours.provider.check()
    setattr(vendor.faults, fault, True)

    with pytest.raises(SourceUnavailable):
        await ours.provider.check()


async def test_nobody_listening_is_unavailability(vendor: MyCarTracksSimulator, bench: Callable[..., Bench]) -> None:
    ours = bench()
    await vendor.stop()

    with pytest.raises(SourceUnavailable, match="could not be asked"):
        await ours.provider.check()


async def test_never_more_requests_a_minute_than_the_budget(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    provider = bench().provider
    asking = asyncio.gather(*(provider.check() for _ in range(75)))
    await clock.advance(125)
    await asking

    rest = sorted(vendor.request_times)
    assert vendor.rest_requests == 75
    assert max(sum(start <= moment < start + 60 for moment in rest) for start in rest) <= 31  # 30 and the token
