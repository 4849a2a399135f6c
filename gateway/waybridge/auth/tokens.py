"""Tokens: JWTs (RFC 7519) that the gateway or its platform minted, and those of an outside issuer.

The header's `alg` only says whose token it claims to be: HS256 is tried with the gateway's secrets and nothing
else, everything else with the outside issuer's keys and algorithms. Whatever a token holds, the only exception
is Unauthorized.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OctKey

from waybridge.auth.principal import Principal, unauthorized
from waybridge.errors import ConfigurationError, Unauthorized
from waybridge.model import canonical_token
from waybridge.vault import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waybridge.auth.keysets import Key, OutsideKeys
    from waybridge.provider import Clock
    from waybridge.settings import AuthSettings

OURS: Final = "waybridge"
"""Issuer and audience of the gateway's own tokens."""
ALGORITHM = "HS256"
LONGEST_LIFETIME = 10 * 366 * 86_400
"""Seconds; the gateway's own tokens live as long as their maker says, but not for ever."""
LATEST = 2**53
LONGEST_TEXT = 255
CACHED = 20_000
"""Tokens whose proof is remembered; the one not used for the longest is proved anew."""
INSTANCE = re.compile(r"[A-Za-z0-9_-]{1,64}|\*")
SYNONYMS = {"Ed25519": "EdDSA"}
"""RFC 9864 renamed it."""
TYPES = ("jwt", "at+jwt", "application/jwt", "application/at+jwt")
GARBAGE = (JoseError, ValueError, TypeError, KeyError, OverflowError, RecursionError, UnsupportedAlgorithm)
"""What parsers and ciphers raise on hostile input."""


class Auth:
    """Proves tokens and makes the gateway's own.

    `secrets` are the secret keys, the first signs; `outside` are the keys of the outside issuer, if there is one.
    Raises ConfigurationError for a secret that is public by its nature.
    """

    def __init__(
        self,
        settings: AuthSettings,
        secrets: Sequence[bytes],
        *,
        clock: Clock,
        outside: OutsideKeys | None = None,
        token_bytes: int = 8_192,
    ) -> None:
        self._settings = settings
        self._keys = [_oct_key(secret) for secret in secrets]
        self._clock = clock
        self._outside = outside
        self._token_bytes = token_bytes
        self._proved: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    def cached(self, token: str) -> Principal | None:
        """The principal of a token that was proved before, and still is; None asks for `verify`."""
        name = digest(token)
        known = self._proved.get(name)
        if known is None:
            return None
        if self._now() >= known[1]:
            del self._proved[name]
            return None
        self._proved.move_to_end(name)
        return known[0]

    async def verify(self, token: str) -> Principal:
        """The principal of a token of either issuer. Raises Unauthorized."""
        known = self.cached(token)
        if known is not None:
            return known
        try:
            header = self._header(token)
            if header["alg"] == ALGORITHM:
                return self._ours(token)
            return await self._theirs(token, header)
        except GARBAGE as error:
            raise unauthorized("the token is not valid") from error

    def verify_own(self, token: str) -> Principal:
        """As `verify`, without waiting, for tokens of the gateway alone. Raises Unauthorized."""
        known = self.cached(token)
        if known is not None:
            return known
        try:
            if self._header(token)["alg"] != ALGORITHM:
                raise unauthorized("the token is not one of this gateway")
            return self._ours(token)
        except GARBAGE as error:
            raise unauthorized("the token is not valid") from error

    def issue(
        self,
        *,
        subject: str,
        instances: Sequence[str],
        scope: str,
        ttl: float,
        device_token: str | None = None,
    ) -> str:
        """A token of the gateway that lives `ttl` seconds. Raises ValueError for what no token may hold."""
        now = int(self._now())
        claims: dict[str, Any] = {
            "iss": OURS,
            "aud": OURS,
            "sub": subject,
            "iat": now,
            "exp": now + math.ceil(ttl),
            "instances": list(instances),
            "scope": scope,
        }
        if device_token is not None:
            claims["device_token"] = canonical_token(device_token)
        try:
            self._principal(claims, LONGEST_LIFETIME, OURS_CLAIMS)
        except Unauthorized as error:
            raise ValueError(error.detail) from None
        return jwt.encode({"alg": ALGORITHM}, claims, self._keys[0], [ALGORITHM])

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _header(self, token: str) -> dict[str, Any]:
        """The header, read before anything is believed. Raises Unauthorized or ValueError."""
        if not token or len(token) > self._token_bytes:
            raise unauthorized(f"a token has 1 to {self._token_bytes} characters")
        if not re.fullmatch(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", token, re.ASCII):
            raise unauthorized("the token is no JWT")
        header = _json_object(_decoded(token.partition(".")[0]))
        if "crit" in header or not isinstance(header.get("alg"), str):
            raise unauthorized("the token's header is not understood")
        if "typ" in header and str(header["typ"]).lower() not in TYPES:
            raise unauthorized("the token is of another type")
        return header

    def _ours(self, token: str) -> Principal:
        for key in self._keys:
            try:
                payload = jws.deserialize_compact(token, key, [ALGORITHM]).payload
            except JoseError:
                continue
            claims = _json_object(payload or b"")
            _check_issuer(claims, OURS, OURS)
            principal = self._principal(claims, LONGEST_LIFETIME, OURS_CLAIMS)
            return self._remember(token, principal, principal.expires_at)
        raise unauthorized("the token's signature is not valid")

    async def _theirs(self, token: str, header: dict[str, Any]) -> Principal:
        settings = self._settings
        algorithm = SYNONYMS.get(header["alg"], header["alg"])
        kid = header.get("kid")
        if self._outside is None or algorithm not in settings.algorithms:
            raise unauthorized("the token's issuer is not known here")
        if not (kid is None or (isinstance(kid, str) and 0 < len(kid) <= LONGEST_TEXT)):
            raise unauthorized("the token's header is not understood")
        key: Key | None = await self._outside.find(kid, algorithm)
        if key is None:
            raise unauthorized("the token's key is not known")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # the old name of Ed25519 is in wide use
            claims = _json_object(jws.deserialize_compact(token, key, [header["alg"]]).payload or b"")
        _check_issuer(claims, settings.issuer, settings.audience)
        names = (
            settings.subject_claim,
            settings.instances_claim,
            settings.scope_claim,
            settings.device_token_claim,
        )
        principal = self._principal(claims, settings.outside_lifetime_hours * 3_600, names)
        believed = self._now() + self._outside.good_for()
        return self._remember(token, principal, min(principal.expires_at, believed))

    def _principal(
        self, claims: dict[str, Any], longest_lifetime: float, names: tuple[str, str, str, str]
    ) -> Principal:
        subject_claim, instances_claim, scope_claim, device_claim = names
        return Principal(
            expires_at=self._lifetime(claims, longest_lifetime),
            subject=_text(claims.get(subject_claim, ""), subject_claim),
            instances=_instances(claims.get(instances_claim, []), instances_claim),
            scopes=_scopes(claims.get(scope_claim, ""), scope_claim),
            device_token=_device(claims[device_claim], device_claim) if device_claim in claims else None,
        )

    def _lifetime(self, claims: dict[str, Any], longest: float) -> float:
        """`exp`, once all times are good."""
        now, leeway = self._now(), self._settings.leeway_seconds
        expires, issued = _moment(claims, "exp"), _moment(claims, "iat")
        if expires + leeway <= now:
            raise unauthorized("the token has expired")
        if issued - leeway > now or ("nbf" in claims and _moment(claims, "nbf") - leeway > now):
            raise unauthorized("the token is not valid yet")
        if not 0 < expires - issued <= longest:
            raise unauthorized("the token's lifetime is too long, or none")
        return expires

    def _remember(self, token: str, principal: Principal, until: float) -> Principal:
        if until > self._now():
            self._proved[digest(token)] = (principal, until)
            if len(self._proved) > CACHED:
                self._proved.popitem(last=False)
        return principal


OURS_CLAIMS = ("sub", "instances", "scope", "device_token")


def _oct_key(secret: bytes) -> OctKey:
    try:
        return OctKey.import_key({"kty": "oct", "k": base64.urlsafe_b64encode(secret).rstrip(b"=").decode()})
    except ValueError:
        raise ConfigurationError("secret_keys: a public key or certificate is no secret") from None


def _decoded(segment: str) -> bytes:
    try:
        return base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error


def _json_object(text: bytes) -> dict[str, Any]:
    """A JSON object without NaN and without a name that stands twice: two readers might take different ones."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a name stands twice")
        return made

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    value = json.loads(text.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
    if not isinstance(value, dict):
        raise unauthorized("the token is no JWT")
    return value


def _check_issuer(claims: dict[str, Any], issuer: str, audience: str) -> None:
    named = claims.get("aud")
    audiences = named if isinstance(named, list) else [named]
    if claims.get("iss") != issuer:
        raise unauthorized("the token's issuer is not known here")
    if not all(isinstance(one, str) for one in audiences) or audience not in audiences:
        raise unauthorized("the token is for another audience")


def _moment(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LATEST:
        raise unauthorized(f"the token's {name} is missing or no time")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise unauthorized(f"the token's {name} is not valid")
    return value


def _instances(value: Any, name: str) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) and INSTANCE.fullmatch(one) for one in value):
        raise unauthorized(f"the token's {name} is not a list of instances")
    return frozenset(value)


def _scopes(value: Any, name: str) -> frozenset[str]:
    words = value.split(" ") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise unauthorized(f"the token's {name} is not valid")
    return frozenset(word for word in words if word)


def _device(value: Any, name: str) -> str:
    """A device token; null is refused, for it would turn a slip of the maker into a token for every device."""
    try:
        return canonical_token(value) if isinstance(value, str) else canonical_token("")
    except ValueError:
        raise unauthorized(f"the token's {name} is not valid") from None
