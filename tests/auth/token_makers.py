"""Tokens of every make, good and bad."""

import base64
import json
import warnings

from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import OctKey

SECRET = b"a-secret-that-is-long-enough-to-be-one"
OLDER = b"an-older-secret-that-is-long-enough-too"
ISSUER = "https://id.example.com/"


def b64(value: bytes | str | dict) -> str:
    if isinstance(value, dict):
        value = json.dumps(value)
    if isinstance(value, str):
        value = value.encode()
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def oct_key(secret: bytes) -> OctKey:
    return OctKey.import_key({"kty": "oct", "k": b64(secret)})


def signed(payload, key, **header) -> str:
    """A token with any header and any payload (text goes in as it is), truly signed."""
    body = json.dumps(payload) if isinstance(payload, dict) else payload
    header = {"alg": "HS256", "typ": "JWT"} | header
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return jws.serialize_compact(header, body, key, [header["alg"]])
