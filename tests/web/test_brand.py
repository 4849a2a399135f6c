"""A brand's colour is made safe to read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybridge.web.brand import DARK_GROUND, INK, WHITE, Brand, contrast, page_brand

colors = st.integers(0, 0xFFFFFF).map(lambda value: f"#{value:06x}")


@given(colors)
def test_text_upon_any_brand_colour_and_the_colour_upon_its_ground_can_be_read(color: str) -> None:
    brand = page_brand(Brand(color=color))
    assert contrast(brand["on_light"], brand["light"]) >= 4.5
    assert contrast(brand["on_dark"], brand["dark"]) >= 4.5
    assert contrast(brand["light"], WHITE) >= 4.5
    assert contrast(brand["dark"], DARK_GROUND) >= 4.5


@pytest.mark.parametrize("color", ["#ffee00", "#fff", "not a colour", "#1a5cf", "red; background:url(x)"])
def test_an_unreadable_colour_falls_back_to_ink(color: str) -> None:
    assert page_brand(Brand(color=color))["light"] == INK


def test_the_default_has_its_own_dark_blue() -> None:
    brand = page_brand(Brand())
    assert (brand["light"], brand["dark"], brand["on_light"], brand["on_dark"]) == ("#1a5cff", "#5b8cff", WHITE, INK)


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("#000000", WHITE) == pytest.approx(21)
    assert contrast("#777777", WHITE) == pytest.approx(4.48, abs=0.01)


def test_a_blank_name_falls_back_to_the_product() -> None:
    assert page_brand(Brand(name="  "))["name"] == "Waybridge"
