"""Fake parts of the API's tests, owned by us."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from waybridge.errors import Forbidden, Unauthorized


@dataclass(frozen=True)
class FakePrincipal:
    """Who sent a request: a test decides what it may."""

    subject: str = "tester"
    instances: frozenset[str] = frozenset({"acme"})
    scopes: frozenset[str] = frozenset({"read", "write", "ingest", "admin"})
    device_token: str | None = None

    def covers(self, instance_id: str) -> bool:
        return "*" in self.instances or instance_id in self.instances

    def require(self, scope: str) -> None:
        if scope not in self.scopes:
            raise Forbidden(f"the token lacks the scope {scope}")


class FakeAuth:
    """Tokens are names of principals."""

    def __init__(self, principals: Mapping[str, FakePrincipal]) -> None:
        self.principals = dict(principals)

    def cached(self, token: str) -> FakePrincipal | None:
        return self.principals.get(token)

    async def verify(self, token: str) -> FakePrincipal:
        raise Unauthorized("the token is not valid")


class FakeOrigins:
    """Embed origins by instance."""

    def __init__(self, origins: Mapping[str, Collection[str]] | None = None) -> None:
        self.origins = dict(origins or {})

    def embed_origins(self, instance_id: str) -> Collection[str]:
        return self.origins.get(instance_id, ())

    def all_embed_origins(self) -> Collection[str]:
        return {each for origins in self.origins.values() for each in origins}
