"""Access tokens by the client credentials grant (RFC 6749 section 4.4), one fetch at a time.

The vendor may hand out a token that already exists, with what is left of its life: `expires_in` of every
answer is believed, and a token fetched after a refusal may be the refused one again.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from authlib.oauth2.auth import ClientAuth  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.parameters import prepare_token_request  # type: ignore[import-untyped]

from waybridge import CredentialsRejected, SourceUnavailable
from waybridge_mycartracks.exchange import exchange
from waybridge_mycartracks.values import number

if TYPE_CHECKING:
    from waybridge import ProviderContext
    from waybridge_mycartracks.exchange import Reply
    from waybridge_mycartracks.settings import MyCarTracksSettings

_AHEAD: Final = 60.0
_LIFE_WHEN_UNTOLD: Final = 300.0
_LONGEST_LIFE: Final = 86_400.0
_LARGEST_ANSWER: Final = 65_536
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,8192}")
_FINAL: Final = frozenset(
    {
        "invalid_client",
        "invalid_scope",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "access_denied",
    }
)


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    refresh_at: float


class Tokens:
    """The account's current access token, fetched when needed and `_AHEAD` seconds before it ends."""

    def __init__(self, settings: MyCarTracksSettings, context: ProviderContext) -> None:
        self._settings = settings
        self._context = context
        self._lock = asyncio.Lock()
        self._token: _Token | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be said about this account, for striking out."""
        known = (self._settings.client_secret.get_secret_value(), self._settings.client_id)
        return known if self._token is None else (self._token.value, *known)

    async def current(self) -> str:
        """A token that is good for a while yet. Raises CredentialsRejected, SourceUnavailable."""
        async with self._lock:
            if self._token is None or self._context.clock.monotonic() >= self._token.refresh_at:
                self._token = await self._fetch()
            return self._token.value

    async def after(self, refused: str) -> str:
        """A token in place of one that was answered with 401; fetched once, however many ask."""
        async with self._lock:
            if self._token is None or self._token.value == refused:
                self._token = None
                self._token = await self._fetch()
            return self._token.value

    def drop(self, refused: str) -> None:
        """Forget a token, so that the next request fetches one."""
        if self._token is not None and self._token.value == refused:
            self._token = None

    async def _fetch(self) -> _Token:
        headers, body = self._request()
        reply = await exchange(
            self._context.session,
            "POST",
            self._settings.token_url,
            headers=headers,
            body=body,
            largest=_LARGEST_ANSWER,
            secrets=self.secrets,
        )
        answer = _object(reply.body)
        if not reply.ok:
            raise self._refusal(reply, answer)
        value = answer.get("access_token")
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            raise SourceUnavailable(f"the token endpoint answered {reply.status} without an access token")
        life = _life(answer.get("expires_in"))
        self._context.count("token_fetched")
        return _Token(value, self._context.clock.monotonic() + life - min(_AHEAD, life / 2))

    def _request(self) -> tuple[dict[str, str], bytes]:
        settings = self._settings
        client = ClientAuth(
            settings.client_id, settings.client_secret.get_secret_value(), settings.token_endpoint_auth_method
        )
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        form = prepare_token_request("client_credentials", scope=settings.scope)
        try:
            _, headers, form = client.prepare("POST", settings.token_url, headers, form)
        except UnicodeEncodeError:
            pass
        else:
            return headers, form.encode()
        raise CredentialsRejected("client_id or client_secret holds characters that Basic authentication cannot carry")

    def _refusal(self, reply: Reply, answer: dict[str, Any]) -> Exception:
        code = answer.get("error")
        said = f"the token endpoint answered {reply.status}: {reply.excerpt(self.secrets)}"
        if reply.is_redirect:
            return SourceUnavailable(f"the token endpoint answered {reply.status}, a redirect: correct token_url")
        if reply.status in {401, 403} or (reply.is_refusal and code in _FINAL):
            return CredentialsRejected(said)
        return SourceUnavailable(said, retry_after=reply.retry_after)


def _object(body: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _life(expires_in: Any) -> float:
    """Seconds; five minutes where the vendor does not say."""
    if isinstance(expires_in, str) and expires_in.isdecimal() and len(expires_in) < 10:
        expires_in = int(expires_in)
    seconds = number(expires_in)
    return _LIFE_WHEN_UNTOLD if seconds is None else min(max(seconds, 0.0), _LONGEST_LIFE)
