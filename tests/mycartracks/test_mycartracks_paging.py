"""Last positions: every way of paging, every shape, and what is not followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from mycartracks_harness import Bench, Desk, HandClock, positions, settle
from yarl import URL

from waybridge import Position
from waybridge_mycartracks import simulator_server
from waybridge_mycartracks.paging import Foreign, Next, next_page
from waybridge_mycartracks.simulator import Shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from waybridge_mycartracks import MyCarTracksSimulator


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
