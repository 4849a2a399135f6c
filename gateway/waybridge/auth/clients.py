"""API clients: `POST /oauth/token` with client credentials (RFC 6749 §4.4).

The flow is authlib's; what reaches it was checked here first, because its parsers fail on hostile input and its
answers tell an unknown client from a wrong secret. Secrets are 256 random bits, so one SHA-256 is all the hashing
they need: there is nothing to guess that a slow hash would protect.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]
    AuthorizationServer,
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Error,
    OAuth2Request,
)
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload  # type: ignore[import-untyped]

from waybridge.auth.principal import basic_credentials
from waybridge.errors import Invalid, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from waybridge.auth.tokens import Auth

SECRET_BYTES = 32
GRANT = "client_credentials"
NO_STORE = {"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"}
BASIC_CHALLENGE = {"WWW-Authenticate": 'Basic realm="waybridge"'}


class ClientRecord(Protocol):
    """An API client as it is stored; `scope` is separated by spaces, `secret_hash` is `secret_digest(secret)`."""

    @property
    def client_id(self) -> str: ...
    @property
    def instances(self) -> Sequence[str]: ...
    @property
    def scope(self) -> str: ...
    @property
    def secret_hash(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A request to the token endpoint: its headers, and the names and values of its query and its form."""

    headers: Mapping[str, str]
    query: Sequence[tuple[str, str]] = ()
    form: Sequence[tuple[str, str]] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """What the token endpoint answers; `body` is sent as JSON."""

    status: int
    body: Mapping[str, Any] = field(repr=False)
    headers: Mapping[str, str]


def new_client_secret() -> str:
    """A fresh secret, shown once and never stored."""
    return secrets.token_urlsafe(SECRET_BYTES)


def secret_digest(secret: str) -> bytes:
    """What is stored of a client's secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class Clients:
    """Answers the token endpoint. `find_client` looks a client up by its id."""

    def __init__(
        self, auth: Auth, find_client: Callable[[str], Awaitable[ClientRecord | None]], *, token_seconds: int = 3_600
    ) -> None:
        self._auth = auth
        self._find = find_client
        self._token_seconds = token_seconds

    async def answer(self, request: TokenRequest) -> TokenAnswer:
        """A token, or an error of RFC 6749 §5.2. Never raises on what a caller sends."""
        try:
            client_id, secret, scope = _read(request)
        except OAuth2Error as error:
            return _refusal(error.error, error.description)
        return await self._granted(client_id, secret, scope)

    async def token(self, client_id: str, client_secret: str, scope: str | None) -> dict[str, Any]:
        """`{access_token, token_type, expires_in, scope}`. Raises Unauthorized, or Invalid for a scope."""
        answer = await self._granted(client_id, client_secret, scope)
        match answer.status, answer.body.get("error_description", ""):
            case 200, _:
                return dict(answer.body)
            case 401, detail:
                raise Unauthorized(detail, headers=BASIC_CHALLENGE)
            case _, detail:
                raise Invalid(detail, errors=[("scope", detail)])

    async def _granted(self, client_id: str, secret: str, scope: str | None) -> TokenAnswer:
        found = await self._find(client_id) if client_id.isprintable() and client_id else None
        server = _Server(found, self._issue)
        answer: TokenAnswer = server.create_token_response(_Request(client_id, secret, scope))
        if answer.body.get("error") == "invalid_client":
            return _refusal("invalid_client", "the client is unknown or its secret is wrong", status=401)
        return answer

    def _issue(self, client: ClientRecord, scope: str) -> dict[str, Any]:
        token = self._auth.issue(
            subject=client.client_id, instances=client.instances, scope=scope, ttl=self._token_seconds
        )
        return _Token(access_token=token, token_type="bearer", expires_in=self._token_seconds, scope=scope)  # noqa: S106


class _Client:
    """A record in the shape that authlib asks."""

    def __init__(self, record: ClientRecord) -> None:
        self.record = record

    def check_client_secret(self, secret: str) -> bool:
        return hmac.compare_digest(secret_digest(secret), self.record.secret_hash)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_post" and endpoint == "token"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == GRANT


class _Grant(ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_post",)

    def validate_requested_scope(self) -> None:
        """The asked scope, each word once, within the client's; all of the client's when none is asked."""
        held = self.request.client.record.scope.split()
        asked = list(dict.fromkeys((self.request.payload.scope or "").split())) or held
        if not set(asked) <= set(held):
            raise InvalidScopeError("the client may not have that scope")
        self.request.payload.data["scope"] = " ".join(asked)


class _Request(OAuth2Request):  # type: ignore[misc]
    """A checked request in the shape that authlib reads; it must look like https, which a proxy ends."""

    def __init__(self, client_id: str, secret: str, scope: str | None) -> None:
        super().__init__("POST", "https://gateway.invalid/oauth/token")
        self.payload = BasicOAuth2Payload({"grant_type": GRANT, "scope": scope})
        self._credentials = {"client_id": client_id, "client_secret": secret}

    @property
    def form(self) -> dict[str, str]:
        return self._credentials


class _Server(AuthorizationServer):  # type: ignore[misc]
    """authlib's server for one request, with the client already looked up (authlib cannot await)."""

    def __init__(self, found: ClientRecord | None, issue: Callable[[ClientRecord, str], dict[str, Any]]) -> None:
        super().__init__()
        self._found = found
        self.register_grant(_Grant)
        self.register_token_generator("default", lambda *, client, scope, **_: issue(client.record, scope))

    def query_client(self, client_id: str) -> _Client | None:
        return _Client(self._found) if self._found is not None and self._found.client_id == client_id else None

    def create_oauth2_request(self, request: OAuth2Request) -> OAuth2Request:
        return request

    def save_token(self, token: Mapping[str, Any], request: OAuth2Request) -> None:
        """Tokens prove themselves; none is stored."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens to authlib's signals."""

    def handle_response(self, status: int, body: Any, headers: Any) -> TokenAnswer:
        del headers
        return TokenAnswer(status=status, body=dict(body), headers=NO_STORE)


class _Token(dict[str, Any]):
    """An answer that authlib may log: it does not show the token."""

    def __repr__(self) -> str:
        return "a token"


def _read(request: TokenRequest) -> tuple[str, str, str | None]:
    """(client id, secret, scope) of a request. Raises OAuth2Error for one that is not well formed."""
    parameters: dict[str, str] = {}
    for name, value in (*request.query, *request.form):
        if name in parameters:
            raise InvalidRequestError("a parameter stands twice")
        parameters[name] = value
    grant = parameters.get("grant_type")
    if grant != GRANT:
        error = "unsupported_grant_type" if grant else "invalid_request"
        raise OAuth2Error(f"grant_type must be {GRANT}", error=error)
    try:
        basic = basic_credentials(request.headers)
    except Unauthorized as error:
        raise InvalidRequestError(error.detail) from None
    form = dict(request.form)
    if any(name == "client_secret" for name, _ in request.query):
        raise InvalidRequestError("credentials belong into the header or the form, never into the address")
    if basic is not None and "client_secret" in form:
        raise InvalidRequestError("credentials stand in the header and in the form")
    client_id, secret = basic or (form.get("client_id", ""), form.get("client_secret", ""))
    if parameters.get("client_id", client_id) != client_id:
        raise InvalidRequestError("two different client ids")
    return client_id, secret, parameters.get("scope")


def _refusal(error: str, description: str, *, status: int = 400) -> TokenAnswer:
    return TokenAnswer(
        status=status,
        body={"error": error, "error_description": description},
        headers=NO_STORE | (BASIC_CHALLENGE if error == "invalid_client" else {}),
    )
