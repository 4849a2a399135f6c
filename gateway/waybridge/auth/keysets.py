"""The public keys of an outside issuer, fetched from its JWKS (RFC 7517) and kept within bounds.

- One fetch at a time, whoever waits; each at most `timeout` seconds and ANSWER_BYTES long.
- After `ttl` seconds keys are fetched anew, however much they are used, so that a withdrawn key ends.
- Between two fetches pass at least `refetch` seconds, also when tokens name keys that are unknown.
- While the issuer cannot be reached its last keys serve on, `keep` seconds at the most.
"""

from __future__ import annotations

import asyncio
import base64
import json
import warnings
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from waybridge import egress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import aiohttp

log = structlog.get_logger("waybridge.auth")

Key: TypeAlias = RSAKey | ECKey | OKPKey
ANSWER_BYTES = 100_000
MOST_KEYS = 50
RSA_BITS = (2_048, 8_192)
"""Below the first a key is weak, above the second one signature keeps a core busy."""
KINDS: dict[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""The key type and curve of each algorithm."""


@dataclass(frozen=True, slots=True)
class _Entry:
    kid: str | None
    algorithm: str
    key: Key


class OutsideKeys:
    """The keys of one issuer. `monotonic` is in seconds; `session` follows no redirects (waybridge.egress)."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        *,
        monotonic: Callable[[], float],
        algorithms: Sequence[str],
        timeout_seconds: float = 1,
        ttl_seconds: float = 600,
        refetch_seconds: float = 30,
        keep_seconds: float = 86_400,
    ) -> None:
        self._url = url
        self._session = session
        self._monotonic = monotonic
        self._algorithms = tuple(algorithms)
        self._timeout = timeout_seconds
        self._ttl = ttl_seconds
        self._refetch = refetch_seconds
        self._keep = keep_seconds
        self._entries: tuple[_Entry, ...] = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._down = False

    async def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The key that a token names; without a name the only one for its algorithm; None where there is none."""
        if not self._is_fresh():
            await self._fetch()
        found = self._known(kid, algorithm)
        if found is None and kid is not None:
            await self._fetch()
            found = self._known(kid, algorithm)
        return found

    def good_for(self) -> float:
        """Seconds for which what these keys proved may be believed without asking again."""
        if self._fetched_at is None:
            return 0.0
        return max(0.0, self._fetched_at + self._ttl - self._monotonic())

    async def close(self) -> None:
        """Gives up a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _is_fresh(self) -> bool:
        return self._fetched_at is not None and self._monotonic() - self._fetched_at < self._ttl

    def _known(self, kid: str | None, algorithm: str) -> Key | None:
        if self._fetched_at is None or self._monotonic() - self._fetched_at >= self._keep:
            return None
        fit = [entry.key for entry in self._entries if entry.algorithm == algorithm and kid in (None, entry.kid)]
        return fit[0] if len(fit) == 1 else None

    async def _fetch(self) -> None:
        """Waits for a fetch; makes one unless one is under way or the last one was too short ago."""
        if self._fetching is None or self._fetching.done():
            now = self._monotonic()
            if self._tried_at is not None and now - self._tried_at < self._refetch:
                return
            self._tried_at = now
            self._fetching = asyncio.create_task(self._fetch_once(), name="jwks")
        await asyncio.shield(self._fetching)

    async def _fetch_once(self) -> None:
        try:
            answer = await egress.request(
                self._session,
                "GET",
                self._url,
                headers={"Accept": "application/jwk-set+json, application/json"},
                timeout_seconds=self._timeout,
                max_answer=ANSWER_BYTES + 1,
            )
            self._entries = parse(answer.status, answer.body, self._algorithms)
        except (egress.EgressFailed, ValueError) as error:
            if not self._down:
                log.warning("the keys of the outside issuer cannot be fetched", url=self._url, reason=str(error))
            self._down = True
            return
        if self._down:
            log.info("the keys of the outside issuer are fetched again", url=self._url)
        self._down = False
        self._fetched_at = self._monotonic()


def parse(status: int, body: bytes, algorithms: Sequence[str]) -> tuple[_Entry, ...]:
    """The usable keys of a JWKS; those of other kinds and uses are left out. Raises ValueError for no JWKS."""
    if status != HTTPStatus.OK:
        raise ValueError(f"the issuer answered {status}")
    if len(body) > ANSWER_BYTES:
        raise ValueError(f"the key set is longer than {ANSWER_BYTES} bytes")
    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("the key set is nested too deep") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("the answer is no key set")  # noqa: TRY004 - one kind of fault for the caller
    if len(keys) > MOST_KEYS:
        raise ValueError(f"the key set has more than {MOST_KEYS} keys")
    return tuple(entry for key in keys if isinstance(key, dict) for entry in _entries(key, algorithms))


def _entries(key: dict[str, Any], algorithms: Sequence[str]) -> list[_Entry]:
    kid = key.get("kid")
    operations = key.get("key_ops", ["verify"])
    if not (kid is None or isinstance(kid, str)) or key.get("use", "sig") != "sig" or "d" in key:
        return []
    if not isinstance(operations, list) or "verify" not in operations:
        return []
    shape = (key.get("kty"), key.get("crv"))
    fit = [name for name in algorithms if KINDS[name] == shape and key.get("alg", name) in (name, key.get("crv"))]
    made = _imported(key) if fit else None
    return [] if made is None else [_Entry(kid, name, made) for name in fit]


def _imported(key: dict[str, Any]) -> Key | None:
    """The key, from its public part alone; None where it is broken, weak or monstrous."""
    members = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}[key["kty"]]
    part = {name: key.get(name) for name in members}
    if not all(isinstance(value, str) for value in part.values()):
        return None
    public: dict[str, Any] = {"kty": key["kty"], **part}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = _made(public)
            if made is not None:
                made.public_key  # noqa: B018 - the library builds the key, and finds its faults, only now
    except (JoseError, ValueError, TypeError, UnsupportedAlgorithm, OverflowError):
        return None
    return made


def _made(public: dict[str, Any]) -> Key | None:
    match public["kty"]:
        case "RSA":
            return RSAKey.import_key(public) if _rsa_is_sound(public) else None
        case "EC":
            return ECKey.import_key(public)
        case _:
            return OKPKey.import_key(public)


def _rsa_is_sound(public: dict[str, Any]) -> bool:
    modulus, exponent = (_number(public[name]) for name in ("n", "e"))
    return RSA_BITS[0] <= modulus.bit_length() <= RSA_BITS[1] and 3 <= exponent < 2**32 and exponent % 2 == 1


def _number(text: str) -> int:
    return int.from_bytes(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True), "big")
