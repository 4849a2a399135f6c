"""Linq's own TypeScript client against the gateway's dialect."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from linq_api_fakes import ANNA, VAN, FakeGateway, mounted
from linq_api_world import ANNA as ANNAS_HANDLE
from linq_api_world import ANNAS_CHAT, BOBS_CHAT, everyone

from waybridge import sign_webhook

pytestmark = pytest.mark.node
HERE = Path(__file__).parent / "node"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def run(*command: str, cwd: Path) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
async def client_folder(tmp_path: Path) -> Path:
    """A folder with the client installed as locked; skips where there is no Node or no registry to be reached."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs Node.js with npm")
    folder = tmp_path
    for name in ("package.json", "package-lock.json", "walk.mjs", "gateway.mjs"):
        shutil.copy(HERE / name, folder / name)
    code, _, err = await run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
    if code:
        pytest.skip(f"the vendor's npm client could not be installed: {err.strip()[-200:]}")
    return folder


def webhook() -> str:
    body = json.dumps(
        {
            "api_version": "v3",
            "webhook_version": "2026-02-03",
            "event_type": "location.sharing.started",
            "event_id": "evt_1",
            "created_at": "2026-04-12T13:20:00Z",
            "trace_id": "0" * 32,
            "partner_id": "acme",
            "data": {"shared_by": "+14155550101", "shared_with": "+12025550100", "began_at": "2026-04-12T13:20:00Z"},
        }
    )
    now = int(time.time())
    signature = sign_webhook(SECRET, "evt_1", now, body.encode())
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(now), "webhook-signature": signature}
    return json.dumps({"body": body, "headers": headers, "key": SECRET})


async def test_the_vendors_typescript_client_walks_through_the_dialect(client_folder: Path) -> None:
    gateway = FakeGateway()
    async with mounted(gateway) as url:
        code, out, err = await run("node", "walk.mjs", url, "acme:read write", ANNA, VAN, webhook(), cwd=client_folder)
    assert code == 0, err
    seen: dict[str, Any] = json.loads(out)
    assert seen["made"]["signing_secret"].startswith("whsec_")
    assert seen["listed"] == [seen["made"]["id"]] == [seen["read"]["id"]]
    assert seen["made"]["subscribed_events"] == ["location.sharing.started", "message.sent"]
    assert seen["updated"]["is_active"] is False
    assert seen["gone"] == {"name": "NotFoundError", "status": 404}
    [feature] = seen["location"]["data"]["features"]
    assert feature["geometry"] == {"type": "Point", "coordinates": [24.94, 60.17]}
    assert feature["properties"]["handle"] == "+14155550101"
    assert seen["requested"] == {"success": True, "message": "Location request sent"}
    assert seen["refused"] == {"name": "ConflictError", "status": 409}
    assert (gateway.asked, gateway.calls) == ([ANNA], 2), "a refusal is not sent again"
    assert seen["events"] == ["location.sharing.started", "location.sharing.stopped"]
    assert seen["event"] == {"type": "location.sharing.started", "shared_by": "+14155550101"}


async def test_the_vendors_typescript_client_walks_through_a_real_gateway(client_folder: Path) -> None:
    async with everyone(client_folder) as world:
        named = {"devices": world.devices, "group": "fleet", "chat": ANNAS_CHAT, "asked": BOBS_CHAT}
        keys = world.gateway.token("read write"), world.gateway.token("ingest")
        code, out, err = await run("node", "gateway.mjs", world.base_url, *keys, json.dumps(named), cwd=client_folder)
        assert code == 0, err
        assert world.linq.prompts == [BOBS_CHAT], "a refusal is not sent again"
    seen: dict[str, Any] = json.loads(out)
    made, read = seen["made"], seen["read"]
    assert made["signing_secret"].startswith("whsec_")
    assert made["subscribed_events"] == read["subscribed_events"] == ["location.sharing.started", "message.sent"]
    assert [read] == seen["listed"]
    assert "signing_secret" not in read
    updated = seen["updated"]
    assert (updated["is_active"], updated["subscribed_events"]) == (False, ["location.sharing.stopped"])
    assert updated["target_url"] == made["target_url"]
    assert seen["gone"] == {"name": "NotFoundError", "status": 404, "code": 2001}
    assert (seen["wrong"]["name"], seen["wrong"]["status"]) == ("BadRequestError", 400)
    assert seen["events"] == ["location.sharing.started", "location.sharing.stopped"]
    assert (seen["event"]["type"], seen["event"]["shared_by"]) == ("location.sharing.started", "bike")
    assert seen["forged"] == "refused"
    where = {
        vendor: [(each["properties"]["handle"], each["geometry"]["coordinates"]) for each in features]
        for vendor, features in seen["locations"].items()
    }
    assert where == {
        "native": [("phone", [10.0, 1.0])], "mycartracks": [("John Smith", [20.0, 2.0])],
        "imessage": [(ANNAS_HANDLE, [30.0, 3.0])], "driver_events": [("Grace Okoye", [40.0, 4.0])],
    }  # fmt: skip
    assert len(seen["crowd"]) == 4
    assert [each["properties"]["handle"] for each in seen["people"]] == [ANNAS_HANDLE]
    assert seen["absent"]["status"] == 404
    assert seen["requested"] == {"success": True, "message": "Location request sent"}
    codes = {vendor: seen["refusals"][device]["code"] for vendor, device in world.devices.items()}
    assert codes == {"native": 2017, "mycartracks": 2017, "imessage": 2018, "driver_events": 2017}
    assert seen["refusals"]["fleet"] == {"name": "ConflictError", "status": 409, "code": 2016}
