"""The workbench: a gateway in memory for authors' own tests, by the fixture that the pytest plugin brings."""

import logging

import pytest
from harbour import KEY, Harbour, ship

from waybridge import CompareAndSet, PushRejected, Put, PutIfAbsent
from waybridge.testing import Example, MemoryState, ProviderContract
from waybridge.testing.workbench import StateConflict


async def test_a_push_is_committed_and_answered(workbench):
    async with workbench:
        harbour = workbench.make(Harbour, {"base_url": "http://127.0.0.1:9", "api_key": KEY})
        example = Example(path="ships", headers={"X-Key": KEY}, body=ship())
        for _ in range(2):
            answer = await workbench.push(harbour, example.push(workbench.clock.now()))
            assert answer.status == 204
        assert len(workbench.reports) == 2
        assert [key[0].external_id for key in workbench.positions] == ["ferry-1"]
        with pytest.raises(PushRejected):
            await workbench.push(harbour, Example(path="ships", body=ship()).push(workbench.clock.now()))


async def test_intents_hold_all_or_nothing():
    state = MemoryState()
    state.apply([PutIfAbsent("a", {"y": 1, "x": 2}), Put("b", [1])])
    assert await state.items() == {"a": {"x": 2, "y": 1}, "b": [1]}
    for intents in ([Put("b", 5), PutIfAbsent("a", 1)], [Put("b", 5), CompareAndSet("a", {"x": 1}, 3)]):
        with pytest.raises(StateConflict):
            state.apply(intents)
    assert await state.get("b") == [1]
    state.apply([CompareAndSet("a", {"x": 2, "y": 1}, None), Put("b", None)])
    assert await state.items() == {}
    with pytest.raises(ValueError, match="1 to 200"):
        await state.put("k" * 201, 1)
    with pytest.raises(ValueError, match="JSON"):
        await state.put("k", float("nan"))


async def test_everything_that_is_logged_is_recorded(workbench):
    async with workbench:
        workbench.context().log.bind(connection="c").warning("a sentence", field="value")
        logging.getLogger("some.library").error("another %s", "one")
        workbench.context().count("things", 2)
    said = " ".join(workbench.log.lines)
    assert all(word in said for word in ("connection", "a sentence", "value", "another one"))
    assert workbench.counts == {"things": 2}
    with pytest.raises(RuntimeError, match="async with"):
        type(workbench)().context()


def test_settings_may_be_given_as_an_object():
    class Given(ProviderContract):
        settings = Harbour.Settings(base_url="http://127.0.0.1:9", api_key=KEY)  # type: ignore[assignment]

    assert Given.settings == {"base_url": "http://127.0.0.1:9", "api_key": KEY}
