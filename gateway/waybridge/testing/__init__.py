"""What authors of providers test with: the conformance class and its fixtures (a pytest plugin).

    from waybridge.testing import Example, ProviderContract

    class TestFerry(ProviderContract):
        provider = Ferry
        settings = {"api_key": "secret-of-the-test"}
        hostile = {"base_url": "{vendor}"}
        examples = [Example(path="fix", body={...}, positions=[{"external_id": "7", "speed_mps": 10.0}])]

pytest runs it: the checks that apply to the provider, each a sentence. See `ProviderContract` for what to give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from waybridge.testing.contract import ProviderContract
    from waybridge.testing.workbench import Example, MemoryState, Workbench

__all__ = ["Example", "MemoryState", "ProviderContract", "Workbench", "workbench"]


def __getattr__(name: str) -> Any:
    """Loads the parts only where they are used: this module is imported by every pytest run."""
    if name == "ProviderContract":
        from waybridge.testing.contract import ProviderContract  # noqa: PLC0415

        return ProviderContract
    if name in {"Example", "MemoryState", "Workbench"}:
        from waybridge.testing import workbench as module  # noqa: PLC0415

        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@pytest.fixture(name="workbench")
def _workbench() -> Workbench:
    """A gateway in memory for one connection: context, keyed state, commits. Use it with `async with`."""
    from waybridge.testing.workbench import Workbench  # noqa: PLC0415

    return Workbench()
