"""Arrival times: the built-in estimate, the recent mean, and a plugin that may be slow, wrong or down."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybridge.bus import DeviceEvent, Fix, PositionEvent
from waybridge.eta import Arrivals, RecentSpeeds
from waybridge.model import Place

if TYPE_CHECKING:
    from waybridge.facade import EtaQuestion

NORTH_1KM = Place(0.008993, 0.0)
HERE = Fix(0, 0, 0, 0.0, 0.0)


class Estimator:
    """A plugin that answers when it is told to."""

    name = "fake"

    def __init__(self) -> None:
        self.asked: list[EtaQuestion] = []
        self.answer: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()

    async def seconds(self, question: EtaQuestion) -> float | None:
        self.asked.append(question)
        return await asyncio.shield(self.answer)

    async def close(self) -> None:
        self.answer.cancel()


def event(at: float, *, speed: float | None = None, latitude: float = 0.0, shown: bool = True) -> PositionEvent:
    us = int(at * 1e6)
    return PositionEvent("i", 1, "t", 1, Fix(us, us, us, latitude, 0.0, speed=speed), None, shown, True)


def test_the_built_in_estimate_is_distance_with_detour_over_speed() -> None:
    arrivals = Arrivals()
    assert arrivals.now(1, HERE, NORTH_1KM) == round(1000 * 1.3 / 8)
    arrivals.speeds.take([event(0, speed=26)])
    assert arrivals.now(1, HERE, NORTH_1KM) == round(1000 * 1.3 / 26)


def test_it_is_zero_within_fifty_metres() -> None:
    assert Arrivals().now(1, HERE, Place(49 / 111_195, 0)) == 0
    assert Arrivals().now(1, HERE, Place(52 / 111_195, 0)) > 0


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180), st.floats(0, 1e3))
def test_it_is_finite_and_never_negative_anywhere(a: float, b: float, c: float, d: float, speed: float) -> None:
    seconds = Arrivals().now(1, Fix(0, 0, 0, a, b, speed=speed), Place(c, d))
    assert 0 <= seconds <= 20_037_509 * 1.3 / 8


def test_the_mean_follows_and_forgets() -> None:
    speeds = RecentSpeeds()
    for second in range(0, 600, 5):
        speeds.take([event(second, speed=10)])
    assert speeds.of(1) == pytest.approx(10)
    speeds.take([event(605, speed=0)])
    assert 9 < (speeds.of(1) or 0) < 10
    speeds.take([event(5000, speed=20)])
    assert speeds.of(1) == 20
    speeds.take([event(5001, speed=99, shown=False)])
    assert speeds.of(1) == 20
    speeds.take([DeviceEvent("erased", "i", 1, "t", 0)])
    assert speeds.of(1) is None


def test_a_source_without_speed_is_measured_by_its_way() -> None:
    speeds = RecentSpeeds()
    speeds.take([event(0), event(10, latitude=100 / 111_195)])
    assert speeds.of(1) == pytest.approx(10, rel=1e-3)


async def test_a_plugin_answers_as_soon_as_it_has_one_and_counts_down_meanwhile() -> None:
    plugin, now = Estimator(), [0.0]
    arrivals = Arrivals(plugin, clock=lambda: now[0])
    assert arrivals.now(1, HERE, NORTH_1KM) == 162
    plugin.answer.set_result(500.0)
    assert await arrivals.soon(1, HERE, NORTH_1KM) == 500
    now[0] = 20.0
    assert arrivals.now(1, HERE, NORTH_1KM) == 480
    assert len(plugin.asked) == 1, "the same fix is asked about once"
    now[0] = 61.0
    assert arrivals.now(1, HERE, NORTH_1KM) == 162, "an old answer counts no more"
    await arrivals.close()


async def test_a_slow_plugin_costs_its_patience_and_no_more() -> None:
    plugin = Estimator()
    arrivals = Arrivals(plugin, patience=0.01)
    assert await arrivals.soon(1, HERE, NORTH_1KM) == 162
    await arrivals.close()


@pytest.mark.parametrize("nonsense", [None, math.nan, math.inf, -1.0])
async def test_nonsense_of_a_plugin_falls_back(nonsense: float | None) -> None:
    plugin = Estimator()
    plugin.answer.set_result(nonsense)
    arrivals = Arrivals(plugin)
    assert await arrivals.soon(1, HERE, NORTH_1KM) == 162
    await arrivals.close()


async def test_a_plugin_that_raises_falls_back_and_recovers() -> None:
    plugin = Estimator()
    plugin.answer.set_exception(RuntimeError("down"))
    arrivals = Arrivals(plugin)
    assert await arrivals.soon(1, HERE, NORTH_1KM) == 162
    plugin.answer = asyncio.get_running_loop().create_future()
    plugin.answer.set_result(300.0)
    later = Fix(1, 1, 1, 0.0, 0.0)
    assert await arrivals.soon(1, later, NORTH_1KM) == 300
    await arrivals.close()
