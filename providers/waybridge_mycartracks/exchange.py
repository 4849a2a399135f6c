"""One bounded HTTP exchange with the vendor: no redirects, a limit on time and size, nothing secret in errors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from waybridge import SourceUnavailable
from waybridge_mycartracks.redact import clean, excerpt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PATIENCE: Final = aiohttp.ClientTimeout(total=30, connect=10, sock_read=15)
_LONGEST_WAIT: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, read whole. `url` is the address asked; `link` the address of `Link: rel="next"`."""

    status: int
    url: URL
    headers: Mapping[str, str]
    body: bytes
    link: URL | None = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_redirect(self) -> bool:
        return 300 <= self.status < 400

    @property
    def is_refusal(self) -> bool:
        return 400 <= self.status < 500

    @property
    def date(self) -> datetime | None:
        """The vendor's clock when it answered."""
        return _http_date(self.headers.get("Date"))

    @property
    def retry_after(self) -> float | None:
        """Seconds that the vendor asks us to wait."""
        said = (self.headers.get("Retry-After") or "").strip()
        if said.isdecimal():
            return min(float(said), _LONGEST_WAIT)
        until, now = _http_date(said), self.date
        if until is None or now is None:
            return None
        return min(max((until - now).total_seconds(), 0.0), _LONGEST_WAIT)

    def excerpt(self, secrets: Iterable[str]) -> str:
        """The beginning of the body, with secrets struck out."""
        return excerpt(self.body, secrets)


async def exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: URL | str,
    *,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None = None,
    body: bytes | None = None,
    largest: int,
    secrets: Iterable[str] = (),
) -> Reply:
    """Sends one request and reads the answer, whatever its status. Raises SourceUnavailable."""
    failure: str
    try:
        async with session.request(
            method, url, params=params, data=body, headers=headers, allow_redirects=False, timeout=_PATIENCE
        ) as response:
            return Reply(
                status=response.status,
                url=response.url,
                headers=response.headers,
                body=await _bounded(response, largest),
                link=_link(response),
            )
    except TimeoutError:
        failure = "did not answer in time"
    except aiohttp.ClientResponseError as error:
        failure = f"was answered {error.status}, a redirect or no valid HTTP: correct the address in the settings"
    except (aiohttp.ClientError, OSError) as error:
        failure = f"could not be asked ({type(error).__name__}: {clean(str(error), secrets)})"
    # Raised outside of the handler: a client error in the chain would carry the request's headers along.
    raise SourceUnavailable(f"{method} {URL(url).path} {failure}")


async def _bounded(response: aiohttp.ClientResponse, largest: int) -> bytes:
    read = bytearray()
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) > largest:
            raise SourceUnavailable(f"{response.method} {response.url.path} answered more than {largest} bytes")
    return bytes(read)


def _link(response: aiohttp.ClientResponse) -> URL | None:
    try:
        found = response.links.get("next")
        address = found.get("url") if found else None
    except ValueError:
        return None
    return address if isinstance(address, URL) else None


def _http_date(said: str | None) -> datetime | None:
    if not said:
        return None
    try:
        parsed = parsedate_to_datetime(said)
    except (ValueError, TypeError, IndexError):
        return None
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
