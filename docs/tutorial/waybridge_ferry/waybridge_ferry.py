"""Ferries of a harbour's feed: a whole provider for Waybridge."""
from datetime import datetime
from pydantic import SecretStr
from waybridge import Capabilities, CredentialsRejected, Position, Provider, SourceUnavailable
from waybridge import ProviderSettings, hookimpl

class FerrySettings(ProviderSettings):
    feed_url: str
    api_key: SecretStr

class Ferry(Provider[FerrySettings]):
    kind, Settings, capabilities = "ferry", FerrySettings, Capabilities(streams=True, stale_after=60)

    async def check(self):
        await self.ships()

    async def stream(self):
        while True:
            for ship in await self.ships():
                yield Position(source=self.context.source(ship["id"]), latitude=ship["lat"], longitude=ship["lon"],
                               recorded_at=datetime.fromisoformat(ship["time"]), speed_mps=ship["knots"] * 0.514444)
            await self.context.clock.sleep(5)

    async def ships(self):
        key = {"X-Api-Key": self.settings.api_key.get_secret_value()}
        async with self.context.session.get(self.settings.feed_url, headers=key) as answer:
            if answer.status in (401, 403):
                raise CredentialsRejected("the feed refuses api_key")
            if answer.status != 200:
                raise SourceUnavailable(f"{answer.status}", retry_after=float(answer.headers.get("Retry-After", 0)))
            try:
                return (await answer.json())["ferries"]
            except (ValueError, LookupError) as error:
                raise SourceUnavailable("the feed is no JSON") from error

@hookimpl
def waybridge_providers():
    return [Ferry]
