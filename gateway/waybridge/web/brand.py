"""An instance's name and colour, made safe to read.

An operator may set any colour; text is put upon it and it is put upon white and upon the dark ground, so its contrast
is checked here (WCAG 2.2: 4.5 for text) and a colour that cannot be read falls back to ink.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

INK = "#11151c"
WHITE = "#ffffff"
DARK_GROUND = "#171b22"
DEFAULT_NAME = "Waybridge"
DEFAULT_COLOR = "#1a5cff"
DEFAULT_DARK_COLOR = "#5b8cff"
_TEXT_CONTRAST = 4.5
_HEX = re.compile(r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})\Z")
_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Brand:
    """What an operator chose: a name and a colour as `#rgb` or `#rrggbb`."""

    name: str = DEFAULT_NAME
    color: str = DEFAULT_COLOR


def page_brand(brand: Brand) -> dict[str, str]:
    """The brand as both pages take it: `name`, `light`, `dark`, `on_light`, `on_dark` (colours as `#rrggbb`)."""
    color = _normal(brand.color) or INK
    light = color if contrast(color, WHITE) >= _TEXT_CONTRAST else INK
    dark = DEFAULT_DARK_COLOR if light == DEFAULT_COLOR else _lightened(color)
    return {
        "name": brand.name.strip() or DEFAULT_NAME,
        "light": light,
        "dark": dark,
        "on_light": WHITE,
        "on_dark": INK if contrast(INK, dark) >= contrast(WHITE, dark) else WHITE,
    }


def contrast(one: str, other: str) -> float:
    """WCAG contrast ratio of two `#rrggbb` colours, 1 to 21."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _lightened(color: str) -> str:
    """The colour mixed with white until it reads upon the dark ground."""
    channels = _channels(color)
    for step in range(_STEPS + 1):
        mixed = "#" + "".join(f"{round(c + (255 - c) * step / _STEPS):02x}" for c in channels)
        if contrast(mixed, DARK_GROUND) >= _TEXT_CONTRAST:
            return mixed
    return WHITE


def _normal(color: str) -> str | None:
    found = _HEX.match(color.strip())
    if found is None:
        return None
    digits = found[1].lower()
    return "#" + (digits if len(digits) == 6 else "".join(2 * digit for digit in digits))


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _luminance(color: str) -> float:
    def linear(channel: int) -> float:
        share = channel / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(channel) for channel in _channels(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
