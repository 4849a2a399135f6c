"""The HTML of both pages: status codes, headers, previews, languages, and what hostile texts become."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from waybridge.web.basemap import parse_basemap
from waybridge.web.brand import Brand
from waybridge.web.bundle import Bundle, load_bundle, render, script_json
from waybridge.web.pages import InstanceView, Pages, ShareView

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028&\"'"
VIEWS = {
    "live": ShareView(state="active", instance_id="acme"),
    "done": ShareView(state="ended", instance_id="acme", reason="completed"),
    "stopped": ShareView(state="ended", instance_id="acme", reason="cancelled"),
    "dark": ShareView(state="unavailable"),
    "hostile": ShareView(state="active", instance_id="hostile"),
}
INSTANCES = {
    "acme": InstanceView(
        brand=Brand(name="Northwind Couriers", color="#7a1fa2"), embed_origins=("https://portal.acme.example",)
    ),
    "hostile": InstanceView(brand=Brand(name=HOSTILE)),
}
Get = Callable[..., Any]


def make(**more: Any) -> Pages:
    async def share_state(token: str) -> ShareView:
        return VIEWS.get(token, ShareView(state="not_found"))

    async def instance(instance_id: str) -> InstanceView | None:
        return INSTANCES.get(instance_id)

    base = {"basemap": parse_basemap("builtin"), "public_base_url": "https://track.example", "bundle": load_bundle()}
    return Pages(
        share_state=share_state,
        instance=instance,
        default_brand=Brand(),
        clock=lambda: 1_776_000_000.5,
        **(base | more),
    )


async def client_of(pages: Pages) -> TestClient[Any, Any]:
    app = web.Application()
    app.add_routes(pages.routes())
    client: TestClient[Any, Any] = TestClient(TestServer(app))
    await client.start_server()
    return client


@pytest.fixture
async def client() -> AsyncIterator[TestClient[Any, Any]]:
    made = await client_of(make())
    yield made
    await made.close()


def boot_of(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="boot">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def csp_of(answer: Any) -> dict[str, list[str]]:
    parts = (part.split() for part in answer.headers["Content-Security-Policy"].split(";"))
    return {name: sources for name, *sources in parts}


async def test_a_slash_behind_a_link_does_no_harm(client: TestClient[Any, Any]) -> None:
    answer = await client.get("/share/live/?embed=map", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (308, "../live?embed=map")
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert (await client.get("/share/live/")).status == 200
    assert (await client.get("/share/nothing/")).status == 404
    hostile = await client.get("/share/%2F%2Fevil.example/", allow_redirects=False)
    assert hostile.headers["Location"] == "../%2F%2Fevil.example"


@pytest.mark.parametrize(("token", "status"), [("live", 200), ("done", 410), ("stopped", 410), ("nothing", 404)])
async def test_the_html_has_the_status_of_the_link_and_is_never_kept(
    client: TestClient[Any, Any], token: str, status: int
) -> None:
    answer = await client.get(f"/share/{token}")
    assert answer.status == status
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Robots-Tag"] == "noindex, nofollow, noarchive"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Permissions-Policy"] == "geolocation=(), camera=(), microphone=()"
    assert 'name="robots" content="noindex' in await answer.text()


async def test_the_policy_lets_nothing_in_but_the_own_host(client: TestClient[Any, Any]) -> None:
    policy = csp_of(await client.get("/share/live", headers={"Host": "track.example"}))
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["worker-src"] == ["'self'"]
    assert policy["connect-src"] == ["'self'", "wss://track.example"]
    assert policy["frame-ancestors"] == ["'none'"]
    assert policy["base-uri"] == policy["form-action"] == ["'none'"]


async def test_a_hostile_host_header_does_not_reach_the_policy(client: TestClient[Any, Any]) -> None:
    policy = csp_of(await client.get("/share/live", headers={"Host": "evil.example *; script-src *"}))
    assert policy["connect-src"] == ["'self'"]
    assert policy["script-src"] == ["'self'"]


async def test_a_foreign_base_map_opens_its_host_alone_and_shows_it_the_origin() -> None:
    client = await client_of(make(basemap=parse_basemap("raster:https://tile.openstreetmap.org/{z}/{x}/{y}.png")))
    answer = await client.get("/share/live")
    assert "https://tile.openstreetmap.org" in csp_of(answer)["img-src"]
    assert "https://tile.openstreetmap.org" in csp_of(answer)["connect-src"]
    assert answer.headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
    await client.close()


async def test_the_boot_data_hold_nothing_of_who_or_where(client: TestClient[Any, Any]) -> None:
    text = await (await client.get("/share/live")).text()
    boot = boot_of(text)
    assert set(boot) == {"api", "language", "server_time", "brand", "map", "texts", "reconnect_ms"}
    assert boot["server_time"] == 1_776_000_000.5
    assert boot["api"] is None
    assert "acme" not in text


async def test_a_preview_names_the_brand_and_nobody_else(client: TestClient[Any, Any]) -> None:
    text = await (await client.get("/share/live")).text()
    assert '<meta property="og:title" content="Northwind Couriers is sharing a live location"' in text
    assert '<meta property="og:image" content="https://track.example/og.png"' in text
    gone = await (await client.get("/share/nothing")).text()
    assert '<meta property="og:title" content="Link not found"' in gone


async def test_hostile_text_is_text(client: TestClient[Any, Any]) -> None:
    text = await (await client.get("/share/hostile")).text()
    assert "<img" not in text
    assert boot_of(text)["brand"]["name"] == HOSTILE
    assert text.count("</script>") == 2


@pytest.mark.parametrize("value", [HOSTILE, {"a": ["<!--", "]]>", "\u2029"]}, "&lt;"])
def test_json_in_a_script_survives_and_ends_nothing(value: Any) -> None:
    text = script_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


def test_a_template_escapes_every_value() -> None:
    assert render('<a title="{{x}}">', {"x": '"><b>'}) == '<a title="&quot;&gt;&lt;b&gt;">'


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("pl,cs;q=0.9,sk;q=0.8,en;q=0.7", "sk"),
        ("ar-EG", "ar"),
        ("fr;q=0.1, es;q=0.5", "es"),
        ("", "en"),
        ("xx", "en"),
        ("de;q=0", "en"),
        ("\x7f,;;q=,,de;q=9.99999", "en"),
        ("a" * 5000 + ",de", "en"),
    ],
)
def test_the_language_is_the_readers_best(accept: str, language: str) -> None:
    bundle = load_bundle()
    assert bundle is not None
    assert bundle.language(accept) == language


async def test_a_reader_of_arabic_gets_the_page_from_right_to_left(client: TestClient[Any, Any]) -> None:
    text = await (await client.get("/share/live", headers={"Accept-Language": "ar"})).text()
    assert '<html lang="ar" dir="rtl">' in text
    assert boot_of(text)["texts"]["live"] == "مباشر"


async def test_an_end_is_told_in_words_without_a_script(client: TestClient[Any, Any]) -> None:
    completed = await (await client.get("/share/done")).text()
    assert "The trip is complete. Live location is no longer shared." in completed
    assert "<script" not in completed
    cancelled = await (await client.get("/share/stopped", headers={"Accept-Language": "de"})).text()
    assert "Die Freigabe des Live-Standorts wurde beendet." in cancelled


async def test_while_the_database_is_down_the_page_says_so_and_when_to_come_back(client: TestClient[Any, Any]) -> None:
    answer = await client.get("/share/dark")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
    assert "Please wait a moment, then try again." in await answer.text()


async def test_the_tracker_is_framed_only_by_the_instances_own_origins(client: TestClient[Any, Any]) -> None:
    own = await client.get("/embed/tracker?instance_id=acme")
    assert csp_of(own)["frame-ancestors"] == ["https://portal.acme.example"]
    assert boot_of(await own.text())["parents"] == ["https://portal.acme.example"]
    unknown = await client.get("/embed/tracker?instance_id=nobody")
    assert (unknown.status, csp_of(unknown)["frame-ancestors"]) == (200, ["'none'"])


async def test_a_share_page_may_be_framed_as_a_bare_map_by_the_same_origins(client: TestClient[Any, Any]) -> None:
    assert csp_of(await client.get("/share/live?embed=map"))["frame-ancestors"] == ["https://portal.acme.example"]
    assert csp_of(await client.get("/share/live?embed=all"))["frame-ancestors"] == ["'none'"]


async def test_a_hostile_instance_id_is_text(client: TestClient[Any, Any]) -> None:
    answer = await client.get("/embed/tracker", params={"instance_id": HOSTILE})
    text = await answer.text()
    assert "<img" not in text
    assert boot_of(text)["instance_id"] == HOSTILE


async def test_pages_on_a_host_of_their_own_speak_to_the_api() -> None:
    client = await client_of(make(share_page_base_url="https://go.example"))
    answer = await client.get("/share/live", headers={"Host": "go.example"})
    assert boot_of(await answer.text())["api"] == "https://track.example"
    assert {"https://track.example", "wss://track.example"} <= set(csp_of(answer)["connect-src"])
    same = await client.get("/share/live", headers={"Host": "track.example"})
    assert boot_of(await same.text())["api"] is None
    await client.close()


async def test_assets_are_kept_for_ever_and_compressed(client: TestClient[Any, Any]) -> None:
    text = await (await client.get("/share/live")).text()
    names = re.findall(r'(?:src|href)="\.\./(assets/[^"]+)"', text)
    assert names
    for name in names:
        answer = await client.get(f"/{name}", headers={"Accept-Encoding": "gzip"})
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Content-Type"].split(";")[0] in {"text/javascript", "text/css"}


@pytest.mark.parametrize(
    "path", ["/assets/none.js", "/assets/..%2fshare.html", "/assets/.env", "/assets/%2e%2e%2fshare.html", "/assets/"]
)
async def test_nothing_else_can_be_fetched_as_an_asset(client: TestClient[Any, Any], path: str) -> None:
    assert (await client.get(path)).status == 404


async def test_the_element_has_a_name_that_stays(client: TestClient[Any, Any]) -> None:
    answer = await client.get("/live-tracker.js")
    found = re.fullmatch(r'export \* from "\./(assets/live-tracker-[\w-]+\.js)"\n', await answer.text())
    assert found is not None
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    script = await client.get(f"/{found[1]}")
    assert (script.status, script.headers["Access-Control-Allow-Origin"]) == (200, "*")


async def test_crawlers_may_fetch_what_tells_them_not_to_index(client: TestClient[Any, Any]) -> None:
    robots = await (await client.get("/robots.txt")).text()
    assert "/share" not in robots


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/og.png", "image/png"), ("/apple-touch-icon.png", "image/png"), ("/favicon.svg", "image/svg+xml")],
)
async def test_pictures_of_previews_are_there(client: TestClient[Any, Any], path: str, kind: str) -> None:
    answer = await client.get(path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)


async def test_an_installation_without_pages_says_so() -> None:
    client = await client_of(make(bundle=None))
    answer = await client.get("/share/live")
    assert (answer.status, "SKIP_WEB_BUILD" in await answer.text()) == (503, True)
    await client.close()


def test_every_language_has_every_text() -> None:
    bundle = Bundle()
    assert set(bundle.texts) == {"en", "de", "fr", "es", "sk", "ar"}
    assert all(set(texts) == set(bundle.texts["en"]) for texts in bundle.texts.values())
