"""Webhook signatures by Standard Webhooks 1.0: what the gateway sends, and what vendors send to it.

    webhook-id: msg_...    webhook-timestamp: unix seconds    webhook-signature: v1,BASE64 [v1,BASE64 ...]

Signed is `{id}.{timestamp}.{body}` on the exact bytes, with HMAC-SHA256 under the bytes that follow `whsec_`.
Source: the specification at standardwebhooks.com; its Python library is the oracle in tests, not the verifier,
because hostile headers crash it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets as randomness
from typing import TYPE_CHECKING

from waybridge.errors import WaybridgeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "whsec_"
SECRET_BYTES = 32
TOLERANCE_SECONDS = 300
LONGEST_ID = 256
LONGEST_HEADER = 8_192


class SignatureRejected(WaybridgeError):
    """The request is not what the holder of the secret sent, or not now; the message says why."""


def new_secret() -> str:
    """A fresh signing secret: `whsec_` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(randomness.token_bytes(SECRET_BYTES)).decode()


def sign_webhook(secrets: str | Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one `v1` signature per secret, in order. Raises ValueError for a bad secret."""
    return " ".join(
        "v1," + base64.b64encode(_mac(_key(secret), message_id, str(timestamp), body)).decode()
        for secret in _several(secrets)
    )


def signed_headers(secrets: str | Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a message that is sent now (`timestamp`: unix seconds)."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign_webhook(secrets, message_id, timestamp, body),
    }


def verify_webhook(
    secrets: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    now: float,
    tolerance: float = TOLERANCE_SECONDS,
) -> str:
    """The message's id, once its signature by any of the secrets and its time are good.

    `body` is the raw body, `now` unix seconds; names of headers match in any case. Whatever the headers hold,
    the only exception is SignatureRejected.
    """
    found = {name.lower(): value for name, value in headers.items() if name.lower().startswith("webhook-")}
    message_id = found.get("webhook-id", "")
    timestamp = found.get("webhook-timestamp", "")
    signatures = found.get("webhook-signature", "")
    if not (message_id and timestamp and signatures):
        raise SignatureRejected("webhook-id, webhook-timestamp or webhook-signature is missing")
    if len(message_id) > LONGEST_ID or len(signatures) > LONGEST_HEADER:
        raise SignatureRejected("a webhook header is too long")
    if not re.fullmatch(r"[0-9]{1,12}", timestamp, re.ASCII):
        raise SignatureRejected("webhook-timestamp is not unix seconds")
    if abs(now - int(timestamp)) > tolerance:
        raise SignatureRejected("webhook-timestamp is too far from now")
    given = [signature for signature in map(_decoded, signatures.split(" ")) if signature is not None]
    try:
        expected = [_mac(_key(secret), message_id, timestamp, body) for secret in _several(secrets)]
    except ValueError as error:
        raise SignatureRejected(f"cannot be verified: {error}") from None
    if not any([hmac.compare_digest(mac, signature) for mac in expected for signature in given]):  # noqa: C419 - every pair is compared, whatever matches
        raise SignatureRejected("no signature matches")
    return message_id


def _several(secrets: str | Sequence[str]) -> Sequence[str]:
    return (secrets,) if isinstance(secrets, str) else secrets


def _key(secret: str) -> bytes:
    """The bytes of a secret, with or without prefix and padding. Raises ValueError, which never shows it."""
    text = secret.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("the signing secret is not whsec_ followed by base64")
    return key


def _mac(key: bytes, message_id: str, timestamp: str, body: bytes) -> bytes:
    """Headers arrive decoded with surrogate escapes, so this gives back the bytes that came."""
    head = f"{message_id}.{timestamp}.".encode("utf-8", "surrogateescape")
    return hmac.digest(key, head + body, hashlib.sha256)


def _decoded(signature: str) -> bytes | None:
    """The bytes of a `v1` signature; None for other versions and for nonsense."""
    version, _, text = signature.partition(",")
    if version != "v1":
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
