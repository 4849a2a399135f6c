"""The stand-in's token desk: client credentials by Basic or form, existing tokens handed out again."""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from waybridge_mycartracks.simulator_shape import Time


@dataclass(slots=True)
class Issued:
    """A token; `expires_at` by the monotonic clock."""

    value: str = field(repr=False)
    scope: str
    expires_at: float


class Denied(Exception):
    """An RFC 6749 error answer."""

    def __init__(self, status: int, code: str, description: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.description = description


class TokenDesk:
    """Gives out tokens of one client, and knows them again. `issued` counts the different ones."""

    def __init__(self, client_id: str, client_secret: str, scopes: frozenset[str], seconds: float, clock: Time) -> None:
        self._client = (client_id, client_secret)
        self._scopes = scopes
        self._seconds = seconds
        self._clock = clock
        self._tokens: dict[str, Issued] = {}
        self.issued = 0

    def grant(self, header: str | None, body: str, reissue: bool) -> Issued:  # noqa: FBT001
        """The account's existing token of this scope with what is left of it (if `reissue`), or a new one."""
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if _credentials(header, form) != self._client:
            raise Denied(401, "invalid_client", "Bad client credentials")
        if form.get("grant_type") != "client_credentials":
            raise Denied(400, "unsupported_grant_type", "Unsupported grant type")
        scope = form.get("scope") or " ".join(sorted(self._scopes))
        if not set(scope.split()) <= self._scopes:
            raise Denied(400, "invalid_scope", f"Invalid scope: {scope}")
        now = self._clock.monotonic()
        self._tokens = {value: token for value, token in self._tokens.items() if token.expires_at > now}
        existing = next((token for token in self._tokens.values() if token.scope == scope), None)
        if existing is not None and reissue:
            return existing
        token = Issued(str(uuid.uuid4()), scope, now + self._seconds)
        self._tokens[token.value] = token
        self.issued += 1
        return token

    def known(self, authorization: str) -> Issued | None:
        """The token of an Authorization header, while it lives."""
        token = self._tokens.get(authorization.removeprefix("Bearer "))
        return token if token is not None and token.expires_at > self._clock.monotonic() else None

    def revoke(self) -> None:
        """Forgets every token."""
        self._tokens.clear()


def _credentials(header: str | None, form: Mapping[str, str]) -> tuple[str, str] | None:
    if header is None:
        return form.get("client_id", ""), form.get("client_secret", "")
    if "client_secret" in form or not header.startswith("Basic "):
        return None
    try:
        name, _, secret = base64.b64decode(header[6:], validate=True).decode("latin-1").partition(":")
    except ValueError:
        return None
    return name, secret
