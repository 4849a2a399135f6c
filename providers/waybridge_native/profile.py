"""Profiles of native devices, fetched from the platform's own user service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from waybridge import CredentialsRejected, Profile, SourceKey, SourceUnavailable

if TYPE_CHECKING:
    from pydantic import SecretStr

PLACEHOLDER: Final = "{device_token}"
_LARGEST_ANSWER: Final = 65_536
_LONGEST_VALUE: Final = 320
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_FIELDS: Final = ("first_name", "last_name", "full_name", "nickname", "email", "phone", "client_id")


async def fetch_profile(
    session: aiohttp.ClientSession, url: str, token: SecretStr | None, source: SourceKey
) -> Profile | None:
    """GET the profile as JSON, at most 64 KiB, within 10 s. None where the service does not know the device.

    Raises CredentialsRejected (401, 403) and SourceUnavailable.
    """
    headers = {"Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token.get_secret_value()}"
    address = url.replace(PLACEHOLDER, quote(source.external_id, safe=""))
    try:
        async with session.get(address, headers=headers, timeout=_TIMEOUT, allow_redirects=False) as response:
            match response.status:
                case 404:
                    return None
                case 401 | 403:
                    raise CredentialsRejected("the profile service refuses profile_token")
                case 200:
                    body = await _bounded(response)
                case status:
                    raise SourceUnavailable(f"the profile service answered {status}")
    except (TimeoutError, aiohttp.ClientError) as error:
        raise SourceUnavailable(f"the profile service cannot be reached: {type(error).__name__}") from error
    return parse_profile(body, source)


def parse_profile(body: bytes, source: SourceKey) -> Profile:
    """A profile out of any of the shapes that user services answer; empty texts are absent.

    `{"first_name": ...}` or `{"FirstName": ...}`, either of them under `profile`, or as the Telematics User
    Service writes it: `{"Result": [{"UserProfile": {...}, "UserFields": [{"ClientId": ...}]}]}`.
    Raises SourceUnavailable for anything else.
    """
    try:
        tree = msgspec.json.decode(body)
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise SourceUnavailable("the profile service answered no JSON") from error
    found = {_plain(name): value for part in _parts(tree) for name, value in part.items()}
    texts = {field: _text(found.get(field.replace("_", ""))) for field in _FIELDS}
    return Profile(source=source, **texts)


def _parts(tree: Any) -> list[dict[str, Any]]:
    """The objects that hold the fields; the later ones win."""
    match tree:
        case {"Result": [{"UserProfile": {} as profile, **rest}, *_]}:
            match rest.get("UserFields"):
                case [{} as fields, *_] | ({} as fields):
                    return [fields, profile]
                case _:
                    return [profile]
        case {"profile": {} as profile}:
            return [profile]
        case {}:
            return [tree]
        case _:
            raise SourceUnavailable("the profile service answered no object")


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_VALUE:
        return None
    return value.strip() if value.isprintable() else None


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_chunked(8192):
        body += chunk
        if len(body) > _LARGEST_ANSWER:
            raise SourceUnavailable("the profile service answered more than 64 KiB")
    return body
