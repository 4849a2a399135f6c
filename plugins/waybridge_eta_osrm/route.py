"""The route service of OSRM's HTTP API (project-osrm.org, `GET /route/v1/{profile}/{coordinates}`)."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated, TypeAlias

import aiohttp
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from waybridge import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from waybridge import EtaQuestion

ANSWER_BYTES = 65_536
Asked: TypeAlias = tuple[float, float, float, float]


def _http(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url.rstrip("/")


class OsrmSettings(BaseModel):
    """`[plugins.eta_osrm]`.

    An answer counts for `cache_seconds` for everything within `cache_decimals` decimals of a degree (4: about 11 m).
    After a failure the server is left alone for `rest_seconds`; at most `at_once` questions are open.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_http)]
    profile: str = Field(default="driving", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    timeout_seconds: float = Field(default=1.5, gt=0, le=10)
    cache_seconds: float = Field(default=30, ge=0)
    cache_decimals: int = Field(default=4, ge=2, le=6)
    cache_entries: int = Field(default=10_000, ge=1)
    rest_seconds: float = Field(default=10, ge=0)
    at_once: int = Field(default=8, ge=1)


class _Leg(BaseModel):
    duration: float = Field(ge=0, allow_inf_nan=False)


class _Answer(BaseModel):
    code: str
    routes: list[_Leg] = []


class OsrmEstimator:
    """Seconds by road, or None where there is no road, no time or no server."""

    name = "eta_osrm"

    def __init__(self, settings: OsrmSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._known: OrderedDict[Asked, tuple[float | None, float]] = OrderedDict()
        self._rests_until = float("-inf")
        self._session: aiohttp.ClientSession | None = None
        self._open = asyncio.Semaphore(settings.at_once)

    async def seconds(self, question: EtaQuestion) -> float | None:
        """Raises SourceUnavailable when the server fails; the gateway says so once and answers itself."""
        asked = self._asked(question)
        known = self._known.get(asked)
        if known is not None and self._clock() - known[1] < self._settings.cache_seconds:
            return known[0]
        if self._clock() < self._rests_until or self._open.locked():
            return None
        async with self._open:
            try:
                found = parse(await self._fetch(asked))
            except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
                self._rests_until = self._clock() + self._settings.rest_seconds
                raise SourceUnavailable(f"the OSRM server did not answer: {type(error).__name__}") from error
        self._known[asked] = (found, self._clock())
        self._known.move_to_end(asked)
        if len(self._known) > self._settings.cache_entries:
            self._known.popitem(last=False)
        return found

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _asked(self, question: EtaQuestion) -> Asked:
        places = self._settings.cache_decimals
        there = question.destination
        return (
            round(question.longitude, places),
            round(question.latitude, places),
            round(there.longitude, places),
            round(there.latitude, places),
        )

    async def _fetch(self, asked: Asked) -> bytes:
        if self._session is None:
            limit = aiohttp.ClientTimeout(total=self._settings.timeout_seconds)
            self._session = aiohttp.ClientSession(timeout=limit, cookie_jar=aiohttp.DummyCookieJar())
        places = self._settings.cache_decimals
        from_longitude, from_latitude, to_longitude, to_latitude = (f"{degrees:.{places}f}" for degrees in asked)
        url = (
            f"{self._settings.url}/route/v1/{self._settings.profile}/"
            f"{from_longitude},{from_latitude};{to_longitude},{to_latitude}"
        )
        query = {"overview": "false", "alternatives": "false", "steps": "false"}
        async with self._session.get(url, params=query, allow_redirects=False) as answer:
            if answer.status not in (200, 400):  # 400 says NoRoute, NoSegment: an answer too
                answer.raise_for_status()
                raise aiohttp.ClientPayloadError(f"status {answer.status}")
            return await answer.content.read(ANSWER_BYTES)


def parse(body: bytes) -> float | None:
    """Seconds of the best route; None where the server knows no way. Raises ValidationError."""
    answer = _Answer.model_validate_json(body)
    return answer.routes[0].duration if answer.code == "Ok" and answer.routes else None
