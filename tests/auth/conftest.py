"""A clock that tests own, tokens of every make, and an issuer with a key set on loopback."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc.jwk import ECKey, OKPKey, RSAKey
from token_makers import ISSUER, OLDER, SECRET

from waybridge.auth import Auth, OutsideKeys
from waybridge.egress import make_session
from waybridge.settings import AuthSettings


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 21, 12, tzinfo=UTC)
        self.ticks = 1_000.0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.ticks

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here sleeps")

    def pass_seconds(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.ticks += seconds

    @property
    def unix(self) -> int:
        return int(self.time.timestamp())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def claims(clock):
    """Claims of a good token of the gateway, with changes; a value of ... takes a claim away."""

    def make(**changes):
        good = {
            "iss": "waybridge",
            "aud": "waybridge",
            "sub": "platform",
            "iat": clock.unix,
            "exp": clock.unix + 600,
            "instances": ["acme"],
            "scope": "read write",
        }
        return {name: value for name, value in (good | changes).items() if value is not ...}

    return make


@pytest.fixture
def outside_claims(claims):
    return lambda **changes: claims(**({"iss": ISSUER} | changes))


class Issuer:
    """An outside issuer: its private keys, its key set, and how often it was asked."""

    def __init__(self, keys: dict) -> None:
        self.keys = dict(keys)
        self.document = {"keys": [self.public(name) for name in keys]}
        self.asked = 0
        self.called = asyncio.Event()
        self.status = 200
        self.body: bytes | None = None
        self.hold: asyncio.Event | None = None

    def public(self, name: str, **members) -> dict:
        return self.keys[name].as_dict(private=False) | {"kid": name, "use": "sig"} | members

    async def serve(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.called.set()
        if self.hold is not None:
            await self.hold.wait()
        return web.Response(status=self.status, body=self.body or json.dumps(self.document).encode())


@pytest.fixture(scope="session")
def private_keys():
    return {
        "rsa": RSAKey.generate_key(2048, private=True),
        "ec": ECKey.generate_key("P-256", private=True),
        "okp": OKPKey.generate_key("Ed25519", private=True),
    }


@pytest.fixture
async def issuer(private_keys):
    made = Issuer(private_keys)
    app = web.Application()
    app.router.add_get("/jwks.json", made.serve)
    async with TestServer(app, shutdown_timeout=0.1) as server:
        made.url = str(server.make_url("/jwks.json"))
        yield made


@pytest.fixture
def settings() -> AuthSettings:
    return AuthSettings(jwks_url="https://id.example.com/jwks.json", issuer=ISSUER)


@pytest.fixture
def auth(clock) -> Auth:
    """The gateway's own tokens only."""
    return Auth(AuthSettings(), [SECRET, OLDER], clock=clock)


@pytest.fixture
async def keys(issuer, clock):
    async with make_session(guarded=False) as session:
        made = OutsideKeys(
            issuer.url, session, monotonic=clock.monotonic, algorithms=("RS256", "ES256", "EdDSA"), timeout_seconds=2
        )
        yield made
        await made.close()


@pytest.fixture
def both(settings, clock, keys) -> Auth:
    """The gateway's tokens and the outside issuer's."""
    return Auth(settings, [SECRET, OLDER], clock=clock, outside=keys)
