"""A provider that holds to everything, to be broken in one place at a time."""

import contextlib
import json
from datetime import UTC, datetime

from aiohttp import web
from pydantic import SecretStr

from waybridge import (
    Answer,
    Capabilities,
    CredentialsRejected,
    Position,
    Provider,
    ProviderSettings,
    PushRejected,
    Receipt,
    SourceUnavailable,
)
from waybridge.testing import Example, ProviderContract

KNOT = 0.514444
KEY = "key-of-the-harbour"
NOON = "2026-04-12T12:00:00+00:00"
LATER = "2026-04-12T12:00:05+00:00"


class HarbourSettings(ProviderSettings):
    base_url: str
    api_key: SecretStr


class Harbour(Provider[HarbourSettings]):
    """Polls a feed, and is pushed to with the key in a header."""

    kind = "harbour"
    Settings = HarbourSettings
    capabilities = Capabilities(streams=True, receives=True, verifies="provider")

    async def check(self):
        await self.read()

    async def stream(self):
        while True:
            for ship in await self.read():
                yield self.position(ship)
            await self.context.clock.sleep(0.05)

    async def receive(self, push):
        if push.path != "ships":
            raise PushRejected(404)
        if push.headers.get("x-key") != self.settings.api_key.get_secret_value():
            raise PushRejected(401)
        if len(push.body) > 65_536:
            raise PushRejected(413)
        return await self.taken(self.decoded(push.body))

    def decoded(self, body):
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise PushRejected(400) from error

    async def taken(self, ship):
        return Receipt(reports=[self.position(ship)], answer=Answer(status=204, content_type=None))

    def position(self, ship):
        return Position(
            source=self.context.source(ship["id"]),
            latitude=ship["lat"],
            longitude=ship["lon"],
            recorded_at=self.time(ship),
            speed_mps=self.speed(ship),
        )

    def time(self, ship):
        return datetime.fromisoformat(ship["at"]).astimezone(UTC)

    def speed(self, ship):
        return ship["knots"] * KNOT

    async def read(self):
        headers = {"X-Key": self.settings.api_key.get_secret_value()}
        async with self.context.session.get(f"{self.settings.base_url}/ships", headers=headers) as answer:
            await self.look(answer)
            return await self.body(answer)

    async def look(self, answer):
        if answer.status == 401:
            raise CredentialsRejected("the harbour refuses the key")
        if answer.status != 200:
            wait = answer.headers.get("Retry-After")
            raise SourceUnavailable(f"status {answer.status}", retry_after=None if wait is None else float(wait))

    async def body(self, answer):
        try:
            return (await answer.json())["ships"]
        except (ValueError, LookupError) as error:
            raise SourceUnavailable("no JSON") from error


def ship(**more):
    return {"id": "ferry-1", "lat": 60.1, "lon": 24.9, "knots": 10, "at": NOON, **more}


class HarbourContract(ProviderContract):
    settings = {"api_key": KEY}
    hostile = {"base_url": "{vendor}"}
    streamed = [{"external_id": "ferry-1", "latitude": 60.1, "speed_mps": 10 * KNOT}]
    examples = [
        Example(
            path="ships", headers={"X-Key": KEY}, body=ship(),
            positions=[
                {"external_id": "ferry-1", "speed_mps": 10 * KNOT, "recorded_at": datetime.fromisoformat(NOON)}
            ],
        ),
        Example(
            path="ships", headers={"X-Key": KEY}, body=ship(at=LATER, lat=60.2),
            positions=[
                {"external_id": "ferry-1", "latitude": 60.2, "recorded_at": datetime.fromisoformat(LATER)}
            ],
        ),
    ]  # fmt: skip

    @contextlib.asynccontextmanager
    async def stand_in(self):
        async def ships(request):
            return web.json_response({"ships": [ship()]})

        app = web.Application()
        app.router.add_get("/ships", ships)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield {"base_url": f"http://127.0.0.1:{runner.addresses[0][1]}"}
        finally:
            await runner.cleanup()
