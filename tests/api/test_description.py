"""The description holds: schemathesis finds no answer that it does not name, with seeded objects, on both databases."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from running import soak
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.failures import FailureGroup

CHECKED = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
    "missing_required_header",
]
NEEDS_A_VENDOR = {
    "POST /api/v1/devices/{device_token}/location/request",
    "POST /api/v1/connections/{connection_id}/location/request",
}
"""Only a vendor that can be asked answers these with 202."""
NEVER_ENDS = {"GET /api/v1/streams/{stream_token}/events"}
"""Its 200 is a stream; the streams' own tests read it."""


class Seeds:
    """Objects for every id of the API, made anew whenever an operation may have taken them away."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"
        self.ids: dict[str, str] = {}

    def plant(self) -> None:
        body = {"instance_id": "acme", "device_token": "van-1", "latitude": 1, "longitude": 2, "timestamp": 1e9}
        for token in ("van-1", "van-2"):
            self._post("/ingest/native/positions", body | {"device_token": token, "timestamp": _now(), "speed": 3})
        self._put("/api/v1/groups/seeded?instance_id=acme", {"name": "seeded", "device_tokens": ["van-1"]})
        client = self._post("/api/v1/clients", {"name": "seed", "instances": ["acme"], "scope": "read"})
        made = self._post("/api/v1/instances", {"instance_id": f"made-{threading.get_ident()}"}, repeated=True)
        connection = self._post(
            "/api/v1/connections", {"provider": "driver_events", "instance_id": "acme", "settings": {}}
        )
        session = self._post(
            "/api/v1/sharing/sessions", {"device_token": "van-1", "instance_id": "acme"}, repeated=True
        )
        subscription = self._post(
            "/api/v1/webhook-subscriptions",
            {"target_url": "https://hooks.example.com/x", "subscribed_events": ["*"], "instance_id": "acme"},
            repeated=True,
        )
        self.ids.update(
            device_token="van-1",
            group_id="seeded",
            client_id=client["client_id"],
            client_secret=client["client_secret"],
            connection_id=connection["connection_id"],
            session_id=session.get("id") or self.ids.get("session_id", "x"),
            share_token=session.get("share_token") or self.ids.get("share_token", "x"),
            subscription_id=subscription.get("id") or self.ids.get("subscription_id", "x"),
            id=made.get("instance_id") or self.ids.get("id", "x"),
        )

    def good(self, operation: str) -> Any:
        """A body that an operation takes, where random ones seldom fit."""
        return {
            "POST /api/v1/clients": {"name": "c", "instances": ["acme"], "scope": "read write"},
            "POST /api/v1/connections": {"provider": "driver_events", "instance_id": "acme"},
            "POST /ingest/native/positions": {
                "device_token": "van-1", "latitude": 1, "longitude": 2, "timestamp": _now(), "instance_id": "acme",
            },
            "PUT /api/v1/devices/{device_token}/sources": {
                "sources": [{"connection_id": "native", "external_id": "van-1"}]
            },
            "PUT /api/v1/groups/{group_id}": {"name": "g", "device_tokens": ["van-1"]},
            "POST /api/v1/sharing/sessions": {"device_token": "van-2", "instance_id": "acme"},
            "POST /api/v1/devices/metadata/display-field/bulk": {"mappings": [], "instance_id": "acme"},
            "POST /api/v1/webhook-subscriptions": {
                "target_url": "https://hooks.example.com/y", "subscribed_events": ["device.*"], "instance_id": "acme",
            },
            "POST /api/v1/webhook-subscriptions/{subscription_id}/replay": {"since": 0},
            "POST /oauth/token": {
                "grant_type": "client_credentials",
                "client_id": self.ids["client_id"],
                "client_secret": self.ids["client_secret"],
            },
        }.get(operation)  # fmt: skip

    def _post(self, path: str, body: dict[str, Any], *, repeated: bool = False) -> dict[str, Any]:
        response = self._session.post(self._url + path, json=body, timeout=30)
        assert response.ok or (repeated and response.status_code in (404, 409)), f"{path}: {response.text}"
        return response.json() if response.ok else {}

    def _put(self, path: str, body: dict[str, Any]) -> None:
        assert self._session.put(self._url + path, json=body, timeout=30).ok


def _now() -> float:
    return time.time()


# The gateway draws its own random numbers in this process while hypothesis draws.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.timeout(1200)
async def test_every_answer_is_described_and_every_operation_reaches_its_2xx(site):
    running = site.running
    token = running.token("read write ingest admin", "*")
    reached, failures = await asyncio.to_thread(_explore, running.url, token, soak(5, 150))

    assert not failures, "\n\n".join(failures)
    missing = sorted(
        operation for operation, statuses in reached.items() if not any(200 <= each < 300 for each in statuses)
    )
    assert set(missing) <= NEEDS_A_VENDOR | NEVER_ENDS, {each: dict(reached[each]) for each in missing}


def _explore(url: str, token: str, examples: int) -> tuple[dict[str, dict[int, int]], list[str]]:
    raw = requests.get(f"{url}/openapi.json", timeout=30).json()
    schema = schemathesis.openapi.from_dict(raw)
    schema.config.update(base_url=url)
    seeds = Seeds(url, token)
    reached: dict[str, dict[int, int]] = {}
    failures: list[str] = []
    for result in schema.get_all_operations():
        operation = result.ok()
        statuses = reached.setdefault(f"{operation.method.upper()} {operation.path}", defaultdict(int))
        seeds.plant()
        failure = _reach(operation, seeds, token, url, statuses)
        if failure is not None:
            failures.append(failure)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            failure = _run(operation, mode, seeds, token, url, examples, statuses)
            if failure is not None:
                failures.append(failure)
    return reached, failures


def _reach(operation, seeds, token, url, statuses) -> str | None:
    """Reads what there is, and calls an operation that random bodies seldom satisfy with one that does."""
    name = f"{operation.method.upper()} {operation.path}"
    body = seeds.good(name)
    if name in NEVER_ENDS or (body is None and not name.startswith("GET ")):
        return None
    names = {each.name for each in operation.path_parameters}
    query = {"instance_id": "acme"} if any(each.name == "instance_id" for each in operation.query) else {}
    form = name == "POST /oauth/token"
    media_type = "application/x-www-form-urlencoded" if form else "application/json"
    sent = {"body": body, "media_type": media_type} if body is not None else {}
    case = operation.Case(
        path_parameters={each: seeds.ids[each] for each in names},
        query=query,
        **sent,
    )
    headers = {"Authorization": f"Bearer {token}"} if not form else {}
    response = case.call(base_url=url, headers=headers, timeout=30)
    statuses[response.status_code] += 1
    try:
        case.validate_response(response, checks=[CHECKS.get_one(each) for each in CHECKED[:5]], headers=headers)
    except (Exception, FailureGroup) as error:  # noqa: BLE001 - each one is told at the end
        return f"{name}: {_told(error)}"
    return None


def _run(operation, mode, seeds, token, url, examples, statuses) -> str | None:
    headers = {"Authorization": f"Bearer {token}"}
    checks = [CHECKS.get_one(name) for name in CHECKED]

    @given(case=operation.as_strategy(generation_mode=mode), seeded=st.integers(0, 3))
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def one(case: Any, seeded: int) -> None:
        if seeded:
            known = {name: seeds.ids.get(name, value) for name, value in (case.path_parameters or {}).items()}
            case.path_parameters = known
            if "instance_id" in (case.query or {}) and isinstance(case.query["instance_id"], str):
                case.query["instance_id"] = "acme"
            if isinstance(case.body, dict) and isinstance(case.body.get("instance_id"), str) and seeded > 1:
                case.body["instance_id"] = "acme"
        response = case.call(base_url=url, headers=headers, timeout=30)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=checks, headers=headers)
        if response.status_code < 300 and operation.method.upper() == "DELETE":
            seeds.plant()

    try:
        one()
    except Unsatisfiable:
        return None  # nothing of this operation can be wrong
    except (Exception, FailureGroup) as error:  # noqa: BLE001 - each one is told at the end
        return f"{operation.method.upper()} {operation.path} ({mode.value}): {_told(error)}"
    return None


def _told(error: BaseException) -> str:
    """An error with those inside it."""
    inside = "".join(f"\n{_told(each)}" for each in getattr(error, "exceptions", ()))
    return f"{type(error).__name__}: {error}{inside}"
