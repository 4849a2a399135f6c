"""What the pages may weigh (brotli), and what they may ask for before their text is on the screen."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

from waybridge.web.bundle import DIST, script_json

KB = 1000
HTML = (DIST / "share.html").read_text("utf-8")


def weight(name: str) -> int:
    """Brotli bytes of a built asset."""
    return Path(DIST / "assets" / f"{name}.br").stat().st_size


def first_load(kind: str) -> list[str]:
    return re.findall(rf'"\./assets/([^"]+\.{kind})"', HTML)


def asset(pattern: str) -> str:
    """The asset whose text or name matches; exactly one does."""
    found = [path.name for path in (DIST / "assets").glob(pattern)]
    assert len(found) == 1, found
    return found[0]


def engine() -> str:
    """The chunk that holds MapLibre: by far the biggest script that is no worker."""
    scripts = [path for path in (DIST / "assets").glob("*.js") if "worker" not in path.name]
    return max(scripts, key=lambda path: path.stat().st_size).name


def test_the_first_load_of_the_share_page_is_small() -> None:
    assert first_load("js")
    assert first_load("css")
    assert sum(map(weight, first_load("js"))) <= 12 * KB
    assert sum(map(weight, first_load("css"))) <= 5 * KB


def test_the_html_with_its_boot_data_is_small() -> None:
    texts = json.loads((DIST / "texts.json").read_text("utf-8"))
    pages = [(HTML + script_json(each)).encode() for each in texts.values()]
    # gzip is never smaller than brotli at its best, so what holds for it holds for brotli
    assert max(len(gzip.compress(page, 9)) for page in pages) <= 8 * KB


def test_the_map_is_no_part_of_the_first_load_and_within_its_budget() -> None:
    assert engine() not in HTML
    for script in first_load("js"):
        text = (DIST / "assets" / script).read_text("utf-8")
        static = re.findall(r'(?:^|[;}])import(?:[^"\'(]*from)?["\']\./([^"\']+)["\']', text)
        assert engine() not in static
    assert weight(engine()) <= 250 * KB
    assert weight(asset("maplibre-gl-worker-*.js")) <= 125 * KB


def test_every_text_asset_is_precompressed() -> None:
    for path in (DIST / "assets").iterdir():
        if path.suffix in {".js", ".css"} and path.stat().st_size >= 512:
            assert path.with_name(f"{path.name}.br").is_file(), path.name
            assert path.with_name(f"{path.name}.gz").is_file(), path.name
