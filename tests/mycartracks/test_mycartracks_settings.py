"""The settings of contract section 3."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from waybridge_mycartracks import MyCarTracksSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": ""},
        {"client_secret": ""},
        {"vehicle_ids": [1], "vehicle_group_ids": [2]},
        {"vehicle_ids": []},
        {"vehicle_ids": [True]},
        {"vehicle_ids": [-1]},
        {"fields": ["vehicleId", "colour"]},
        {"speed_unit": "knots"},
        {"page_size": 0},
        {"page_size": True},
        {"base_url": "ftp://mycartracks.com"},
        {"base_url": "https://user:pass@mycartracks.com/v3"},
        {"token_url": "not an address"},
        {"allowed_stream_hosts": ["https://mycartracks.com/"]},
        {"token_endpoint_auth_method": "none"},
        {"surprise": 1},
        {"stale_after": 0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    good = {"client_id": "id", "client_secret": "secret"}
    MyCarTracksSettings.model_validate(good)

    with pytest.raises(ValidationError):
        MyCarTracksSettings.model_validate(good | wrong)


def test_the_defaults_are_the_contracts() -> None:
    made = MyCarTracksSettings.model_validate({"client_id": "id", "client_secret": "secret"})

    assert made.base_url == "https://mycartracks.com/services/rest/v3"
    assert made.token_url == "https://mycartracks.com/oauth/token"
    assert (made.scope, made.token_endpoint_auth_method, made.speed_unit) == ("read", "client_secret_basic", "kmh")
    assert (made.include_shared_vehicles, made.min_interval_seconds, made.page_size) == (True, 5, 50)
    assert (made.vehicle_ids, made.vehicle_group_ids, made.stale_after) == (None, None, None)
    assert made.stream_hosts == {"mycartracks.com"}
    assert not made.plain_sockets
