"""Every route with every id of another instance: the answer is, byte for byte, that of an id that never existed."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from waybridge.app import Endpoints

OTHERS = {"device_token": "van-1", "group_id": "seeded"}
NEVER = {
    "device_token": "never-seen",
    "group_id": "never-made",
    "session_id": "000000000000000000000000",
    "subscription_id": "00000000-0000-0000-0000-000000000000",
    "connection_id": "never-made",
    "client_id": "client_000000000000000000000000",
    "id": "never-made",
}
BODIES: dict[str, Any] = {
    "PUT /devices/{device_token}/sources": {"sources": [{"connection_id": "native", "external_id": "a"}]},
    "PATCH /devices/{device_token}/metadata/display-field": {"display_field": "email"},
    "POST /connections/{connection_id}/location/request": {"chat_id": "chat"},
    "PATCH /connections/{connection_id}": {"settings": {}},
    "PATCH /sharing/sessions/{session_id}": {"notes": "x"},
    "PUT /webhook-subscriptions/{subscription_id}": {"is_active": False},
    "POST /webhook-subscriptions/{subscription_id}/replay": {"since": 0},
    "PATCH /instances/{id}": {"name": "x"},
}
MAKES = {"PUT /groups/{group_id}", "PUT /devices/{device_token}/metadata/profile"}
"""What a caller makes in its own instance under any id is its own."""


async def _plant(site) -> dict[str, str]:
    """Objects of every kind in the other instance, by the name of their id."""
    headers = site.headers("other")
    await site.push({"device_token": "van-1"}, instance="other")

    async def made(method: str, path: str, body: dict[str, Any], key: str, as_: dict[str, str] = headers) -> str | None:
        status, answer = await site.ask(method, path, json=body, headers=as_)
        assert status in (200, 201, 404), answer
        return answer.get(key)

    await made("PUT", "/groups/seeded?instance_id=other", {"device_tokens": ["van-1"]}, "group_id")
    found = {
        **OTHERS,
        "session_id": await made("POST", "/sharing/sessions", {"device_token": "van-1", "instance_id": "other"}, "id"),
        "subscription_id": await made(
            "POST",
            "/webhook-subscriptions",
            {"target_url": "https://h.example.com/", "subscribed_events": ["*"], "instance_id": "other"},
            "id",
        ),
        "connection_id": await made(
            "POST", "/connections", {"provider": "driver_events", "instance_id": "other"}, "connection_id"
        ),
        "client_id": await made(
            "POST", "/clients", {"name": "c", "instances": ["other"], "scope": "read"}, "client_id"
        ),
        "id": "other",
    }
    return {name: value for name, value in found.items() if value is not None}


async def _bytes(site, method: str, path: str, body: Any) -> tuple[int, bytes]:
    options = {"json": body} if body is not None else {}
    async with site.running.http.request(
        method, f"{site.running.url}/api/v1{path}", headers=site.headers("acme"), **options
    ) as response:
        return response.status, await response.read()


@pytest.mark.parametrize("query", ["?instance_id=acme", "?instance_id=other", ""])
async def test_another_instances_objects_read_like_ids_that_never_existed(site, query):
    others = await _plant(site)
    checked = 0
    for operation in Endpoints(site.running.house).operations():
        names = re.findall(r"\{(\w+)\}", operation.path)
        name = f"{operation.method} {operation.path}"
        if operation.scope is None or operation.websocket or not names or not set(names) <= others.keys():
            continue
        if name in MAKES and query == "?instance_id=acme":
            continue
        foreign, never = operation.path, operation.path
        for each in names:
            foreign = foreign.replace(f"{{{each}}}", others[each])
            never = never.replace(f"{{{each}}}", NEVER[each])
        told = await _bytes(site, operation.method, foreign + query, BODIES.get(name))
        expected = await _bytes(site, operation.method, never + query, BODIES.get(name))

        assert told == expected, name
        assert told[0] in ((404, 403, 422) if query != "?instance_id=other" else (404, 403)), name
        if told[0] == 403:
            assert operation.path.startswith("/instances"), name
        checked += 1
    assert checked >= 20


async def test_lists_of_another_instance_are_no_instance_at_all(site):
    await _plant(site)
    for operation in Endpoints(site.running.house).operations():
        if operation.scope is None or "{" in operation.path or operation.instance in ("none", "optional"):
            continue
        foreign = await _bytes(site, operation.method, f"{operation.path}?instance_id=other", None)
        never = await _bytes(site, operation.method, f"{operation.path}?instance_id=never-made", None)

        assert foreign == never, operation.path
        assert foreign[0] in (404, 400), operation.path


async def test_for_a_token_of_all_instances_one_that_is_none_is_like_a_foreign_one(site):
    await _plant(site)
    star = site.headers("*")
    made = {
        "POST /connections": {"provider": "driver_events"},
        "PUT /groups/g": {"device_tokens": []},
        "PUT /devices/d/metadata/profile": {"first_name": "A"},
        "POST /sharing/sessions": {"device_token": "d"},
    }
    for name, body in made.items():
        method, _, path = name.partition(" ")
        status, answer = await site.ask(method, f"{path}?instance_id=never-made", json=body, headers=star)
        assert status == 404, (name, answer)
    for path in ("/devices", "/devices/metadata", "/locations", "/groups", "/connections", "/sharing/sessions"):
        foreign = await _bytes(site, "GET", f"{path}?instance_id=other", None)
        never = await site.ask("GET", f"{path}?instance_id=never-made", headers=star)
        assert (foreign[0], never[0]) == (404, 404), path
        assert json.loads(foreign[1]) == never[1], path


async def test_nothing_of_another_instance_stands_in_any_list(site):
    others = await _plant(site)
    await site.push({"device_token": "mine", "timestamp": time.time()})
    for operation in Endpoints(site.running.house).operations():
        if operation.scope is None or operation.websocket or "{" in operation.path or operation.method != "GET":
            continue
        query = "" if operation.instance == "none" else "?instance_id=acme"
        status, body = await _bytes(site, "GET", operation.path + query, None)

        assert status in (200, 403), operation.path
        for value in {*others.values()} - {"other"}:
            assert value.encode() not in body, (operation.path, value)


@pytest.mark.parametrize("path", ["/devices/van-1/position", "/devices/van-1/tracks", "/devices/van-1/stats"])
async def test_a_device_in_two_instances_of_the_token_must_be_told_apart(site, path):
    await site.push({"device_token": "van-1"})
    await site.push({"device_token": "van-1"}, instance="other")
    both = site.headers("acme", "other")

    status, _ = await site.ask("GET", path, headers=both)
    named, _ = await site.ask("GET", f"{path}?instance_id=acme", headers=both)

    assert (status, named) == (409, 200)
