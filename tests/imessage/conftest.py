from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from imessage_harness import Gateway, OwnClock, gateway, vendor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from waybridge_imessage.simulator import LinqSimulator


@pytest.fixture
def clock() -> OwnClock:
    return OwnClock()


@pytest.fixture
async def linq(clock: OwnClock) -> AsyncIterator[LinqSimulator]:
    async with vendor(clock) as made:
        yield made


@pytest.fixture
async def door(clock: OwnClock) -> AsyncIterator[Gateway]:
    async with gateway(clock) as made:
        yield made
