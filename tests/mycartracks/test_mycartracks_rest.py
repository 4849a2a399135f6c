"""Tokens and REST against the stand-in: both forms of credentials, refusals, paging, shapes, limits."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from mycartracks_harness import Bench, HandClock, settle
from yarl import URL

from waybridge import CredentialsRejected, Position, SourceUnavailable
from waybridge_mycartracks import simulator_server
from waybridge_mycartracks.paging import Foreign, Next, next_page
from waybridge_mycartracks.simulator import Refusal, Shape

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import aiohttp

    from waybridge_mycartracks import MyCarTracksSimulator

Answer = Any


class Desk:
    """A server whose every answer a test writes; keeps the requests."""

    def __init__(self) -> None:
        self.token: Answer = {"access_token": "a-token", "expires_in": 3592}
        self.positions: Callable[[web.Request], web.Response] = lambda _: web.json_response({"data": []})
        self.stream: Answer = web.json_response({}, status=500)
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.path_qs, dict(request.headers), await request.text()))
        if request.path == "/oauth/token":
            return self.token() if callable(self.token) else web.json_response(self.token)
        return self.positions(request)

    def settings(self) -> dict[str, Any]:
        return {
            "client_id": "an-id.mycartracks.com",
            "client_secret": "a secret with ü:%",
            "base_url": f"{self.url}/v3",
            "token_url": f"{self.url}/oauth/token",
        }


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def at_desk(desk: Desk, http: aiohttp.ClientSession, clock: HandClock) -> Callable[..., Bench]:
    return lambda **settings: Bench(http, clock, desk.settings() | settings)


async def positions(bench: Bench) -> list[str]:
    return [fix.vehicle_id async for page in bench.provider._rest.last_positions() for fix in page]


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


@pytest.mark.parametrize("paging", ["page", "next", "link"])
@pytest.mark.parametrize("first_page", [0, 1])
async def test_every_way_of_paging_reads_every_vehicle(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], paging: Any, first_page: Any
) -> None:
    vendor.shape = Shape(paging=paging, first_page=first_page)
    for vehicle_id in range(1, 24):
        vendor.move(vehicle_id, 48.0, 17.0)

    found = await positions(bench(page_size=5))

    assert found == [str(vehicle_id) for vehicle_id in range(1, 24)]
    assert vendor.rest_requests == 5


async def test_vehicles_that_never_reported_do_not_end_the_paging(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench]
) -> None:
    for vehicle_id in range(1, 31):
        vendor.set_vehicle(vehicle_id)
    vendor.move(30, 48.0, 17.0)

    ours = bench(page_size=5)

    assert await positions(ours) == ["30"]
    assert ours.counts["row_without_position"] == 29


async def test_a_total_without_a_page_number_works_from_zero_and_from_one(
    desk: Desk, at_desk: Callable[..., Bench]
) -> None:
    for first in (0, 1):

        def page(request: web.Request, first: int = first) -> web.Response:
            start = max(int(request.query.get("page", first)) - first, 0) * 2
            rows = [{"vehicleId": n, "latitude": 1.0, "longitude": 2.0} for n in range(5)][start : start + 2]
            return web.json_response({"data": rows, "total": 5})

        desk.positions = page
        assert sorted(set(await positions(at_desk(page_size=2)))) == ["0", "1", "2", "3", "4"]


async def test_endless_pages_end(desk: Desk, at_desk: Callable[..., Bench]) -> None:
    same = {"data": [{"vehicleId": 1, "latitude": 1.0, "longitude": 2.0}], "hasMore": True}
    desk.positions = lambda _: web.json_response(same)
    await positions(at_desk(requests_per_minute=6000))
    assert len(desk.requests) == 1 + 3

    def fresh(request: web.Request) -> web.Response:
        row = {"vehicleId": int(request.query.get("page", "0")) + 1, "latitude": 1.0, "longitude": 2.0}
        return web.json_response({"data": [row], "page": int(request.query.get("page", "0")), "hasMore": True})

    desk.positions = fresh
    assert len(await positions(at_desk(requests_per_minute=6000))) == 100


@pytest.mark.parametrize(
    ("body", "link", "expected"),
    [
        ({"next": "/v3?page=2"}, None, Next(url=URL("http://vendor/v3?page=2"))),
        ({"links": {"next": {"href": "?page=2"}}}, None, Next(url=URL("http://vendor/v3?page=2"))),
        ({}, URL("http://vendor/v3?page=2"), Next(url=URL("http://vendor/v3?page=2"))),
        ({"next": "http://vendor/v3?page=1"}, None, None),
        ({"next": "http://vendor:81/v3"}, None, Foreign()),
        ({"next": "https://vendor/v3"}, None, Foreign()),
        ({"next": "http://user@vendor/v3"}, None, Foreign()),
        ({"next": "http://[broken"}, None, Foreign()),
        ({"next": None, "page": 1, "totalPages": 3}, None, Next(page=2)),
        ({"page": {"number": 4, "totalPages": 1}}, None, None),
        ({"page": True, "total": 9}, None, Next(page=1)),
        ({"meta": {"hasNext": True, "currentPage": 7}}, None, Next(page=8)),
        ({"hasMore": False}, None, None),
        ({"data": []}, None, None),
        ([1], None, None),
    ],
)
def test_the_next_page_is_found_where_it_may_be_named(body: Any, link: URL | None, expected: object) -> None:
    assert next_page(body, link, URL("http://vendor/v3?page=1"), asked=1, seen=5) == expected


@pytest.mark.parametrize("way", ["body", "header"])
async def test_a_next_page_elsewhere_is_not_followed(
    desk: Desk, at_desk: Callable[..., Bench], vendor: MyCarTracksSimulator, way: str
) -> None:
    row = {"vehicleId": 1, "latitude": 1.0, "longitude": 2.0}
    elsewhere = f"{vendor.base_url}/vehicles/lastPositions?page=2"
    desk.positions = lambda _: web.json_response(
        {"data": [row], "next": elsewhere} if way == "body" else {"data": [row]},
        headers={"Link": f'<{elsewhere}>; rel="next"'} if way == "header" else {},
    )
    ours = at_desk()

    assert await positions(ours) == ["1"]
    assert vendor.rest_requests == 0
    assert ours.counts["foreign_next_page"] == 1


async def test_a_full_page_without_any_paging_is_said_once_to_be_possibly_cut(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench]
) -> None:
    vendor.shape = Shape(paging="none")
    for vehicle_id in range(6):
        vendor.move(vehicle_id + 1, 48.0, 17.0)
    ours = bench(page_size=5)

    for _ in range(2):
        assert len(await positions(ours)) == 5
    assert len([line for line in ours.log.lines if "possibly truncated" in line]) == 1


@pytest.mark.parametrize(
    "shape",
    [
        Shape(envelope=None, paging="none"),
        Shape(envelope="content", words="v2", times="ms"),
        Shape(envelope="vehicles", nest="lastPosition", times="s"),
        Shape(envelope="positions", nest="location", words="v2"),
        Shape(envelope="items", nest="position"),
    ],
)
async def test_every_shape_of_last_positions_gives_the_same_report(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], shape: Shape, clock: HandClock
) -> None:
    vendor.set_vehicle(123, "Van 12", user_id=42, user_name="John Smith")
    vendor.move(123, 48.1486, 17.1077, 42.5, 90.0)
    vendor.shape = shape
    ours = bench()
    ours.start()
    await settle()

    (fix,) = ours.of(Position)
    assert (fix.latitude, fix.longitude, fix.heading_deg, fix.online) == (48.1486, 17.1077, 90.0, True)
    assert fix.speed_mps == pytest.approx(42.5 / 3.6)
    assert fix.recorded_at == clock.now()


async def test_an_unknown_shape_is_counted_and_the_stream_goes_on(desk: Desk, at_desk: Callable[..., Bench]) -> None:
    desk.positions = lambda _: web.json_response({"surprise": True})
    ours = at_desk()

    assert await positions(ours) == []
    assert ours.counts["unknown_shape"] == 1


async def test_a_row_without_any_time_is_left_out(vendor: MyCarTracksSimulator, bench: Callable[..., Bench]) -> None:
    vendor.move(1, 48.0, 17.0)
    vendor.shape = Shape(envelope="data", words="v2")
    ours = bench()
    original = simulator_server.last_position

    def timeless(*arguments: Any) -> dict[str, Any]:
        row = original(*arguments)
        return {name: value for name, value in row.items() if name not in {"time", "receivedAt"}}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator_server, "last_position", timeless)
        ours.start()
        await settle()

    assert ours.of(Position) == []
    assert ours.counts["row_without_time"] == 2


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
