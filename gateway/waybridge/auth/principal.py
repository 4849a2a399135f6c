"""Who calls, as a verified token says it, and where a request carries its token."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waybridge.errors import Forbidden, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Mapping

SCOPES = ("read", "write", "ingest", "admin")
"""What a token may hold; none implies another."""
EVERY_INSTANCE = "*"
CHALLENGE = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The bearer of a token. `device_token` binds it to one device; `expires_at` is the token's `exp`, unix seconds."""

    subject: str
    instances: frozenset[str]
    scopes: frozenset[str]
    device_token: str | None = None
    expires_at: float

    def covers(self, instance_id: str) -> bool:
        """Whether the token is for this instance, by name or by "*"."""
        return instance_id in self.instances or EVERY_INSTANCE in self.instances

    @property
    def covers_all(self) -> bool:
        return EVERY_INSTANCE in self.instances

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def require(self, scope: str) -> None:
        """Raises Forbidden when the token lacks a scope."""
        if scope not in self.scopes:
            raise Forbidden(f"the token lacks the scope {scope}")


def unauthorized(detail: str) -> Unauthorized:
    """401 with the challenge that every one of ours carries."""
    return Unauthorized(detail, headers=CHALLENGE)


def bearer(headers: Mapping[str, str], *, bare: bool = False) -> str:
    """The token of `Authorization: Bearer TOKEN`; with `bare`, also of `Authorization: TOKEN`.

    Raises Unauthorized when there is none, or more than one header.
    """
    value = _authorization(headers)
    scheme, blank, token = value.partition(" ")
    token = token.strip(" ")
    if blank and scheme.lower() == "bearer" and token and " " not in token:
        return token
    if bare and value and not blank:
        return value
    raise unauthorized("a bearer token is required")


def basic_credentials(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """(user, password) of `Authorization: Basic`, or None where there is no such header or it is nonsense."""
    scheme, _, text = _authorization(headers).partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(text.strip(" "), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def _authorization(headers: Mapping[str, str]) -> str:
    """The one Authorization header. Raises Unauthorized when there are more; empty when there is none."""
    found = [value for name, value in headers.items() if name.lower() == "authorization"]
    if len(found) > 1:
        raise unauthorized("more than one Authorization header")
    return found[0].strip(" ") if found else ""
