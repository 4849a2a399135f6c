"""The OSRM plugin against a real server on loopback that answers as OSRM does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from waybridge import SourceUnavailable
from waybridge.bus import Fix
from waybridge.eta import Arrivals
from waybridge.facade import EtaQuestion
from waybridge.model import Place
from waybridge_eta_osrm import waybridge_eta
from waybridge_eta_osrm.route import OsrmEstimator, OsrmSettings, parse

OK = {"code": "Ok", "routes": [{"distance": 1886.8, "duration": 260.3, "legs": []}], "waypoints": []}
QUESTION = EtaQuestion(52.517037, 13.38886, 10.0, Place(52.529407, 13.397634))


class Server:
    """Answers what `answer` and `status` say, after `delay` seconds; keeps the paths it was asked."""

    def __init__(self) -> None:
        self.answer: Any = OK
        self.status, self.delay = 200, 0.0
        self.asked: list[str] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        await asyncio.sleep(self.delay)
        if isinstance(self.answer, bytes):
            return web.Response(body=self.answer, status=self.status)
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_get("/{rest:.*}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def estimator(server: Server) -> AsyncIterator[OsrmEstimator]:
    made = OsrmEstimator(OsrmSettings(url=server.url + "/", timeout_seconds=0.2))
    yield made
    await made.close()


async def test_it_asks_for_a_route_and_tells_its_duration(server: Server, estimator: OsrmEstimator) -> None:
    assert await estimator.seconds(QUESTION) == 260.3
    assert server.asked == [
        "/route/v1/driving/13.3889,52.5170;13.3976,52.5294?overview=false&alternatives=false&steps=false"
    ]


async def test_answers_are_kept_for_their_time(server: Server) -> None:
    now = [0.0]
    estimator = OsrmEstimator(OsrmSettings(url=server.url), clock=lambda: now[0])
    for at in (0.0, 29.9, 30.0):
        now[0] = at
        assert await estimator.seconds(QUESTION) == 260.3
    assert len(server.asked) == 2
    await estimator.close()


async def test_no_route_is_an_answer_too(server: Server, estimator: OsrmEstimator) -> None:
    server.answer, server.status = {"code": "NoRoute", "message": "Impossible route between points"}, 400
    assert await estimator.seconds(QUESTION) is None
    assert await estimator.seconds(QUESTION) is None
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "answer"),
    [(500, OK), (302, OK), (200, b"<html>"), (200, {"code": "Ok", "routes": [{"duration": -1}]}), (200, b"")],
)
async def test_a_failing_server_is_left_alone_for_a_while(
    server: Server, estimator: OsrmEstimator, status: int, answer: Any
) -> None:
    server.status, server.answer = status, answer
    with pytest.raises(SourceUnavailable):
        await estimator.seconds(QUESTION)
    assert await estimator.seconds(QUESTION) is None
    assert len(server.asked) == 1


async def test_a_slow_server_falls_back_to_the_built_in_estimate(server: Server, estimator: OsrmEstimator) -> None:
    server.delay = 1.0
    arrivals = Arrivals(estimator)
    fix = Fix(0, 0, 0, 52.517037, 13.38886)
    assert await arrivals.soon(1, fix, QUESTION.destination) == 243
    server.delay = 0.0
    estimator._rests_until = 0.0
    later = Fix(1, 1, 1, 52.517037, 13.38886)
    assert await arrivals.soon(1, later, QUESTION.destination) == 260
    await arrivals.close()


async def test_a_server_that_is_gone_falls_back(server: Server) -> None:
    estimator = OsrmEstimator(OsrmSettings(url="http://127.0.0.1:9"))
    with pytest.raises(SourceUnavailable):
        await estimator.seconds(QUESTION)
    await estimator.close()


def test_without_a_url_it_does_nothing() -> None:
    assert waybridge_eta(settings={}) is None
    assert waybridge_eta(settings={"eta_osrm": {"url": ""}}) is None


async def test_settings_that_make_no_sense_are_said() -> None:
    assert waybridge_eta(settings={"eta_osrm": {"url": "http://osrm:5000"}}) is not None
    for table in ({"url": "osrm"}, {"url": "http://o", "surprise": 1}, {"url": "http://o", "profile": "../x"}):
        with pytest.raises(ValidationError):
            waybridge_eta(settings={"eta_osrm": table})


def test_parsing_is_pure() -> None:
    assert parse(b'{"code":"Ok","routes":[{"duration":0}]}') == 0
    assert parse(b'{"code":"NoSegment"}') is None
