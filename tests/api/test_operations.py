"""What holds for every operation: tokens, scopes, instances, bodies, errors, other origins."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest
from aiohttp import web
from yarl import URL

from api.api_fakes import FakeAuth, FakeOrigins, FakePrincipal
from waybridge.api.address import ClientAddress
from waybridge.api.bodies import Body, Paging, QueryBool, Whole
from waybridge.api.cors import CrossOrigin
from waybridge.api.operations import Call, Dispatcher, Operation
from waybridge.api.server import edge, loggable_path, mount
from waybridge.errors import StoreUnavailable


class Thing(Body):
    name: str
    size: Whole = 1
    instance_id: str | None = None


class Listing(Paging):
    loud: QueryBool = False


async def _echo(call: Call) -> web.StreamResponse:
    body = call.body.model_dump() if call.body is not None else None
    query = call.query.model_dump() if call.query is not None else None
    return call.json({"instance_id": call.instance_id, "path": dict(call.path), "body": body, "query": query})


async def _broken(_: Call) -> web.StreamResponse:
    raise RuntimeError("secret detail")


async def _down(_: Call) -> web.StreamResponse:
    raise StoreUnavailable("dsn with password")


async def _vendor(_: web.Request) -> web.Response:
    return web.Response(text="a vendor's own dialect")


def _operations() -> list[Operation]:
    common = {"summary": "", "tag": "test"}
    return [
        Operation(method="GET", path="/things", handler=_echo, scope="read", query=Listing, **common),
        Operation(
            method="POST", path="/things", handler=_echo, scope="write", body=Thing, instance="body_or_query", **common
        ),
        Operation(
            method="GET", path="/things/{thing_id}", handler=_echo, scope="read", absent="no such thing", **common
        ),
        Operation(
            method="PUT",
            path="/things/{thing_id}",
            handler=_echo,
            scope="write",
            body=Thing,
            body_required=False,
            **common,
        ),
        Operation(method="GET", path="/share/{key}", handler=_echo, scope=None, instance="none", **common),
        Operation(method="GET", path="/state", handler=_echo, scope=None, instance="none", **common),
        Operation(method="GET", path="/broken", handler=_broken, scope="read", instance="none", **common),
        Operation(method="GET", path="/down", handler=_down, scope="read", instance="none", **common),
    ]


@pytest.fixture
async def client(aiohttp_client):
    auth = FakeAuth(
        {
            "all": FakePrincipal(),
            "star": FakePrincipal(instances=frozenset({"*"})),
            "reader": FakePrincipal(scopes=frozenset({"read"})),
        }
    )
    cross_origin = CrossOrigin(
        FakeOrigins({"acme": {"https://portal.acme.example"}, "other": {"https://other.example"}})
    )
    app = web.Application(middlewares=[edge(cross_origin)])
    app.router.add_get("/vendor/v3/things", _vendor)
    app.router.add_route("*", "/ingest/{tail:.*}", _vendor)
    mount(app, _operations(), dispatcher=Dispatcher(auth, ClientAddress()), cross_origin=cross_origin)
    return await aiohttp_client(app)


def bearer(token: str = "all") -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def problem(response) -> dict:
    assert response.content_type == "application/problem+json"
    body = await response.json(content_type=None)
    assert body["status"] == response.status
    assert {"type", "title", "status", "detail"} <= body.keys()
    return body


@pytest.mark.parametrize("prefix", ["/api/v1", "/realtime/api/v1"])
async def test_an_operation_answers_under_every_prefix(client, prefix):
    response = await client.get(f"{prefix}/things?instance_id=acme&limit=7&loud=true", headers=bearer())

    assert response.status == 200
    assert (await response.json())["query"] == {"limit": 7, "offset": 0, "loud": True}
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer \xfc"},
        {"Authorization": "Bearer nobody"},
    ],
)
async def test_a_missing_or_bad_token_is_401(client, headers):
    response = await client.get("/api/v1/things?instance_id=acme", headers=headers)

    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    await problem(response)


async def test_a_lacking_scope_is_403(client):
    response = await client.post("/api/v1/things", json={"name": "a", "instance_id": "acme"}, headers=bearer("reader"))

    assert response.status == 403
    await problem(response)


async def test_an_instance_outside_the_token_reads_like_an_object_that_never_existed(client):
    foreign = await client.get("/api/v1/things/1?instance_id=other", headers=bearer())
    never = await client.get("/api/v1/things/1?instance_id=never-made", headers=bearer())

    assert foreign.status == never.status == 404
    assert await foreign.read() == await never.read()
    assert (await problem(foreign))["detail"] == "no such thing"


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("", {"name": "a", "instance_id": "acme"}, 200),
        ("?instance_id=acme", {"name": "a"}, 200),
        ("?instance_id=acme", {"name": "a", "instance_id": "acme"}, 200),
        ("?instance_id=acme", {"name": "a", "instance_id": "other"}, 422),
        ("", {"name": "a"}, 422),
        ("", {"name": "a", "instance_id": "other"}, 404),
        ("?instance_id=acme&instance_id=acme", {"name": "a"}, 422),
        ("?instance_id=", {"name": "a"}, 404),
    ],
)
async def test_the_instance_comes_from_the_query_or_the_body(client, query, body, status):
    response = await client.post(f"/api/v1/things{query}", json=body, headers=bearer())

    assert response.status == status


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"name": "a", "name": "b", "instance_id": "acme"}', 400),
        (b'{"name": "a", "size": NaN, "instance_id": "acme"}', 400),
        (b'{"name": "a", "size": 1e999, "instance_id": "acme"}', 422),
        (b'{"name": "a", "size": ' + b"9" * 5000 + b', "instance_id": "acme"}', 400),
        (b"[" * 60_000, 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b'{"name": "\\u0000", "instance_id": "acme"}', 422),
        (b'{"name": "\\ud800", "instance_id": "acme"}', 422),
        (b'{"name": 1, "instance_id": "acme"}', 422),
        (b'{"name": "a", "size": true, "instance_id": "acme"}', 422),
        (b'{"name": "a", "size": "1", "instance_id": "acme"}', 422),
        (b'{"name": "a", "unknown": 1, "instance_id": "acme"}', 422),
        (b'{"name": "a", "size": 64.0, "instance_id": "acme"}', 200),
        (b'{"name": "\\ud83d\\ude00", "instance_id": "acme"}', 200),
        (b'{"name": "' + b"x" * 70_000 + b'", "instance_id": "acme"}', 413),
    ],
)
async def test_bodies_are_refused_as_they_deserve(client, raw, status):
    response = await client.post(
        "/api/v1/things", data=raw, headers={**bearer(), "Content-Type": "application/json; charset=utf-8"}
    )

    assert response.status == status
    if status == 422:
        assert (await problem(response))["errors"]
    elif status != 200:
        await problem(response)


async def test_a_body_that_unpacks_to_too_much_is_413(client):
    response = await client.post(
        "/api/v1/things",
        data=gzip.compress(b" " * 10_000_000),
        headers={**bearer(), "Content-Type": "application/json", "Content-Encoding": "gzip"},
    )

    assert response.status == 413


async def test_a_body_that_is_not_what_its_encoding_says_is_400(client):
    response = await client.post(
        "/api/v1/things",
        data=b"no gzip",
        headers={**bearer(), "Content-Type": "application/json", "Content-Encoding": "gzip"},
    )

    assert response.status == 400


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]
)
async def test_a_body_of_another_type_is_415(client, kind):
    response = await client.post("/api/v1/things", data=b"{}", headers={**bearer(), "Content-Type": kind})

    assert response.status == 415
    await problem(response)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=1_0", "limit=", "limit=a", "limit=1&limit=2", "offset=-1", "loud=yes"]
)
async def test_a_bad_query_is_422_with_its_field(client, query):
    response = await client.get(f"/api/v1/things?instance_id=acme&{query}", headers=bearer())

    assert response.status == 422
    assert (await problem(response))["errors"][0]["field"] == query.partition("=")[0]


async def test_unknown_query_parameters_are_ignored(client):
    response = await client.get("/api/v1/things?instance_id=acme&_=123", headers=bearer())

    assert response.status == 200


@pytest.mark.parametrize("text", ["%00", "a%0Ab", "%7F", "%C2%85"])
async def test_control_characters_in_a_path_name_nothing(client, text):
    found = await client.get(f"/api/v1/things/{text}?instance_id=acme", headers=bearer())
    made = await client.put(f"/api/v1/things/{text}?instance_id=acme", headers=bearer())

    assert found.status == 404
    assert made.status == 422


@pytest.mark.parametrize(("text", "value"), [("a%2Fb", "a/b"), ("%C3%BD", "ý"), ("a%20b", "a b"), ("%25", "%")])
async def test_a_path_parameter_is_decoded_once(client, text, value):
    response = await client.get(URL(f"/api/v1/things/{text}?instance_id=acme", encoded=True), headers=bearer())

    assert (await response.json())["path"] == {"thing_id": value}


async def test_unknown_addresses_and_methods_are_problems(client):
    nothing = await client.get("/api/v1/nothing")
    method = await client.delete("/api/v1/things")
    outside = await client.get("/nothing")

    assert [nothing.status, method.status, outside.status] == [404, 405, 404]
    assert "POST" in method.headers["Allow"]
    for response in (nothing, method, outside):
        await problem(response)


async def test_a_bug_is_a_500_that_tells_nothing(client):
    response = await client.get("/api/v1/broken", headers=bearer())

    assert response.status == 500
    assert "secret" not in json.dumps(await problem(response))


async def test_a_store_that_is_down_is_a_503_to_be_tried_again(client):
    response = await client.get("/api/v1/down", headers=bearer())

    assert response.status == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "password" not in json.dumps(await problem(response))


async def test_a_transfer_encoding_that_proxies_read_differently_is_refused(client):
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"POST /api/v1/things HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n")
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()

    assert b" 400 " in line


async def test_what_needs_no_token_but_is_no_share_is_not_open_to_every_origin(client):
    response = await client.get("/api/v1/state", headers={"Origin": "https://anything.example"})

    assert response.status == 200
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_public_operation_is_open_to_every_origin(client):
    response = await client.get("/api/v1/share/1", headers={"Origin": "https://anything.example"})

    assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("https://portal.acme.example", True), ("https://other.example", False), ("null", False)],
)
async def test_other_operations_are_open_to_the_instances_own_origins(client, origin, allowed):
    response = await client.get("/api/v1/things?instance_id=acme", headers={**bearer(), "Origin": origin})

    assert response.status == 200
    assert (response.headers.get("Access-Control-Allow-Origin") == origin) is allowed
    assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://portal.acme.example", True), ("https://evil.example", False)]
)
async def test_a_preflight_is_answered_without_a_token(client, origin, allowed):
    response = await client.options(
        "/api/v1/things", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
    )

    assert response.status == 204
    assert (response.headers.get("Access-Control-Allow-Origin") == origin) is allowed
    if allowed:
        assert "authorization" in response.headers["Access-Control-Allow-Headers"].lower()


@pytest.mark.parametrize("path", ["/vendor/v3/things", "/ingest/native/positions"])
@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://portal.acme.example", True), ("https://evil.example", False)]
)
async def test_a_preflight_of_a_vendors_dialect_is_answered_alike(client, path, origin, allowed):
    response = await client.options(path, headers={"Origin": origin, "Access-Control-Request-Method": "GET"})

    assert response.status == 204
    assert (response.headers.get("Access-Control-Allow-Origin") == origin) is allowed
    if allowed:
        assert "authorization" in response.headers["Access-Control-Allow-Headers"].lower()


async def test_what_is_nowhere_has_no_preflight(client):
    asked = {"Origin": "https://portal.acme.example", "Access-Control-Request-Method": "GET"}

    assert (await client.options("/nowhere", headers=asked)).status == 404
    assert (await client.options("/vendor/v3/things")).status == 405


@pytest.mark.parametrize("path", ["/vendor/v3/things", "/nowhere", "/api/v1/state"])
async def test_no_answer_names_the_server_software(client, path):
    for method in ("GET", "OPTIONS"):
        response = await client.request(method, path)
        assert response.headers["Server"] == "Waybridge"


def test_a_share_token_never_stands_in_the_log():
    assert "Ef0XtIPPXp" not in loggable_path("/api/v1/share/Ef0XtIPPXp/live")
    for mistyped in ("/SHARE/r2N1UxrcmuXQCd6fEi_X1A", "/s/r2N1UxrcmuXQCd6fEi_X1A/", "/r2N1UxrcmuXQCd6fEi_X1A."):
        assert "r2N1UxrcmuXQ" not in loggable_path(mistyped, known=False)
    assert loggable_path("/share/a\nb") == loggable_path("/share/a\nb").splitlines()[0]
