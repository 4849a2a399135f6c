"""Devices over HTTP: lists, positions, trips, names, groups, maps."""

from __future__ import annotations

import io
import json
import re
import time

import pytest

from waybridge.api.devices import accepted
from waybridge.store import fleet

NOW = time.time


async def _trip(site, count: int = 10, *, token: str = "van-1", began: float | None = None) -> float:
    """A trip of fixes a second and about 11 m apart, the last one now; when it began."""
    began = NOW() - count + 1 if began is None else began
    await site.push(
        *(
            {"device_token": token, "latitude": 50 + n / 10_000, "longitude": 8, "timestamp": began + n, "speed": 11.1}
            for n in range(count)
        )
    )
    return began


async def test_a_position_is_flat_and_in_unix_seconds(site):
    began = await _trip(site, 3)

    status, position = await site.ask("GET", "/devices/van-1/position")

    assert status == 200
    assert position["latitude"] == 50.0002
    assert position["timestamp"] == int(began + 2)
    assert position["speed"] == 11.1
    assert position["heading"] is None
    assert (position["online"], position["stale"], position["time_suspect"]) == (True, False, False)
    assert "display_identifier" not in position


async def test_a_position_with_its_instance_carries_names(site):
    await _trip(site, 1)
    await site.ask(
        "PUT", "/devices/van-1/metadata/profile?instance_id=acme", json={"first_name": "Ann", "last_name": "Lee"}
    )

    _, position = await site.ask("GET", "/devices/van-1/position?instance_id=acme")

    assert position["display_identifier"] == "Ann Lee"
    assert position["display_field"] == "full_name"
    assert position["driver_profile"]["first_name"] == "Ann"


@pytest.mark.parametrize(
    ("query", "pattern"),
    [
        ("date_format=iso", r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"),
        ("date_format=iso&timezone=Asia/Kolkata", r"\+05:30$"),
        ("date_format=human", r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"),
        ("date_format=localized&timezone=America/Sao_Paulo", r" -03$"),
    ],
)
async def test_times_are_written_as_asked(site, query, pattern):
    await _trip(site, 1)

    _, position = await site.ask("GET", f"/devices/van-1/position?{query}")

    assert re.search(pattern, position["timestamp"]), position["timestamp"]


@pytest.mark.parametrize(
    "query",
    [
        "date_format=epoch",
        "timezone=Mars/Olympus",
        "timezone=../../etc/passwd",
        "timezone=%00",
        "timezone=",
        "timezone=America",
        "timezone=UTC&timezone=UTC",
    ],
)
async def test_unknown_formats_and_zones_are_422(site, query):
    await _trip(site, 1)

    status, answer = await site.ask("GET", f"/devices/van-1/position?{query}")

    assert status == 422
    assert answer["errors"]


async def test_an_unknown_device_and_one_without_a_position_are_told_apart(site):
    await site.ask("PUT", "/devices/quiet/metadata/profile?instance_id=acme", json={"full_name": "Q"})

    unknown = await site.ask("GET", "/devices/never/position")
    quiet = await site.ask("GET", "/devices/quiet/position")
    track = await site.ask("GET", "/devices/quiet/tracks")
    stats = await site.ask("GET", "/devices/quiet/stats")

    assert (unknown[0], quiet[0]) == (404, 404)
    assert unknown[1]["detail"] != quiet[1]["detail"]
    assert track == (
        200,
        {
            "device_token": "quiet",
            "track_token": None,
            "started_at": None,
            "ended_at": None,
            "count": 0,
            "truncated": False,
            "points": [],
        },
    )
    assert (stats[0], stats[1]["track_token"], stats[1]["distance_m"]) == (200, None, 0.0)


@pytest.mark.parametrize("text", ["1E6532238EFE4904BAAA23F0972924E0", "1e653223-8efe-4904-baaa-23f0972924e0"])
async def test_a_uuid_is_one_device_in_every_spelling(site, text):
    await _trip(site, 1, token="1e653223-8efe-4904-baaa-23f0972924e0")

    status, position = await site.ask("GET", f"/devices/{text}/position")

    assert (status, position["device_token"]) == (200, "1e653223-8efe-4904-baaa-23f0972924e0")


async def test_the_list_shows_each_device_once_and_filters(site):
    await site.push(
        {"device_token": "a-van"}, {"device_token": "b-van"}, {"device_token": "old", "timestamp": NOW() - 900}
    )
    await site.ask("PUT", "/groups/vans?instance_id=acme", json={"device_tokens": ["a-van", "missing"]})

    async def tokens(query: str) -> list[str]:
        status, page = await site.ask("GET", f"/devices?instance_id=acme{query}")
        assert status == 200
        assert page["total"] == len(page["devices"])
        return [each["device_token"] for each in page["devices"]]

    assert await tokens("") == ["a-van", "b-van", "old"]
    assert await tokens("&online=false") == ["old"]
    assert await tokens("&q=VAN") == ["a-van", "b-van"]
    assert await tokens("&group=vans") == ["a-van"]
    assert await tokens("&group=never") == []
    assert await tokens("&provider=native&connection_id=native&external_id=b-van") == ["b-van"]
    assert await tokens("&provider=imessage") == []


async def test_the_list_is_paged(site):
    await site.push(*({"device_token": f"d{n}"} for n in range(5)))

    _, page = await site.ask("GET", "/devices?instance_id=acme&limit=2&offset=3")

    assert (page["total"], page["limit"], page["offset"]) == (5, 2, 3)
    assert [each["device_token"] for each in page["devices"]] == ["d3", "d4"]
    assert page["devices"][0]["position"]["latitude"] == 1.0
    assert page["devices"][0]["sources"] == [{"connection_id": "native", "external_id": "d3", "provider": "native"}]


async def test_a_track_keeps_the_newest_points_in_order(site):
    began = await _trip(site, 150, began=NOW() - 149)

    _, track = await site.ask("GET", "/devices/van-1/tracks?limit=3")
    _, whole = await site.ask("GET", "/devices/van-1/tracks")

    assert [each["timestamp"] for each in track["points"]] == [int(began + n) for n in (147, 148, 149)]
    assert (track["count"], track["truncated"]) == (3, True)
    assert (whole["count"], whole["truncated"], whole["ended_at"]) == (150, False, None)
    assert whole["started_at"] == int(began)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/geo+json", "application/geo+json"),
        ("application/gpx+xml", "application/gpx+xml"),
        ("text/html, application/gpx+xml;q=0.8, application/json;q=0.5", "application/gpx+xml"),
        ("*/*", "application/json"),
        ("application/geo+json;q=x", "application/json"),
    ],
)
def test_the_accept_header_chooses_the_format_of_a_track(accept, kind):
    assert accepted({"Accept": accept}) == kind


async def test_a_track_as_geojson_and_gpx(site):
    await _trip(site, 2)

    _, line = await site.ask(
        "GET", "/devices/van-1/tracks", headers={**site.headers(), "Accept": "application/geo+json"}
    )
    _, gpx = await site.ask("GET", "/devices/van-1/tracks?format=gpx")

    assert line["geometry"]["coordinates"] == [[8, 50], [8, 50.0001]]
    assert gpx.count(b"<trkpt") == 2


async def test_stats_add_a_trip_up(site):
    await _trip(site, 11)

    _, stats = await site.ask("GET", "/devices/van-1/stats")

    assert stats["points_count"] == 11
    assert stats["distance_m"] == pytest.approx(111.2, abs=0.2)
    assert stats["duration_s"] == stats["moving_s"] == pytest.approx(10, abs=0.01)
    assert stats["average_speed"] == pytest.approx(11.12, abs=0.02)
    assert (stats["max_speed"], stats["status"]) == (11.1, "active")
    assert stats["end"] == {"latitude": 50.001, "longitude": 8.0}


async def test_names_follow_the_chain_and_the_choice(site):
    await site.ask(
        "PUT",
        "/devices/d/metadata/profile?instance_id=acme",
        json={"email": "d@x.example", "nickname": " ", "phone": "+1"},
    )

    _, before = await site.ask("GET", "/devices/d/metadata?instance_id=acme")
    status, chosen = await site.ask(
        "PATCH", "/devices/d/metadata/display-field?instance_id=acme", json={"display_field": "phone"}
    )
    bad, answer = await site.ask(
        "PATCH", "/devices/d/metadata/display-field?instance_id=acme", json={"display_field": "age"}
    )

    assert (before["display_field"], before["display_value"], before["resolved_field"]) == (
        "full_name",
        "d@x.example",
        "email",
    )
    assert (status, chosen["display_value"], chosen["resolved_field"]) == (200, "+1", "phone")
    assert bad == 422
    assert "nickname" in answer["errors"][0]["message"]


async def test_the_bulk_answers_per_item(site):
    await site.push({"device_token": "a"}, {"device_token": "b"})
    mappings = [
        {"device_token": "a", "display_field": "email"},
        {"device_token": "b", "display_field": "age"},
        {"device_token": "never", "display_field": "email"},
        {"display_field": "email"},
        {"device_token": 7, "display_field": "email"},
    ]

    status, answer = await site.ask(
        "POST", "/devices/metadata/display-field/bulk", json={"instance_id": "acme", "mappings": mappings}
    )
    _, kept = await site.ask("GET", "/devices/a/metadata?instance_id=acme")

    assert (status, answer["updated"]) == (200, 1)
    assert [each["device_token"] for each in answer["failed"]] == ["b", "never", None, 7]
    assert kept["display_field"] == "email"


async def test_a_refresh_names_what_it_could_not_refresh(site):
    await site.push({"device_token": "a"})

    every = await site.ask("POST", "/devices/metadata/refresh?instance_id=acme")
    some = await site.ask(
        "POST", "/devices/metadata/refresh?instance_id=acme", json={"device_tokens": ["a", "never", "\x01"]}
    )
    one = await site.ask("POST", "/devices/a/metadata/refresh?instance_id=acme")

    assert every == (200, {"refreshed": 1, "failed": []})
    assert some[1]["refreshed"] == 1
    assert [each["device_token"] for each in some[1]["failed"]] == ["never", "\x01"]
    assert one == (200, {"refreshed": 1, "failed": []})


async def test_metadata_is_listed(site):
    await site.push({"device_token": "a"}, {"device_token": "b"})

    _, page = await site.ask("GET", "/devices/metadata?instance_id=acme&limit=1&offset=1")

    assert page["total"] == 2
    assert page["devices"] == [
        {
            "device_token": "b",
            "display_field": "full_name",
            "display_value": "b",
            "resolved_field": "device_token",
            "profile": None,
            "updated_at": None,
        }
    ]


async def test_a_device_token_is_at_most_200_characters(site):
    path = "/devices/{}/metadata/profile?instance_id=acme"
    longest, _ = await site.ask("PUT", path.format("x" * 200), json={"first_name": "A"})
    longer, answer = await site.ask("PUT", path.format("x" * 201), json={"first_name": "A"})
    read, _ = await site.ask("GET", f"/devices/{'x' * 201}/position?instance_id=acme")

    assert (longest, longer, read) == (200, 422, 404)
    assert [each["field"] for each in answer["errors"]] == ["device_token"]


async def test_a_profile_outlives_a_restart_of_the_roster(site):
    await site.ask("PUT", "/devices/d/metadata/profile?instance_id=acme", json={"full_name": "Dee"})
    house = site.running.house
    device = house.roster.device("acme", "d")
    device.profile = None

    async with house.store.read() as conn:
        await fleet.load(conn, house.roster, house.supervisor.default_policy, [device.id])

    assert device.display_name == "Dee"


async def test_locations_are_geojson_with_longitude_first(site):
    await site.push(
        {"device_token": "west", "latitude": 1, "longitude": -179},
        {"device_token": "east", "latitude": 1, "longitude": 179, "altitude": 12},
        {"device_token": "far", "latitude": 1, "longitude": 10},
    )

    async def tokens(query: str) -> set[str]:
        status, found = await site.ask("GET", f"/locations?instance_id=acme{query}")
        assert (status, found["type"]) == (200, "FeatureCollection")
        return {each["properties"]["device_token"] for each in found["features"]}

    _, every = await site.ask("GET", "/locations?instance_id=acme")
    east = next(each for each in every["features"] if each["properties"]["device_token"] == "east")

    assert east["geometry"]["coordinates"] == [179, 1, 12]
    assert east["properties"]["updated_at"].endswith("Z")
    assert await tokens("&bbox=170,-10,-170,10") == {"west", "east"}
    assert await tokens("&bbox=0,0,20,20") == {"far"}
    assert await tokens("&device_token=far") == {"far"}
    assert (await site.ask("GET", "/locations?instance_id=acme&bbox=1,2,3"))[0] == 422


async def test_groups_are_made_replaced_listed_and_removed(site):
    put = await site.ask("PUT", "/groups/g?instance_id=acme", json={"name": "G", "device_tokens": ["b", "a", "a"]})
    again = await site.ask("PUT", "/groups/g?instance_id=acme", json={"device_tokens": ["c"]})
    _, page = await site.ask("GET", "/groups?instance_id=acme")
    got = await site.ask("GET", "/groups/g?instance_id=acme")
    removed = await site.ask("DELETE", "/groups/g?instance_id=acme")
    gone = await site.ask("GET", "/groups/g?instance_id=acme")

    assert (put[0], put[1]["device_tokens"], put[1]["name"]) == (200, ["a", "b"], "G")
    assert (again[1]["device_tokens"], again[1]["name"]) == (["c"], None)
    assert (page["total"], page["groups"][0]["group_id"]) == (1, "g")
    assert got[1] == page["groups"][0]
    assert (removed[0], gone[0]) == (204, 404)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"device_tokens": [""]},
        {"device_tokens": ["a\u0001"]},
        {"device_tokens": "a"},
        {"device_tokens": [], "x": 1},
    ],
)
async def test_a_group_that_is_none_is_422(site, body):
    status, answer = await site.ask("PUT", "/groups/g?instance_id=acme", json=body)

    assert (status, bool(answer["errors"])) == (422, True)


async def test_a_body_larger_than_its_limit_is_413(site):
    big = await site.ask("PUT", "/devices/d/metadata/profile?instance_id=acme", data=io.BytesIO(b" " * 65_537))
    bulk = await site.ask("PUT", "/groups/g?instance_id=acme", data=_big())

    assert big[0] == 413
    assert bulk[0] == 413


def _big() -> io.BytesIO:
    return io.BytesIO(json.dumps({"device_tokens": ["x" * 190] * 9000}).encode())


async def test_sources_are_ranked_and_explained(site):
    await site.push({"device_token": "phone"}, {"device_token": "van"})

    status, ranked = await site.ask(
        "PUT",
        "/devices/van/sources?instance_id=acme",
        json={
            "hold": 10,
            "sources": [
                {"connection_id": "native", "external_id": "van", "fallback_after": 20},
                {"connection_id": "native", "external_id": "phone"},
            ],
        },
    )

    assert status == 200, ranked
    assert [each["external_id"] for each in ranked["sources"]] == ["van", "phone"]
    assert (ranked["hold"], ranked["winner"]["external_id"]) == (10, "van")
