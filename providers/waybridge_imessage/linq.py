"""Linq's partner API v3 over HTTP: the few calls that the provider needs, with their retry rules.

Reads are retried three times (connection, 408, 429, 5xx; Retry-After up to 60 s). A location request prompts a
person's phone: it is sent again only when the connection was never made.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from waybridge import CredentialsRejected, SourceUnavailable
from waybridge_imessage.wire import NotUnderstood, Reading, decode, parse_error, parse_handles, parse_reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from waybridge import ProviderContext
    from waybridge_imessage.settings import IMessageSettings

TRIES = 3
LONGEST_WAIT = 60.0
UNTOLD_WAIT = 60.0
UNAUTHORISED, DENIED = 2004, 2005
SERVER_ERROR = HTTPStatus.INTERNAL_SERVER_ERROR
CONCURRENT_READS = 4
LARGEST_BODY = 2_097_152
TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10, sock_connect=5)
GEO_JSON = {"Accept": "application/geo+json"}
JSON_ONLY = {"Accept": "application/json"}


class Refused(Exception):
    """The vendor answered with a 4xx that is about this request, not about the credentials."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message or f"the vendor answered {status}")
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Linq:
    """The vendor's API with one account's key. Raises Refused, SourceUnavailable, CredentialsRejected."""

    def __init__(self, settings: IMessageSettings, context: ProviderContext) -> None:
        self._base = settings.base_url
        self._key = settings.api_key
        self._session = context.session
        self._clock = context.clock
        self._slots = asyncio.Semaphore(CONCURRENT_READS)

    async def location(self, chat: str, *, tries: int = TRIES) -> Reading:
        """Where the people of a chat are who share with us."""
        reply = await self._read(f"/v3/chats/{_segment(chat)}/location", GEO_JSON, tries=tries)
        try:
            return parse_reading(reply.body, self._clock.now())
        except NotUnderstood as error:
            raise SourceUnavailable(f"Linq's location answer is not understood: {error}") from error

    async def request_location(self, chat: str) -> None:
        """Prompt the other person of a chat to share."""
        path = f"/v3/chats/{_segment(chat)}/location/request"
        for tries_left in reversed(range(TRIES)):
            try:
                reply = await self._send("POST", path, JSON_ONLY)
            except aiohttp.ClientConnectorError as error:
                if not tries_left:
                    raise SourceUnavailable("Linq cannot be reached; nobody was asked") from error
                await self._clock.sleep(_backoff(TRIES - tries_left))
            except (aiohttp.ClientError, TimeoutError) as error:
                raise SourceUnavailable("Linq's answer was lost; the person may have been asked") from error
            else:
                self._judge_request(reply)
                return

    async def stop_location(self, chat: str, handle: str) -> None:
        """End a person's sharing, in every chat; the vendor's webhook confirms it."""
        try:
            await self._write("DELETE", f"/v3/chats/{_segment(chat)}/location", {"handle": handle})
        except Refused as refusal:
            if refusal.status != HTTPStatus.NOT_FOUND:  # nobody shares there any more
                raise SourceUnavailable(f"Linq refuses to end the sharing: {refusal}") from refusal

    async def people(self, chat: str) -> list[str]:
        """The handles of a chat's other people; empty where the vendor does not tell."""
        reply = await self._read(f"/v3/chats/{_segment(chat)}", JSON_ONLY)
        try:
            return parse_handles(reply.body)
        except NotUnderstood:
            return []

    async def subscriptions(self, *, tries: int = TRIES) -> list[dict[str, Any]]:
        """The account's webhook subscriptions."""
        reply = await self._read("/v3/webhook-subscriptions", JSON_ONLY, tries=tries)
        listed = self._object(reply).get("subscriptions")
        if not isinstance(listed, list):
            raise SourceUnavailable("Linq's answer is not understood: it lists no subscriptions")
        return [one for one in listed if isinstance(one, dict)]

    async def create_subscription(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A new subscription with its `signing_secret`, which is shown only here."""
        return self._object(await self._write("POST", "/v3/webhook-subscriptions", fields))

    async def update_subscription(self, subscription: str, fields: dict[str, Any]) -> None:
        await self._write("PUT", f"/v3/webhook-subscriptions/{_segment(subscription)}", fields)

    async def delete_subscription(self, subscription: str) -> None:
        await self._write("DELETE", f"/v3/webhook-subscriptions/{_segment(subscription)}", None)

    async def _read(self, path: str, headers: Mapping[str, str], *, tries: int = TRIES) -> _Reply:
        for attempt in range(1, tries + 1):
            cause: Exception | None = None
            told: float | None = None
            try:
                async with self._slots:  # held while a read is on the wire, not while it waits for its next try
                    reply = await self._send("GET", path, headers)
            except (aiohttp.ClientError, TimeoutError) as error:
                cause, said = error, "Linq cannot be reached"
            else:
                if not _transient(reply.status):
                    self._judge(reply)
                    return reply
                said, told = f"Linq answered {reply.status}", self._retry_after(reply)
            if attempt == tries or (told is not None and told > LONGEST_WAIT):
                raise SourceUnavailable(said, retry_after=told) from cause
            await self._clock.sleep(_backoff(attempt) if told is None else told)
        raise AssertionError("unreachable: the last try raises or returns")

    async def _write(self, method: str, path: str, fields: dict[str, Any] | None) -> _Reply:
        try:
            reply = await self._send(method, path, JSON_ONLY, fields)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SourceUnavailable("Linq cannot be reached") from error
        self._judge(reply)
        return reply

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str], fields: dict[str, Any] | None = None
    ) -> _Reply:
        async with self._session.request(
            method,
            URL(f"{self._base}{path}", encoded=True),
            headers={**headers, "Authorization": f"Bearer {self._key.get_secret_value()}"},
            json=fields,
            timeout=TIMEOUT,
            allow_redirects=False,
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(65_536):
                body += chunk
                if len(body) > LARGEST_BODY:
                    raise SourceUnavailable("Linq's answer is too large")
            return _Reply(response.status, response.headers.copy(), bytes(body))

    def _judge_request(self, reply: _Reply) -> None:
        """A limit always names its wait; a failure never does, so that nobody takes it for a limit."""
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            wait = self._retry_after(reply)
            raise SourceUnavailable(
                "Linq limits requests to this chat", retry_after=UNTOLD_WAIT if wait is None else wait
            )
        if _transient(reply.status):
            raise SourceUnavailable(f"Linq answered {reply.status}; the person may have been asked")
        self._judge(reply, opt_out=True)

    def _judge(self, reply: _Reply, *, opt_out: bool = False) -> None:
        """Returns for 2xx. A 403 is about the key, but for codes of the recipient's own (he opted out)."""
        if HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
            return
        error = parse_error(reply.body)
        message = error.message.replace(self._key.get_secret_value(), "***")
        of_recipient = opt_out and error.code not in (0, UNAUTHORISED, DENIED)
        if reply.status == HTTPStatus.UNAUTHORIZED or (reply.status == HTTPStatus.FORBIDDEN and not of_recipient):
            raise CredentialsRejected(f"Linq refuses the API key ({reply.status}): {message or 'no reason given'}")
        if _transient(reply.status) or reply.status < HTTPStatus.BAD_REQUEST:
            raise SourceUnavailable(f"Linq answered {reply.status}", retry_after=self._retry_after(reply))
        raise Refused(reply.status, error.code, message)

    def _retry_after(self, reply: _Reply) -> float | None:
        """Seconds from Retry-After (a number or a date) or the error envelope; None where neither is told."""
        text = reply.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        told = _date(text)
        if told is not None:
            return max(0.0, (told - self._clock.now()).total_seconds())
        return parse_error(reply.body).retry_after

    @staticmethod
    def _object(reply: _Reply) -> dict[str, Any]:
        try:
            return decode(reply.body)
        except NotUnderstood as error:
            raise SourceUnavailable(f"Linq's answer is not understood: {error}") from error


def _transient(status: int) -> bool:
    """Statuses that may be otherwise the next time."""
    return status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= SERVER_ERROR


def _segment(text: str) -> str:
    return quote(text, safe="")


def _backoff(attempt: int) -> float:
    return random.uniform(0.25, 0.5) * 2.0**attempt  # noqa: S311 - jitter, not a secret


def _date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
