"""Records the REST cassettes from the stand-in: `python tests/mycartracks/record_cassettes.py`.

Scrubbed on the way: the address becomes the vendor's, credentials and tokens become fixed words. The socket is
never opened while recording.
"""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import vcr
from mycartracks_harness import Bench, HandClock

from waybridge import CredentialsRejected
from waybridge_mycartracks import MyCarTracksSimulator

FOLDER = Path(__file__).parent / "cassettes"
HEADER = (
    "# Recorded from the project's own MyCarTracks stand-in (providers/waybridge_mycartracks/simulator.py),\n"
    "# not from the vendor. Scrubbed: addresses, credentials and tokens.\n"
    "# Recorded anew by tests/mycartracks/record_cassettes.py.\n"
)
SCRUBBED = {
    r"http://127\.0\.0\.1:\d+": "https://mycartracks.com",
    r"ws://127\.0\.0\.1:\d+": "wss://mycartracks.com",
    r"127\.0\.0\.1:\d+": "mycartracks.com",
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}": "scrubbed-access-token",
    r"token=[0-9a-f]{32}": "token=scrubbed-stream-token",
    r"lps_[0-9A-Z]{26}": "lps_01HZ0000000000000000000000",
}


def scrub(text: str) -> str:
    for pattern, instead in SCRUBBED.items():
        text = re.sub(pattern, instead, text)
    return text


def _request(request: Any) -> Any:
    request.uri = scrub(request.uri)
    for name in ("Authorization", "authorization", "Host"):
        request.headers.pop(name, None)
    if request.uri.endswith("/oauth/token"):
        request.body = b"scrubbed"
    return request


def _response(response: Any) -> Any:
    body = scrub(response["body"]["string"].decode())
    response["body"]["string"] = body.encode()
    response["headers"].pop("Content-Length", None)
    return response


async def _record(name: str, vendor: MyCarTracksSimulator, talk: Any, **settings: Any) -> None:
    path = FOLDER / f"{name}.yaml"
    path.unlink(missing_ok=True)
    recorder = vcr.VCR(record_mode="all", before_record_request=_request, before_record_response=_response)
    async with aiohttp.ClientSession() as session:
        bench = Bench(session, vendor.clock, vendor.settings() | settings)
        with recorder.use_cassette(str(path)):
            await talk(bench)
    path.write_text(HEADER + path.read_text())


async def _everything(bench: Bench) -> None:
    await bench.provider.check()
    async for _ in bench.provider._rest.last_positions():
        pass
    await bench.provider._rest.create_stream()


async def _refused(bench: Bench) -> None:
    try:
        await bench.provider.check()
    except CredentialsRejected:
        return
    raise AssertionError("the stand-in took wrong credentials")


async def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    vendor = MyCarTracksSimulator(clock=HandClock())
    await vendor.start()
    when = datetime(2026, 6, 1, 13, 59, 55, tzinfo=UTC)
    vendor.set_vehicle(123, "Van 12", user_id=42, user_name="John Smith")
    vendor.move(123, 48.1486, 17.1077, 42.5, 90.0, recorded_at=when)
    vendor.set_vehicle(124, "Never moved")
    vendor.set_vehicle(125, "Van 14", user_id=43, user_name="Jana Nováková")
    vendor.move(125, 48.1502, 17.1140, 0.0, recorded_at=when)
    await _record("last_positions_and_stream", vendor, _everything, page_size=2)
    await _record("wrong_secret", vendor, _refused, client_secret="wrong")
    await vendor.stop()
    assert json.dumps([path.read_text() for path in FOLDER.glob("*.yaml")]).count("127.0.0.1") == 0


if __name__ == "__main__":
    asyncio.run(main())
