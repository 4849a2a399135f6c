"""The HTTP client for every address that a caller of the API gave: webhook targets, connections, their key sets.

What it promises of each session that `make_session` makes:
- guarded, no byte goes to a private, loopback, link-local or translated address, nor to a port below 1024 other
  than 443. The check is made on the address that the socket is about to connect to, so that neither a name that
  resolves differently the second time (DNS rebinding) nor an odd spelling gets past it; what cannot be read as an
  address is refused.
- redirects are never followed, cookies never kept, proxies and passwords of the environment never read.
- no answer is read without bound.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from waybridge.version import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aiohttp.abc import AbstractResolver

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network
    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

LONGEST_URL = 2_048
LARGEST_ANSWER = 8 * 1_048_576
"""Bytes, decompressed, that `response.read()`, `.text()` and `.json()` of a session take at the most."""
CHUNK = 65_536
HTTPS_PORT = 443
HTTP_PORT = 80
FIRST_FREE_PORT = 1_024
LOOKUP_SECONDS = 3.0

DENIED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by carriers; cloud metadata too
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's host, from inside
        "169.254.0.0/16",  # link-local; cloud metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
ALLOWED_V6 = ipaddress.IPv6Network("2000::/3")
"""The only global unicast space there is; loopback, ULA, link-local, site-local, multicast, NAT64, SRv6 are outside."""
DENIED_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, benchmarks, ORCHID and other protocols
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
    )
)
REASONS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorCertificateError, "the TLS handshake failed"),
    (aiohttp.ClientSSLError, "the TLS handshake failed"),
    (aiohttp.ClientConnectorDNSError, "the host's name was not found"),
    (aiohttp.ClientConnectorError, "the connection could not be made"),
    (aiohttp.ServerDisconnectedError, "the connection was closed before the answer was whole"),
    (aiohttp.ClientOSError, "the connection was closed before the answer was whole"),
    (aiohttp.ClientPayloadError, "the connection was closed before the answer was whole"),
    (aiohttp.InvalidURL, "the address is not valid"),
)
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class TargetRefused(ValueError):
    """An address that may not be called; the message says why and fits a field's error."""


class AddressDenied(OSError):
    """The guard refused to connect to an address."""


class RedirectRefused(aiohttp.ClientResponseError):
    """The answer was a redirect, which is never followed."""


class AnswerTooLong(aiohttp.ClientPayloadError):
    """The answer was longer than it may be."""


class EgressFailed(Exception):
    """No answer came; the message is safe to show to whoever gave the address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressAnswer:
    """What a target answered. `body` holds the first `max_answer` bytes at the most, `elapsed` is in seconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed: float


def is_denied(address: str, allow: Sequence[Network] = ()) -> bool:
    """Whether an address (as sockets write it) is off limits; True for what is no address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return True
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None:
            return True
        ip = ip.ipv4_mapped or ip
    if any(ip.version == network.version and ip in network for network in allow):
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return any(ip in network for network in DENIED_V4)
    return ip not in ALLOWED_V6 or any(ip in network for network in DENIED_V6)


def make_session(
    *,
    guarded: bool,
    allow: Sequence[Network] = (),
    auto_decompress: bool = True,
    timeout_seconds: float = 30,
    connect_seconds: float = 5,
    connections: int = 100,
    resolver: AbstractResolver | None = None,
) -> aiohttp.ClientSession:
    """A session as the head of this module promises; the caller closes it.

    `guarded=False` is for addresses of the operator's own configuration. `allow` are networks that a guarded
    session may reach all the same. More than `connections` at once wait for a free one, within the time-out.
    """

    def open_socket(candidate: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, (address, port, *_) = candidate
        if guarded and (is_denied(str(address), allow) or not _port_is_free(port, HTTPS_PORT)):
            raise AddressDenied("the address may not be called")
        return socket.socket(family, kind, protocol)

    headers = {"User-Agent": f"Waybridge/{__version__}"}
    if not auto_decompress:
        headers["Accept-Encoding"] = "identity"
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=open_socket, limit=connections, resolver=resolver),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=connect_seconds),
        auto_decompress=auto_decompress,
        trust_env=False,
        middlewares=(_refuse_redirects,),
        response_class=BoundedResponse,
    )


def check_url(url: str, *, allow_private: bool, allow: Sequence[Network] = ()) -> str:
    """The normal form of an address that a caller gave; only that form may be stored and called.

    https alone, http too with `allow_private`; no user info; ports 443 or from 1024 on (80 with `allow_private`);
    numbers as hosts only in their plain form. Raises TargetRefused (a ValueError).
    """
    if not isinstance(url, str) or not url or len(url) > LONGEST_URL:
        raise TargetRefused(f"must be an address of at most {LONGEST_URL} characters")
    if re.search(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]", url):
        raise TargetRefused("must not contain blanks, backslashes or control characters")
    schemes = ("https", "http") if allow_private else ("https",)
    if not re.match(rf"({'|'.join(schemes)})://[^/?#]", url, re.IGNORECASE):
        raise TargetRefused(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)} and a host")
    try:
        parsed = URL(url).with_fragment(None)
        host, port = parsed.raw_host, parsed.port
    except ValueError:
        raise TargetRefused("is not a valid address") from None
    if "@" in re.split(r"[/?#]", url.partition("://")[2])[0] or "@" in parsed.raw_authority:
        raise TargetRefused("must not contain a user name or password")
    if not host or port is None:
        raise TargetRefused("must name a host")
    if not _port_is_free(port, HTTPS_PORT, *((HTTP_PORT,) if allow_private else ())):
        raise TargetRefused("must use port 443 or one from 1024 on")
    _check_host(host.lower(), allow_private=allow_private, allow=allow)
    return str(parsed)


async def check_target(
    url: str, *, allow_private: bool, allow: Sequence[Network] = (), lookup: Lookup | None = None
) -> str:
    """As `check_url`, and a name must not stand for a denied address now.

    A name that is not found passes: it may be made later, and every connection is checked anyway.
    """
    normal = check_url(url, allow_private=allow_private, allow=allow)
    parsed = URL(normal)
    if allow_private or parsed.host is None or parsed.port is None or _literal(parsed.host) is not None:
        return normal
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            addresses = await (lookup or _lookup)(parsed.host, parsed.port)
    except (OSError, TimeoutError, UnicodeError):
        return normal
    if any(is_denied(address, allow) for address in addresses):
        raise TargetRefused("must not stand for a private address")
    return normal


async def request(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_seconds: float = 15,
    max_answer: int = 65_536,
    monotonic: Callable[[], float] = time.monotonic,
) -> EgressAnswer:
    """One request and the beginning of its answer, all within the time-out; a redirect is an answer like others.

    Raises EgressFailed with a reason in plain words. What is not read of a long answer closes the connection.
    """
    began = monotonic()
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            session.request(method, URL(url), headers=headers, data=body, allow_redirects=False) as response,
        ):
            read = bytearray()
            while len(read) < max_answer and (piece := await response.content.read(max_answer - len(read))):
                read += piece
            if not response.content.at_eof():
                response.close()
            return EgressAnswer(
                status=response.status, headers=response.headers, body=bytes(read), elapsed=monotonic() - began
            )
    except RedirectRefused as redirect:
        return EgressAnswer(
            status=redirect.status, headers=redirect.headers or {}, body=b"", elapsed=monotonic() - began
        )
    except TimeoutError:
        raise EgressFailed(f"no answer within {timeout_seconds:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise EgressFailed(_reason(error)) from error


async def read_bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body, decompressed. Raises AnswerTooLong, and closes the connection, past `limit` bytes."""
    read = bytearray()
    async for piece in response.content.iter_chunked(CHUNK):
        read += piece
        if len(read) > limit:
            response.close()
            raise AnswerTooLong(f"the answer is longer than {limit} bytes")
    return bytes(read)


class BoundedResponse(aiohttp.ClientResponse):
    """An answer whose `read()`, `text()` and `json()` raise AnswerTooLong past LARGEST_ANSWER bytes."""

    async def read(self) -> bytes:
        if self._body is None:
            self._body = await read_bounded(self, LARGEST_ANSWER)
        return await super().read()


async def _refuse_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    response = await handler(request)
    if response.status in REDIRECTS:
        response.close()
        raise RedirectRefused(
            response.request_info,
            (),
            status=response.status,
            message="the answer is a redirect, which is not followed",
            headers=response.headers,
        )
    return response


def _port_is_free(port: int, *allowed: int) -> bool:
    return port in allowed or port >= FIRST_FREE_PORT


def _check_host(host: str, *, allow_private: bool, allow: Sequence[Network]) -> None:
    literal = _literal(host)
    if literal is not None:
        if not allow_private and is_denied(str(literal), allow):
            raise TargetRefused("must not be a private address")
        return
    labels = host.removesuffix(".").split(".")
    if not re.fullmatch(r"[a-z0-9_.-]+", host) or not all(labels):
        raise TargetRefused("must name a valid host")
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        raise TargetRefused("must write a numeric address plainly, like 192.0.2.7")
    if labels[-1] == "localhost" and not allow_private:
        raise TargetRefused("must not be a private address")


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def _lookup(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def _reason(error: Exception) -> str:
    """What went wrong, without the address: the reader knows it, and an inner address is none of its business."""
    causes = (error, getattr(error, "os_error", None), error.__cause__)
    if any(isinstance(cause, AddressDenied) for cause in causes):
        return "the address may not be called"
    return next((said for kind, said in REASONS if isinstance(error, kind)), "the answer was no valid HTTP")
