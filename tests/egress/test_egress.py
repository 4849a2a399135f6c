"""Egress: what is called: nothing inside, by whatever name; answers are bounded; nothing is followed."""


import asyncio
import contextlib
import gzip
import ipaddress
import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import Self

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from waybridge.egress import (
    AnswerTooLong,
    EgressFailed,
    RedirectRefused,
    check_target,
    make_session,
    read_bounded,
    request,
)


class Door:
    """A listener on loopback that counts who comes in, whatever they speak."""

    def __init__(self) -> None:
        self.came = 0

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._come, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def _come(self, reader, writer) -> None:
        self.came += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    async def __aexit__(self, *_) -> None:
        self.server.close()
        await self.server.wait_closed()


class Names(AbstractResolver):
    """Answers names from lists, one list after the other: rebinding."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host, port=0, family=socket.AF_INET):
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in answer
        ]

    async def close(self) -> None:
        return None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "0.0.0.0",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "127.1",
        "0",
        "127.0.0.1.",
        "①②⑦.0.0.1",
        "127。0。0。1",
    ],
)
async def test_a_guarded_session_connects_to_no_spelling_of_loopback(host):
    async with Door() as door, make_session(guarded=True) as session:
        with pytest.raises(EgressFailed):
            await request(session, "GET", f"http://{host}:{door.port}/")
        with pytest.raises((aiohttp.ClientError, OSError)):
            await session.ws_connect(f"http://{host}:{door.port}/")

        assert door.came == 0


async def test_the_unguarded_session_would_have_connected():
    async with Door() as door, make_session(guarded=False) as session:
        answer = await request(session, "GET", f"http://127.0.0.1:{door.port}/")

        assert (answer.status, door.came) == (200, 1)


async def test_a_name_that_is_bound_anew_is_caught_at_the_connection():
    names = Names(["93.184.216.34"], ["127.0.0.1"])
    async with Door() as door, make_session(guarded=True, resolver=names, connect_seconds=0.2) as session:
        checked = await check_target(
            f"https://rebinding.example:{door.port}/", allow_private=False, lookup=_first_answer(names)
        )
        with pytest.raises(EgressFailed, match="may not be called"):
            await request(session, "POST", checked, body=b"{}")

        assert door.came == 0
        assert names.asked == 2


def _first_answer(names: Names):
    async def lookup(host: str, port: int) -> list[str]:
        return [entry["host"] for entry in await names.resolve(host, port)]

    return lookup


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::1", "127.0.0.1"], ["10.0.0.1", "::ffff:127.0.0.1"]])
async def test_every_address_of_a_name_is_checked(addresses):
    async with Door() as door, make_session(guarded=True, resolver=Names(addresses)) as session:
        with pytest.raises(EgressFailed, match="the address may not be called"):
            await request(session, "GET", f"http://name.example:{door.port}/")

        assert door.came == 0


async def test_a_guarded_session_uses_no_low_port():
    async with make_session(guarded=True, resolver=Names(["93.184.216.34"])) as session:
        with pytest.raises(EgressFailed, match="the address may not be called"):
            await request(session, "GET", "http://name.example:25/")


async def test_an_allowed_network_is_reached():
    allow = (ipaddress.ip_network("127.0.0.0/8"),)
    async with Door() as door, make_session(guarded=True, allow=allow) as session:
        assert (await request(session, "GET", f"http://127.0.0.1:{door.port}/")).status == 200


@pytest.fixture
async def target():
    """A target with every bad habit."""
    app = web.Application()
    seen = []

    async def echo(request: web.Request) -> web.Response:
        seen.append(request)
        await request.read()
        answer = web.Response(body=b"ok", headers={"X-A": "b"})
        answer.set_cookie("c", "1")
        return answer

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/echo")

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        with contextlib.suppress(OSError):
            while True:
                await answer.write(b"x" * 65_536)
        return answer

    async def silent(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def bomb(request: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b"0" * 20_000_000), headers={"Content-Encoding": "gzip"})

    for path, handler in {"/echo": echo, "/moved": redirect, "/endless": endless, "/silent": silent}.items():
        app.router.add_route("*", path, handler)
    app.router.add_get("/bomb", bomb)
    async with TestServer(app, shutdown_timeout=0.1) as server:
        server.seen = seen
        yield server


async def test_a_request_brings_the_answer(target):
    async with make_session(guarded=False, auto_decompress=False) as session:
        answer = await request(session, "POST", str(target.make_url("/echo")), headers={"X-Q": "1"}, body=b"{}")

    assert (answer.status, answer.body, answer.headers["X-A"]) == (200, b"ok", "b")
    assert answer.elapsed >= 0
    seen = target.seen[0]
    assert (seen.method, await seen.read(), seen.headers["X-Q"]) == ("POST", b"{}", "1")
    assert seen.headers["User-Agent"].startswith("Waybridge/")
    assert seen.headers["Accept-Encoding"] == "identity"


async def test_no_cookie_is_kept(target):
    async with make_session(guarded=False) as session:
        for _ in range(2):
            await request(session, "GET", str(target.make_url("/echo")))

    assert "Cookie" not in target.seen[1].headers


async def test_no_proxy_and_no_password_is_read_from_the_environment(target, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with make_session(guarded=False) as session:
        answer = await request(session, "GET", str(target.make_url("/echo")))

    assert answer.status == 200
    assert "Authorization" not in target.seen[0].headers


async def test_a_redirect_is_an_answer_and_never_followed(target):
    async with make_session(guarded=False) as session:
        answer = await request(session, "POST", str(target.make_url("/moved")), body=b"{}")

        assert (answer.status, answer.headers["Location"]) == (307, "/echo")
        with pytest.raises(RedirectRefused) as caught:
            await session.get(target.make_url("/moved"))
        assert caught.value.status == 307
        with pytest.raises(RedirectRefused):
            await session.ws_connect(target.make_url("/moved"))
    assert target.seen == []


async def test_an_endless_answer_is_read_to_its_bound(target):
    async with make_session(guarded=False) as session:
        answer = await request(session, "GET", str(target.make_url("/endless")), max_answer=1_000)
        async with session.get(target.make_url("/endless")) as response:
            with pytest.raises(AnswerTooLong):
                await read_bounded(response, 100_000)

    assert len(answer.body) == 1_000


async def test_a_bomb_is_not_unpacked_whole(target):
    async with make_session(guarded=False) as session, session.get(target.make_url("/bomb")) as response:
        with pytest.raises(AnswerTooLong):
            await response.json()


async def test_an_answer_within_bounds_is_read_as_usual(target):
    async with make_session(guarded=False) as session, session.get(target.make_url("/echo")) as response:
        assert await response.text() == "ok"
        assert await response.read() == b"ok"


async def test_a_silent_target_is_given_up(target):
    async with make_session(guarded=False) as session:
        with pytest.raises(EgressFailed, match=r"no answer within 0\.05 s"):
            await request(session, "GET", str(target.make_url("/silent")), timeout_seconds=0.05)


async def test_reasons_are_plain_words():
    async with make_session(guarded=False, resolver=Missing()) as session, Door() as door:
        for url, said in (
            ("http://127.0.0.1:1/", "the connection could not be made"),
            ("http://name.example/", "name was not found"),
            (f"https://127.0.0.1:{door.port}/", "the TLS handshake failed"),
            ("http://", "not valid"),
        ):
            with pytest.raises(EgressFailed, match=said):
                await request(session, "GET", url)


class Missing(AbstractResolver):
    async def resolve(self, host, port=0, family=socket.AF_INET):
        raise OSError(None, "no such name")

    async def close(self) -> None:
        return None


async def test_certificates_are_checked(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_self_signed(tmp_path))
    server = TestServer(web.Application(), scheme="https")
    await server.start_server(ssl=context)
    async with server, make_session(guarded=False) as session:
        with pytest.raises(EgressFailed, match="the TLS handshake failed"):
            await request(session, "GET", f"https://127.0.0.1:{server.port}/")


def _self_signed(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "self-signed.pem"
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form) + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


async def test_headers_cannot_be_broken_into(target):
    async with make_session(guarded=False) as session:
        with pytest.raises(EgressFailed):
            await request(session, "GET", str(target.make_url("/echo")), headers={"X-A": "b\r\nX-C: d"})

    assert target.seen == []
