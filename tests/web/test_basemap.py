"""The setting `map.basemap`, the archives that it names, and their tiles over HTTP."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pmtiles.reader import MmapSource, Reader

from waybridge.errors import ConfigurationError
from waybridge.web.archive import Archive
from waybridge.web.basemap import parse_basemap
from waybridge.web.tiles import WORLD, Tiles

from .kit import HELSINKI

IN_TOWN = (14, 9327, 4742)


@pytest.mark.parametrize(
    "setting",
    [
        "",
        "builtin:x",
        "pmtiles:",
        "pmtiles:/no/such/file.pmtiles",
        "style:",
        "style:file:///etc/passwd",
        "raster:https://tiles.example/{z}/{x}.png",
        "mapbox",
    ],
)
def test_a_base_map_that_cannot_be_is_said(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=r"map\.basemap"):
        parse_basemap(setting)


@pytest.mark.parametrize(
    "content", [b"", b"PMTiles", b"PMTiles\x02" + bytes(200), b"x" * 500, b"PMTiles\x03" + bytes(200)]
)
def test_a_file_that_is_no_archive_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pmtiles"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"x\.pmtiles"):
        parse_basemap(f"pmtiles:{path}")


def test_own_streets_tell_schema_bounds_and_credit() -> None:
    config = parse_basemap(f"pmtiles:{HELSINKI}").page_config()
    assert config["schema"] == "openmaptiles"
    assert config["bounds"] == pytest.approx([24.935, 60.164, 24.953, 60.179], abs=0.001)
    assert config["maxzoom"] == 14
    assert config["attribution"][0] == {"text": "© OpenStreetMap", "href": "https://www.openstreetmap.org/copyright"}


@pytest.mark.parametrize(
    ("setting", "hosts"),
    [
        ("builtin", ()),
        (f"pmtiles:{HELSINKI}", ()),
        ("openfreemap", ("https://tiles.openfreemap.org",)),
        ("raster:https://tile.openstreetmap.org/{z}/{x}/{y}.png", ("https://tile.openstreetmap.org",)),
        ("style:https://user:secret@maps.example:8443/style.json?key=1", ("https://maps.example:8443", "https:")),
    ],
)
def test_only_a_foreign_base_map_lets_other_hosts_in(setting: str, hosts: tuple[str, ...]) -> None:
    basemap = parse_basemap(setting)
    assert basemap.hosts == hosts
    assert basemap.foreign == bool(hosts)


@pytest.mark.parametrize(
    "setting", ["builtin", f"pmtiles:{HELSINKI}", "openfreemap", "raster:https://t.example/{z}/{x}/{y}"]
)
def test_somebody_is_credited_and_the_operators_words_win(setting: str) -> None:
    assert parse_basemap(setting).page_config()["attribution"]
    own = parse_basemap(setting, attribution="© Acme").page_config()
    assert own["attribution"] == [{"text": "© Acme", "href": None}]


def test_the_archive_reads_what_the_library_reads() -> None:
    archive = Archive(HELSINKI)
    with HELSINKI.open("rb") as file:
        reader = Reader(MmapSource(file))
        for z, x, y in [(0, 0, 0), (6, 36, 18), (12, 2331, 1185), IN_TOWN, (14, 9327, 4744), (14, 0, 0), (15, 1, 1)]:
            assert archive.tile(z, x, y) == reader.get(z, x, y)
    archive.close()


def test_the_built_in_world_covers_the_globe_in_a_small_file() -> None:
    assert WORLD.stat().st_size < 750_000
    world = Archive(WORLD)
    assert (world.min_zoom, world.max_zoom) == (0, 5)
    assert world.layers() == {"land", "borders", "countries", "cities"}
    assert all(world.tile(1, x, y) is not None for x in (0, 1) for y in (0, 1))
    europe = gzip.decompress(world.tile(5, 18, 9) or b"")
    assert b"Helsinki" in europe
    world.close()


@pytest.fixture
async def client() -> AsyncIterator[TestClient[Any, Any]]:
    tiles = Tiles(basemap=parse_basemap(f"pmtiles:{HELSINKI}"))
    app = web.Application()
    app.add_routes(tiles.routes())
    async with TestClient(TestServer(app), auto_decompress=False) as made:
        yield made
    tiles.close()


async def test_a_tile_passes_through_as_it_is_stored(client: TestClient[Any, Any]) -> None:
    z, x, y = IN_TOWN
    answer = await client.get(f"/tiles/streets/{z}/{x}/{y}.mvt", headers={"Accept-Encoding": "gzip"})
    body = await answer.read()
    assert answer.status == 200
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Cache-Control"] == "public, max-age=86400"
    assert answer.headers["Content-Type"] == "application/vnd.mapbox-vector-tile"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert gzip.decompress(body)
    plain = await client.get(f"/tiles/streets/{z}/{x}/{y}.mvt", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert await plain.read() == gzip.decompress(body)


@pytest.mark.parametrize("place", ["14/0/0", "13/0/0", "20/5/5"])
async def test_a_place_without_a_tile_is_empty(client: TestClient[Any, Any], place: str) -> None:
    answer = await client.get(f"/tiles/streets/{place}.mvt")
    assert (answer.status, await answer.read()) == (204, b"")


@pytest.mark.parametrize(
    "place", ["0/1/0", "1/2/0", "1/0/2", "25/0/0", "14/9327/99999999", "a/b/c", "1/-1/0", "1/1", "99999/1/1"]
)
async def test_a_place_that_is_none_is_not_found(client: TestClient[Any, Any], place: str) -> None:
    assert (await client.get(f"/tiles/streets/{place}.mvt")).status == 404


async def test_there_are_no_streets_where_none_are_configured() -> None:
    app = web.Application()
    app.add_routes(Tiles(basemap=parse_basemap("builtin")).routes())
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/tiles/streets/0/0/0.mvt")).status == 404
        assert (await client.get("/tiles/world/0/0/0.mvt")).status == 200


def test_a_protomaps_archive_is_known_by_its_layers(tmp_path: Path) -> None:
    path = tmp_path / "p.pmtiles"
    path.write_bytes(_with_layers(HELSINKI.read_bytes(), ["earth", "roads", "water"]))
    assert parse_basemap(f"pmtiles:{path}").schema == "protomaps"
    path.write_bytes(_with_layers(HELSINKI.read_bytes(), ["something"]))
    with pytest.raises(ConfigurationError, match="schema"):
        parse_basemap(f"pmtiles:{path}")


def _with_layers(archive: bytes, names: list[str]) -> bytes:
    """The archive with other metadata, put at its end."""
    metadata = gzip.compress(json.dumps({"vector_layers": [{"id": name} for name in names]}).encode())
    changed = bytearray(archive + metadata)
    changed[24:32] = len(archive).to_bytes(8, "little")
    changed[32:40] = len(metadata).to_bytes(8, "little")
    return bytes(changed)
