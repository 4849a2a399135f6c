"""Arrival times: a plugin's estimate where there is one in time, else the built-in one.

Built in: great-circle distance x 1.3 over the recent mean speed, at least 8 m/s; 0 within 50 m.
A plugin may be slow: what it said last counts on while it is asked again, and nobody waits for it longer than
`PATIENCE` seconds.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

import structlog

from waybridge.bus import DeviceEvent, Event, Fix, PositionEvent
from waybridge.facade import EtaQuestion
from waybridge.geo import distance_m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from waybridge.facade import EtaEstimator
    from waybridge.model import Place

log = structlog.get_logger("waybridge.eta")

DETOUR = 1.3
SLOWEST_MPS = 8.0
ARRIVED_M = 50.0
PATIENCE = 2.0
MEMORY_SECONDS = 120.0
"""The recent mean forgets with this time constant; after five of them it begins anew."""
KEPT_ANSWERS = 10_000
ANSWER_SECONDS = 60.0
"""How long a plugin's answer counts on while newer ones are missing."""

Key: TypeAlias = tuple[int, float, float]


def built_in_seconds(question: EtaQuestion) -> float:
    """The estimate that needs nothing but the question."""
    left = distance_m(
        question.latitude, question.longitude, question.destination.latitude, question.destination.longitude
    )
    return left * DETOUR / max(question.speed_mps or 0.0, SLOWEST_MPS)


class RecentSpeeds:
    """The mean speed of each device over the last minutes, older speeds weighing less.

    A source that tells no speed is measured by how far it moved between two fixes.
    """

    def __init__(self) -> None:
        self._means: dict[int, tuple[float | None, Fix]] = {}

    def take(self, events: Sequence[Event]) -> None:
        """Listens to the bus."""
        for event in events:
            if isinstance(event, PositionEvent) and event.shown:
                self._means[event.device_id] = self._next(event.device_id, event.fix)
            elif isinstance(event, DeviceEvent) and event.kind == "erased":
                self.forget(event.device_id)

    def of(self, device_id: int) -> float | None:
        """Metres a second, or None when nothing is known."""
        known = self._means.get(device_id)
        return known[0] if known is not None else None

    def forget(self, device_id: int) -> None:
        self._means.pop(device_id, None)

    def _next(self, device_id: int, fix: Fix) -> tuple[float | None, Fix]:
        mean, before = self._means.get(device_id, (None, fix))
        elapsed = (fix.recorded_us - before.recorded_us) / 1e6
        speed = fix.speed
        if speed is None and 0 < elapsed <= 5 * MEMORY_SECONDS:
            speed = distance_m(before.latitude, before.longitude, fix.latitude, fix.longitude) / elapsed
        if mean is None or speed is None or elapsed > 5 * MEMORY_SECONDS:
            return speed, fix
        return mean + (1 - math.exp(-max(elapsed, 0.0) / MEMORY_SECONDS)) * (speed - mean), fix


class Arrivals:
    """Seconds until a device reaches a place. `estimator`: a plugin's, or None."""

    def __init__(
        self,
        estimator: EtaEstimator | None = None,
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.speeds = RecentSpeeds()
        self._estimator = estimator
        self._patience = patience
        self._clock = clock
        self._answers: OrderedDict[Key, tuple[float, float]] = OrderedDict()  # seconds left, at which clock
        self._asked: dict[Key, int] = {}  # for which fix, by its time
        self._tasks: set[asyncio.Task[None]] = set()
        self._failing = False

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._estimator is not None:
            await self._estimator.close()

    def now(self, device_id: int, fix: Fix, destination: Place) -> int:
        """The best answer without waiting; asks the plugin for a better one on the way."""
        question = self._question(device_id, fix, destination)
        if _arrived(question):
            return 0
        if self._estimator is None:
            return round(built_in_seconds(question))
        key = (device_id, destination.latitude, destination.longitude)
        self._ask(key, fix, question)
        return self._known(key, question)

    async def soon(self, device_id: int, fix: Fix, destination: Place) -> int:
        """The plugin's answer if it comes in time, else as `now`."""
        answer = self.now(device_id, fix, destination)
        waiting = [task for task in self._tasks if task.get_name() == f"eta {device_id}"]
        if not waiting or answer == 0:
            return answer
        await asyncio.wait(waiting, timeout=self._patience)
        question = self._question(device_id, fix, destination)
        return self._known((device_id, destination.latitude, destination.longitude), question)

    def _question(self, device_id: int, fix: Fix, destination: Place) -> EtaQuestion:
        speed = self.speeds.of(device_id)
        return EtaQuestion(fix.latitude, fix.longitude, fix.speed if speed is None else speed, destination)

    def _known(self, key: Key, question: EtaQuestion) -> int:
        answer = self._answers.get(key)
        if answer is not None:
            elapsed = self._clock() - answer[1]
            if elapsed <= ANSWER_SECONDS:
                return round(max(0.0, answer[0] - elapsed))
        return round(built_in_seconds(question))

    def _ask(self, key: Key, fix: Fix, question: EtaQuestion) -> None:
        """Starts one question a device and destination at a time, and none twice for the same fix."""
        name = f"eta {key[0]}"
        if self._asked.get(key) == fix.recorded_us or any(task.get_name() == name for task in self._tasks):
            return
        self._asked[key] = fix.recorded_us
        task = asyncio.get_running_loop().create_task(self._answer(key, question), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, key: Key, question: EtaQuestion) -> None:
        estimator = self._estimator
        if estimator is None:
            return
        try:
            async with asyncio.timeout(self._patience):
                seconds = await estimator.seconds(question)
        except Exception as error:  # noqa: BLE001 - a plugin's failure costs its estimate, nothing else
            if not self._failing:
                log.warning("The arrival estimator failed; the built-in one answers", plugin=estimator.name,
                            error=f"{type(error).__name__}: {error}"[:200])  # fmt: skip
            self._failing = True
            return
        if self._failing:
            log.info("The arrival estimator answers again", plugin=estimator.name)
        self._failing = False
        if seconds is not None and math.isfinite(seconds) and seconds >= 0:
            self._answers[key] = (seconds, self._clock())
            self._answers.move_to_end(key)
        while len(self._answers) > KEPT_ANSWERS:
            self._answers.popitem(last=False)
        while len(self._asked) > KEPT_ANSWERS:
            self._asked.pop(next(iter(self._asked)))


def _arrived(question: EtaQuestion) -> bool:
    where = question.destination
    return distance_m(question.latitude, question.longitude, where.latitude, where.longitude) <= ARRIVED_M
