"""Targets that answer with anything but HTTP as it should be: a failed attempt each, never more than that."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from webhooks_harness import Clock, Receiver, deliver, emit, make, settings, state_of, subscribe

from waybridge.store.engine import Store
from waybridge.webhooks import Webhooks

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CUT = "the connection was closed before the answer was whole"
NO_HTTP = "the answer was no valid HTTP"
NO_TLS = "the TLS handshake failed"
SOON = 0.4
"""Seconds of the limit of an attempt whose answer never ends."""


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'waybridge.db'}"


class Hostile:
    """A TCP server that reads a request's head and then behaves."""

    def __init__(self, behave: Behaviour) -> None:
        self._behave = behave
        self._serving: set[asyncio.Task[None]] = set()
        self.connections = 0

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._behave(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)


def says(answer: bytes) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return behave


def never_ends(head: bytes, pieces: Callable[[], Iterator[bytes]], pause: float = 0.0) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        for piece in pieces():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return behave


def forever(piece: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(lambda: piece, b"")


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """RST instead of an answer."""
    opened = writer.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(1_024):
        pass


async def one_attempt(store: Store, receiver: Receiver, url: str, **limits: float) -> dict[str, Any]:
    """The delivery after its first attempt; a well-behaved target beside it got its event."""
    webhooks = make(store, settings(**limits), spread=lambda: 0.5)
    subscription = await subscribe(webhooks, url)
    await subscribe(webhooks, receiver.url)
    event_id = await emit(store, device_token="van-1")
    async with asyncio.timeout(60):
        await deliver(webhooks)
    assert receiver.ids == [event_id]
    (delivery,) = await state_of(webhooks, subscription)
    await webhooks.close()
    return delivery


def failed(delivery: dict[str, Any], status: int | None, *errors: str) -> None:
    (attempt,) = delivery["attempts"]
    assert (delivery["state"], delivery["attempt_count"], attempt["status"]) == ("pending", 1, status)
    assert attempt["error"] in errors
    assert delivery["next_attempt_at"] == "2026-11-18T11:06:45Z", "five seconds later, as after any failure"


@pytest.mark.parametrize(
    ("answer", "errors"),
    [
        pytest.param(b"", (CUT,), id="nothing"),
        pytest.param(b"\x00\xff\x16\x03\x01 what?\r\n\r\n", (NO_HTTP, CUT), id="no HTTP"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", (NO_HTTP, CUT), id="another protocol"),
        pytest.param(b"HTTP/1.1 two OK\r\n\r\n", (NO_HTTP, CUT), id="a status in words"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", (NO_HTTP, CUT), id="a negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", (CUT,), id="less than it said"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", (NO_HTTP, CUT), id="a chunk of no size"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", (CUT,), id="half of a chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X-Bomb: b\r\n" * 100_000 + b"\r\n", (NO_HTTP, CUT), id="many headers"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX-Bomb: " + b"b" * 2_000_000 + b"\r\n\r\n", (NO_HTTP, CUT), id="a long header"
        ),
        pytest.param(b"HTTP/1.1 200 " + b"O" * 2_000_000 + b"K\r\n\r\n", (NO_HTTP, CUT), id="a long reason"),
    ],
)
async def test_what_is_no_whole_answer_is_a_failed_attempt(
    store: Store, receiver: Receiver, answer: bytes, errors: tuple[str, ...]
) -> None:
    async with Hostile(says(answer)).listening() as port:
        failed(await one_attempt(store, receiver, f"http://127.0.0.1:{port}/"), None, *errors)


async def test_a_connection_that_is_reset_or_refused_is_a_failed_attempt(store: Store, receiver: Receiver) -> None:
    async with Hostile(reset).listening() as port:
        failed(await one_attempt(store, receiver, f"http://127.0.0.1:{port}/"), None, CUT)


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(never_ends(b"", forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)), id="a flood of 100"),
        pytest.param(
            never_ends(b"", forever(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), 0.01), id="hints for ever"
        ),
        pytest.param(never_ends(b"HTTP/1.1 200 OK\r\n", forever(b"X"), 0.02), id="a header, byte by byte"),
        pytest.param(never_ends(b"HTTP/1.1 200 OK\r\n\r\n", forever(b"x"), 0.02), id="a body, byte by byte"),
        pytest.param(silent, id="silence"),
    ],
)
async def test_an_answer_that_never_comes_to_an_end_is_cut_at_the_limit(
    store: Store, receiver: Receiver, behave: Behaviour
) -> None:
    async with Hostile(behave).listening() as port:
        url = f"http://127.0.0.1:{port}/"
        failed(await one_attempt(store, receiver, url, timeout_seconds=SOON), None, f"no answer within {SOON} s")


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(never_ends(b"", lambda: iter([b"\x15\x03\x01 garbage" * 100])), id="garbage"),
        pytest.param(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), id="HTTP without TLS"),
        pytest.param(reset, id="reset"),
    ],
)
async def test_a_target_that_speaks_no_tls_is_a_failed_attempt(
    store: Store, receiver: Receiver, behave: Behaviour
) -> None:
    async def at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_024)  # the hello of TLS, which has no empty line
        rest = asyncio.StreamReader()
        rest.feed_data(b"\r\n\r\n")
        await behave(rest, writer)

    async with Hostile(at_once).listening() as port:
        delivery = await one_attempt(store, receiver, f"https://127.0.0.1:{port}/")
        failed(delivery, None, NO_TLS, CUT, "the connection could not be made")


async def test_a_tls_handshake_that_is_never_answered_is_cut_at_the_limit(store: Store, receiver: Receiver) -> None:
    async with Hostile(silent).listening() as port:
        delivery = await one_attempt(store, receiver, f"https://127.0.0.1:{port}/", timeout_seconds=SOON)
        failed(delivery, None, f"no answer within {SOON} s")


async def test_a_switch_of_protocols_is_no_success(store: Store, receiver: Receiver) -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with Hostile(says(answer)).listening() as port:
        failed(await one_attempt(store, receiver, f"http://127.0.0.1:{port}/"), 101, "answered 101")


async def test_a_compressed_bomb_is_not_unpacked(store: Store, receiver: Receiver) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    async with Hostile(says(head + bomb)).listening() as port:
        delivery = await one_attempt(store, receiver, f"http://127.0.0.1:{port}/")
    assert (delivery["state"], delivery["attempts"][0]["status"]) == ("delivered", 200)
    assert delivery["attempts"][0]["answer"].startswith("\x1f\N{REPLACEMENT CHARACTER}")
    assert len(delivery["attempts"][0]["answer"]) <= 1_000


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
async def test_a_redirect_of_any_kind_is_a_failure_and_leads_nowhere(
    store: Store, receiver: Receiver, status: int
) -> None:
    inside = Hostile(silent)
    async with inside.listening() as hidden:
        answer = f"HTTP/1.1 {status} Elsewhere\r\nLocation: http://127.0.0.1:{hidden}/\r\nContent-Length: 0\r\n\r\n"
        async with Hostile(says(answer.encode())).listening() as port:
            delivery = await one_attempt(store, receiver, f"http://127.0.0.1:{port}/")
        failed(delivery, status, f"answered {status}, a redirect, which is not followed")
    assert inside.connections == 0


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("99999999999999999999999999", 86_400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("86401", 86_400),
        ("Wed, 18 Nov 2026 12:06:40 GMT", 3_600),
        ("1", 5),
        ("-3600", 5),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 5),
        ("Fri, 31 Dec 99999 23:59:59 GMT", 5),
        ("1e400", 5),
        ("NaN", 5),
        ("tomorrow, perhaps", 5),
    ],
)
async def test_an_absurd_retry_after_neither_keeps_an_event_for_ever_nor_hurries_it(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock, status: int, retry_after: str, seconds: int
) -> None:
    async def limited(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": retry_after})

    receiver.answers = [limited]
    subscription = await subscribe(webhooks, receiver.url)
    await emit(store, device_token="van-1")
    await deliver(webhooks)
    clock.forward(seconds - 0.001)
    await deliver(webhooks)
    assert len(receiver.received) == 1
    clock.forward(0.001)
    await deliver(webhooks)
    assert len(receiver.received) == 2
    (delivery,) = await state_of(webhooks, subscription)
    assert delivery["state"] == "delivered"


async def test_a_retry_after_on_other_failures_changes_nothing(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock
) -> None:
    async def broken(_request: web.Request) -> web.Response:
        return web.Response(status=500, headers={"Retry-After": "3600"})

    receiver.answers = [broken]
    await subscribe(webhooks, receiver.url)
    await emit(store, device_token="van-1")
    await deliver(webhooks)
    clock.forward(5)
    await deliver(webhooks)
    assert len(receiver.received) == 2
