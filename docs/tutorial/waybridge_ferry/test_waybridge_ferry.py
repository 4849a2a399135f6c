"""The ferry provider against Waybridge's conformance class: `pip install waybridge pytest`, then `pytest`."""

import contextlib
from datetime import UTC, datetime

from aiohttp import web
from waybridge_ferry import Ferry

from waybridge.testing import ProviderContract

SHIP = {"id": "suomenlinna-2", "lat": 60.1474, "lon": 24.9853, "knots": 10, "time": "2026-04-12T12:00:00+00:00"}


class TestFerry(ProviderContract):
    provider = Ferry
    settings = {"api_key": "the-key-of-the-test"}
    hostile = {"feed_url": "{vendor}/ferries.json"}
    streamed = [
        {
            "external_id": "suomenlinna-2",
            "latitude": 60.1474,
            "longitude": 24.9853,
            "speed_mps": 5.14444,
            "recorded_at": datetime(2026, 4, 12, 12, tzinfo=UTC),
        }
    ]

    @contextlib.asynccontextmanager
    async def stand_in(self):
        async def ferries(request):
            known = request.headers.get("X-Api-Key") == self.settings["api_key"]
            return web.json_response({"ferries": [SHIP]} if known else {}, status=200 if known else 401)

        app = web.Application()
        app.router.add_get("/ferries.json", ferries)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield {"feed_url": f"http://127.0.0.1:{runner.addresses[0][1]}/ferries.json"}
        finally:
            await runner.cleanup()
