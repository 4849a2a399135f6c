"""Instances, API clients and their tokens, connections, nodes, health: what operators do."""

from __future__ import annotations

import base64
import json

import pytest


async def test_instances_are_made_changed_and_removed_by_tokens_for_all(site):
    star = site.headers("*")
    made = await site.ask(
        "POST",
        "/instances",
        json={
            "instance_id": "new",
            "name": "New",
            "embed_origins": ["https://A.example"],
            "brand": {"color": "#112233"},
        },
        headers=star,
    )
    again = await site.ask("POST", "/instances", json={"id": "new"}, headers=star)
    _, page = await site.ask("GET", "/instances", headers=star)
    changed = await site.ask("PATCH", "/instances/new", json={"name": None, "brand": {"name": "N"}}, headers=star)
    fixed = await site.ask("PATCH", "/instances/acme", json={"name": "x"}, headers=star)
    removed = await site.ask("DELETE", "/instances/new", headers=star)
    gone = await site.ask("GET", "/instances/new", headers=star)

    assert (made[0], made[1]["embed_origins"], made[1]["origin"]) == (201, ["https://a.example"], "api")
    assert again[0] == 409
    assert [each["id"] for each in page["instances"]] == ["acme", "other", "new"]
    assert (changed[0], changed[1]["name"], changed[1]["brand"]) == (200, None, {"name": "N"})
    assert changed[1]["embed_origins"] == ["https://a.example"]
    assert (fixed[0], removed[0], gone[0]) == (409, 204, 404)


async def test_only_tokens_for_all_instances_see_instances(site):
    status, _ = await site.ask("GET", "/instances", headers=site.headers("acme"))

    assert status == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instance_id": "a b"},
        {"instance_id": "a", "id": "b"},
        {"instance_id": "x", "embed_origins": ["ftp://a"]},
        {"instance_id": "x", "embed_origins": ["https://a/path"]},
        {"instance_id": "x", "brand": {"color": "red"}},
    ],
)
async def test_an_instance_that_is_none_is_422(site, body):
    status, answer = await site.ask("POST", "/instances", json=body, headers=site.headers("*"))

    assert (status, bool(answer["errors"])) == (422, True)


async def test_an_instance_made_at_run_time_takes_pushes_and_keeps_them(site):
    star = site.headers("*")
    await site.ask("POST", "/instances", json={"instance_id": "new"}, headers=star)
    await site.running.house.supervisor.refresh()
    await site.push({"device_token": "d"}, instance="new")

    found = await site.ask("GET", "/devices?instance_id=new", headers=star)
    removed = await site.ask("DELETE", "/instances/new", headers=star)

    assert found[1]["total"] == 1
    assert (removed[0], "1 devices" in removed[1]["detail"]) == (409, True)


async def test_a_new_origin_may_call_at_once(site):
    star = site.headers("*")
    url = f"{site.running.url}/api/v1/devices?instance_id=new"
    await site.ask(
        "POST", "/instances", json={"instance_id": "new", "embed_origins": ["https://n.example"]}, headers=star
    )

    async with site.running.http.get(url, headers={**star, "Origin": "https://n.example"}) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "https://n.example"


async def _token(site, status: int = 200, **options):
    async with site.running.http.post(f"{site.running.url}/oauth/token", **options) as response:
        body = await response.json(content_type=None)
        assert response.status == status, body
        assert response.headers["Cache-Control"] == "no-store"
        return body


async def test_a_client_fetches_tokens_that_work_until_it_is_removed(site):
    _, made = await site.ask("POST", "/clients", json={"name": "backend", "instances": ["acme"], "scope": "read"})
    credentials = f"{made['client_id']}:{made['client_secret']}"
    basic = {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}

    token = await _token(site, data={"grant_type": "client_credentials"}, headers=basic)
    by_query = await _token(site, params={"grant_type": "client_credentials"}, headers=basic)
    form = {"grant_type": "client_credentials", "client_id": made["client_id"], "client_secret": made["client_secret"]}
    await _token(site, data=form)
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    read = await site.ask("GET", "/devices?instance_id=acme", headers=headers)
    write = await site.ask("PUT", "/groups/g?instance_id=acme", json={"device_tokens": []}, headers=headers)
    _, page = await site.ask("GET", "/clients")
    await site.ask("DELETE", f"/clients/{made['client_id']}")

    assert {key: token[key] for key in ("token_type", "expires_in", "scope")} == {
        "token_type": "bearer", "expires_in": 3600, "scope": "read",
    }  # fmt: skip
    assert by_query["scope"] == "read"
    assert (read[0], write[0]) == (200, 403)
    assert "client_secret" not in json.dumps(page)
    assert made["client_secret"] not in json.dumps(page)
    assert (await _token(site, 401, data=form))["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "client_credentials", "client_id": "x", "client_secret": "y"}, 401, "invalid_client"),
    ],
)
async def test_refusals_are_rfc_6749s(site, form, status, error):
    assert (await _token(site, status, data=form))["error"] == error


async def test_a_client_reaches_no_further_than_who_made_it(site):
    body = {"name": "c", "instances": ["other"], "scope": "read"}

    foreign = await site.ask("POST", "/clients", json=body)
    every = await site.ask("POST", "/clients", json={**body, "instances": ["*"]})
    scope = await site.ask("POST", "/clients", json={**body, "instances": ["acme"], "scope": "root"})

    assert (foreign[0], every[0], scope[0]) == (404, 404, 422)


async def test_connections_are_made_changed_checked_and_removed(site):
    made = await site.ask(
        "POST",
        "/connections",
        json={
            "connection_id": "taxis",
            "provider": "driver_events",
            "instance_id": "acme",
            "settings": {"stale_after": 30},
        },
    )
    again = await site.ask(
        "POST", "/connections", json={"connection_id": "taxis", "provider": "driver_events", "instance_id": "acme"}
    )
    unknown = await site.ask("POST", "/connections", json={"provider": "pigeon", "instance_id": "acme"})
    wrong = await site.ask(
        "POST", "/connections", json={"provider": "driver_events", "instance_id": "acme", "settings": {"nope": 1}}
    )
    changed = await site.ask("PATCH", "/connections/taxis", json={"settings": {"stale_after": 40}})
    checked = await site.ask("POST", "/connections/taxis/check")
    restarted = await site.ask("POST", "/connections/taxis/restart")
    asked = await site.ask("POST", "/connections/taxis/location/request", json={"chat_id": "c"})
    foreign = await site.ask(
        "POST", "/connections/taxis/location/request", json={"chat_id": "c", "instance_id": "other"}
    )
    _, page = await site.ask("GET", "/connections?instance_id=acme")
    _, untold = await site.ask("PATCH", "/connections/taxis", json={"settings": {"stale_after": None}})
    removed = await site.ask("DELETE", "/connections/taxis")

    assert (made[0], made[1]["origin"], made[1]["connection_id"]) == (201, "api", "taxis")
    assert (again[0], unknown[0], wrong[0]) == (409, 422, 422)
    assert (changed[0], changed[1]["settings"]["stale_after"]) == (200, 40)
    assert (checked[0], set(checked[1])) == (200, {"ok", "detail"})
    assert (restarted[0], asked[0], foreign[0]) == (200, 409, 404)
    assert [each["connection_id"] for each in page["connections"]] == ["native", "taxis"]
    assert page["connections"][0]["settings"]["stale_after"] == 60
    assert untold["settings"]["stale_after"] == 20
    assert (removed[0], (await site.ask("GET", "/connections/taxis"))[0]) == (204, 404)


async def test_credentials_of_a_connection_are_never_shown(site):
    secret = "sk-very-secret-0123456789"
    settings = {"api_key": secret, "base_url": "https://api.linq.example/api/partner"}
    made = await site.ask(
        "POST", "/connections", json={"provider": "imessage", "instance_id": "acme", "settings": settings}
    )
    _, page = await site.ask("GET", "/connections")

    assert made[0] == 201, made[1]
    assert made[1]["settings"]["api_key"] == "***"
    assert secret not in json.dumps([made, page])


async def test_nodes_are_for_operators(site):
    status, page = await site.ask("GET", "/nodes")
    lacking, _ = await site.ask("GET", "/nodes", headers=site.headers("acme", scope="read"))

    assert (status, page["total"], lacking) == (200, 1, 403)


@pytest.mark.parametrize("path", ["/health", "/api/v1/health", "/realtime/api/v1/health", "/health/ready"])
async def test_health_is_open_and_names_the_version(site, path):
    async with site.running.http.get(site.running.url + path) as response:
        body = await response.json()

    assert (response.status, body["status"]) == (200, "ok")
    assert body["version"]


async def test_the_description_and_its_page_come_from_here(site):
    http, url = site.running.http, site.running.url
    async with http.get(f"{url}/openapi.json") as response:
        described = await response.json()
    async with http.get(f"{url}/docs") as response:
        page = await response.text()
        csp = response.headers["Content-Security-Policy"]
    for asset in ("/docs/page.js", "/docs/style.css"):
        async with http.get(url + asset) as response:
            assert response.status == 200

    assert described["openapi"] == "3.1.0"
    assert "/api/v1/devices/{device_token}/position" in described["paths"]
    assert "default-src 'none'" in csp
    assert "http:" not in page
    assert "https:" not in page
