"""The built front end: its HTML templates, its dictionaries and the names that its build chose."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DIST = Path(__file__).with_name("dist")
RIGHT_TO_LEFT = frozenset({"ar"})
DEFAULT_LANGUAGE = "en"
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_RANGE = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9]{1,8})*\s*(?:;\s*q=(\d(?:\.\d{0,3})?))?\s*\Z")
_LONGEST_HEADER = 500


class Bundle:
    """Everything out of `dist/`, read once. Raises FileNotFoundError where the front end was not built."""

    def __init__(self, folder: Path = DIST) -> None:
        self.folder = folder
        self.share = _template(folder / "share.html")
        self.gone = _template(folder / "gone.html")
        self.tracker = _template(folder / "tracker.html")
        self.texts: dict[str, dict[str, str]] = json.loads((folder / "texts.json").read_text("utf-8"))
        self.live_tracker: str = json.loads((folder / "build.json").read_text("utf-8"))["live_tracker"]

    def language(self, accept: str) -> str:
        """The best of our languages for an `Accept-Language` header."""
        best, best_weight = DEFAULT_LANGUAGE, 0.0
        for part in accept[:_LONGEST_HEADER].split(","):
            found = _RANGE.match(part)
            if found is None:
                continue
            weight = 1.0 if found[2] is None else float(found[2])
            if found[1].lower() in self.texts and weight > best_weight:
                best, best_weight = found[1].lower(), weight
        return best


def load_bundle(folder: Path = DIST) -> Bundle | None:
    """The bundle, or None in an installation that was built without the pages."""
    return Bundle(folder) if (folder / "build.json").is_file() else None


def render(template: str, values: Mapping[str, str]) -> str:
    """Fills `{{name}}`; every value is escaped, but for `boot`, which `script_json` made safe."""
    return _PLACE.sub(lambda m: values[m[1]] if m[1] == "boot" else html.escape(values[m[1]], quote=True), template)


def script_json(value: Any) -> str:
    """JSON that can stand in a `<script>` whatever it holds: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _template(path: Path) -> str:
    # the build links relatively to the root; both pages lie one level below it, under whatever prefix a proxy adds
    return path.read_text("utf-8").replace('"./assets/', '"../assets/')
