"""Connections that bring no request, half a request, or what is no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from aiohttp import web

from waybridge.api.guard import GuardedRunner


async def _fine(_: web.Request) -> web.Response:
    return web.Response(text="fine")


@pytest.fixture(autouse=True)
async def faults():
    """What a connection's callbacks raised; nothing, at the end of each test."""
    found: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    yield found
    assert found == []


@pytest.fixture
async def port():
    app = web.Application()
    app.router.add_get("/", _fine)
    runner = GuardedRunner(app, head_seconds=0.3)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield site._server.sockets[0].getsockname()[1]
    await runner.cleanup()


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.read()


async def test_a_connection_that_says_nothing_is_closed(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    with contextlib.suppress(ConnectionResetError):
        assert await _until_closed(reader) == b""
    writer.close()


async def test_a_head_that_drips_is_cut_off(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b" 200 " in await reader.readline()

    async def drip() -> None:
        while not writer.is_closing():
            writer.write(b"G")
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    with contextlib.suppress(ConnectionResetError):
        await _until_closed(reader)
    dripping.cancel()
    writer.close()


async def test_a_quiet_connection_between_requests_is_kept(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 200 " in await reader.readline()
        await reader.readuntil(b"fine")
        await asyncio.sleep(0.5)
    writer.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_problem_and_the_end(port, raw):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)

    answer = await _until_closed(reader)
    writer.close()

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head.splitlines()[0]
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400


async def test_a_body_that_cannot_be_unpacked_leaves_no_traceback_in_the_log(port, caplog):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde")

    assert b" 200 " in await _until_closed(reader)
    writer.close()

    assert not [each for each in caplog.records if each.exc_info]


async def test_an_expectation_that_nobody_meets_is_refused_in_the_apis_form(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nConnection: close\r\n\r\n")

    head, _, body = (await _until_closed(reader)).partition(b"\r\n\r\n")
    writer.close()

    assert head.startswith(b"HTTP/1.1 417 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 417
