"""The accuracy filter: what is doubted, and when the doubt is over."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError
from running import running_gateway
from structlog.testing import capture_logs

from waybridge import Position, SourceKey
from waybridge.errors import ConfigurationError
from waybridge_accuracy import doubt as rule
from waybridge_accuracy import waybridge_filters
from waybridge_accuracy.doubt import AccuracySettings, Doubt

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 4, 12, 12, 0, tzinfo=UTC)
METRES_TO_DEGREES = 1 / 111_195


def fix(seconds: float, metres: float = 0.0, source: str = "van", **fields: Any) -> Position:
    """So many metres north of a place, so many seconds later."""
    return Position(
        source=SourceKey("c", source), latitude=10 + metres * METRES_TO_DEGREES, longitude=20.0,
        recorded_at=START + timedelta(seconds=seconds), **fields,
    )  # fmt: skip


@pytest.fixture
def doubt() -> Doubt:
    return Doubt(AccuracySettings(max_accuracy_m=100, max_speed_mps=50))


def test_without_its_table_there_is_no_filter_and_wrong_settings_are_refused() -> None:
    assert waybridge_filters({"other": {}}) == []
    (made,) = waybridge_filters({"accuracy": {}})
    assert made.refuse(fix(1, 1e6), fix(0)) is not None
    assert made.refuse(fix(1, accuracy_m=9000), fix(0)) is None
    for wrong in ({"max_speed": 3}, {"max_speed_mps": 0}, {"max_accuracy_m": "far"}):
        with pytest.raises(ValidationError):
            waybridge_filters({"accuracy": wrong})


def test_an_accuracy_poorer_than_allowed_is_refused_and_an_unknown_one_is_not(doubt: Doubt) -> None:
    assert doubt.refuse(fix(1, accuracy_m=100.1), None) == "an accuracy of 100 m is poorer than 100 m"
    assert doubt.refuse(fix(1, accuracy_m=100), None) is None
    assert doubt.refuse(fix(1, accuracy_m=0), None) is None
    assert doubt.refuse(fix(1), None) is None


def test_only_a_speed_beyond_belief_is_doubted(doubt: Doubt) -> None:
    assert doubt.refuse(fix(0, 1e6), None) is None
    assert doubt.refuse(fix(10, 499), fix(0)) is None
    assert doubt.refuse(fix(10, 510), fix(0)) == "51 m/s since the position before is faster than 50 m/s"


def test_late_and_known_fixes_are_left_to_the_gateway(doubt: Doubt) -> None:
    assert doubt.refuse(fix(0, 1e6), fix(0)) is None
    assert doubt.refuse(fix(-5, 1e6), fix(0)) is None


def test_a_single_jump_is_held_back_for_good(doubt: Doubt) -> None:
    assert doubt.refuse(fix(1, 5000), fix(0)) is not None
    assert doubt.refuse(fix(2, 20), fix(0)) is None
    assert doubt.refuse(fix(3, 5000), fix(2, 20)) is not None


def test_three_fixes_that_fit_together_are_believed(doubt: Doubt) -> None:
    assert doubt.refuse(fix(1, 5000), fix(0)) is not None
    assert doubt.refuse(fix(2, 5040), fix(0)) is not None
    assert doubt.refuse(fix(3, 5080), fix(0)) is None


def test_fixes_that_do_not_fit_together_begin_anew(doubt: Doubt) -> None:
    verdicts = [doubt.refuse(fix(second, metres), fix(0)) for second, metres in [
        (1, 5000), (2, 5040), (3, 9000), (4, 9040), (5, 9080)]]  # fmt: skip

    assert [verdict is None for verdict in verdicts] == [False, False, False, False, True]


def test_the_same_fix_sent_again_and_again_proves_nothing(doubt: Doubt) -> None:
    assert all(doubt.refuse(fix(1, 5000), fix(0)) is not None for _ in range(10))


def test_after_a_minute_even_scattered_fixes_are_believed(doubt: Doubt) -> None:
    doubt.refuse(fix(1, 20_000), fix(0))
    assert doubt.refuse(fix(59, 90_000), fix(0)) is not None
    assert doubt.refuse(fix(61, 20_000), fix(0)) is None


def test_one_sources_jump_is_not_anothers(doubt: Doubt) -> None:
    for second in (1, 2):
        doubt.refuse(fix(second, 5000), fix(0))
    assert doubt.refuse(fix(3, 5000, "bus"), fix(0, source="bus")) is not None


def test_what_is_remembered_is_bounded(doubt: Doubt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "REMEMBERED", 5)
    for number in range(50):
        doubt.refuse(fix(1, 5000, str(number)), fix(0, source=str(number)))

    assert len(doubt._runs) == 5


async def test_the_gateway_refuses_by_it_and_says_why(tmp_path: Path) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    async with running_gateway(database, tmp_path, plugins={"accuracy": {"max_accuracy_m": 50}}) as gateway:
        now = time.time()

        async def push(seconds: float, latitude: float, **fields: Any) -> dict[str, Any]:
            body = {"device_token": "van", "latitude": latitude, "longitude": 2.0, "timestamp": now + seconds, **fields}
            async with gateway.http.post(
                f"{gateway.url}/ingest/native/positions", json=body, headers=gateway.headers()
            ) as response:
                return dict(await response.json())

        assert (await push(-9, 1.0))["accepted"] == 1
        refused = (await push(-8, 2.0))["rejected"]
        poor = (await push(-7, 1.0, accuracy=51))["rejected"]
        async with gateway.http.get(
            f"{gateway.url}/api/v1/devices/van/position", headers=gateway.headers()
        ) as response:
            shown = await response.json()

    assert refused[0]["error"].startswith("accuracy: 111195 m/s")
    assert poor[0]["error"] == "accuracy: an accuracy of 51 m is poorer than 50 m"
    assert shown["latitude"] == 1.0


async def test_wrong_settings_stop_the_start_in_a_sentence(tmp_path: Path) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    with pytest.raises(ConfigurationError, match=r"plugins\.accuracy\.max_speed: Extra inputs"):
        async with running_gateway(database, tmp_path, plugins={"accuracy": {"max_speed": 5}}):
            pass


async def test_a_filter_that_fails_lets_positions_pass_and_is_said_once(tmp_path: Path) -> None:
    class Broken:
        name = "broken"

        def refuse(self, position: Position, newest: Position | None) -> str | None:
            raise ZeroDivisionError(position, newest)

    async with running_gateway(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", tmp_path) as gateway:
        gateway.house.intake._filters = (Broken(),)
        with capture_logs() as logs:
            for second in range(3):
                body = {"device_token": "van", "latitude": 1.0, "longitude": 2.0, "timestamp": time.time() - second}
                async with gateway.http.post(
                    f"{gateway.url}/ingest/native/positions", json=body, headers=gateway.headers()
                ) as response:
                    assert (await response.json())["accepted"] == 1

    assert [entry["filter"] for entry in logs if "filter" in entry] == ["broken"]


def test_check_says_what_a_plugin_refuses(tmp_path: Path) -> None:
    (tmp_path / "waybridge.toml").write_text("[plugins.accuracy]\nmax_speed = 3\n")
    checked = subprocess.run(
        [sys.executable, "-m", "waybridge", "check"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 1
    assert "plugins.accuracy.max_speed: Extra inputs are not permitted" in checked.stderr
