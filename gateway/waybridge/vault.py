"""Credentials at rest: sealed with AES-256-GCM under a key derived from a secret key, bound to their row.

    sealed = version (1 byte) | key id (4) | nonce (12) | ciphertext and tag

The key is HKDF-SHA256 of the secret (RFC 5869), so that it differs from the one that signs tokens; the key id is
derived too and says which of many secrets sealed, without saying anything of it. `bound_to` (the place of the row,
e.g. "connections/acme-vans/settings") is authenticated with the content: moved to another row, it does not open.
Nonces are random and 96 bits long: one key stays far below the 2^32 seals that NIST SP 800-38D allows it.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from waybridge.errors import WaybridgeError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = b"\x01"
ID_BYTES = 4
NONCE_BYTES = 12
TAG_BYTES = 16
SHORTEST_SECRET = 32
HEAD = len(VERSION) + ID_BYTES + NONCE_BYTES


class VaultError(WaybridgeError):
    """What is sealed does not open here: another secret, another row, or changed bytes."""


class Vault:
    """Seals under the first of `secret_keys`, opens what any of them sealed. Raises ValueError for short keys."""

    def __init__(self, secret_keys: Sequence[bytes]) -> None:
        if not secret_keys or any(len(key) < SHORTEST_SECRET for key in secret_keys):
            raise ValueError(f"secret keys must be at least {SHORTEST_SECRET} bytes")
        self._ciphers = [(_derived(key, b"id", ID_BYTES), AESGCM(_derived(key, b"key", 32))) for key in secret_keys]

    def __repr__(self) -> str:
        return f"Vault({len(self._ciphers)} keys)"

    def seal(self, plaintext: str, *, bound_to: str) -> bytes:
        """The sealed form of a text, different each time."""
        key_id, cipher = self._ciphers[0]
        nonce = os.urandom(NONCE_BYTES)
        return VERSION + key_id + nonce + cipher.encrypt(nonce, plaintext.encode(), _bound(key_id, bound_to))

    def open(self, sealed: bytes, *, bound_to: str) -> str:
        """The text. Raises VaultError when no key opens it for this row."""
        if len(sealed) < HEAD + TAG_BYTES or sealed[: len(VERSION)] != VERSION:
            raise VaultError(f"{bound_to}: is not something that this version sealed")
        key_id, nonce = sealed[len(VERSION) : len(VERSION) + ID_BYTES], sealed[len(VERSION) + ID_BYTES : HEAD]
        named = [cipher for candidate, cipher in self._ciphers if candidate == key_id]
        for cipher in named:
            try:
                return cipher.decrypt(nonce, sealed[HEAD:], _bound(key_id, bound_to)).decode()
            except InvalidTag:
                continue
        if named:
            raise VaultError(f"{bound_to}: was changed, or belongs to another row")
        raise VaultError(f"{bound_to}: none of secret_keys opens it; put back the key that sealed it")

    def needs_reseal(self, sealed: bytes) -> bool:
        """Whether another key than the first sealed this (or something that is none of ours)."""
        return sealed[: len(VERSION) + ID_BYTES] != VERSION + self._ciphers[0][0]


def digest(token: str) -> bytes:
    """SHA-256 of a token: what the database is asked for, so that it never holds a token and nothing is compared."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def short(token: str) -> str:
    """How a log names a token: the first 8 hex digits of its SHA-256."""
    return digest(token).hex()[:8]


def _derived(secret: bytes, use: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=b"waybridge/vault/v1/" + use).derive(secret)


def _bound(key_id: bytes, bound_to: str) -> bytes:
    return VERSION + key_id + bound_to.encode("utf-8", "surrogatepass")
