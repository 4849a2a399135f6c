"""Egress: what must not be called is not called, by whatever name; answers are bounded; nothing is followed."""

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
from hypothesis import given
from hypothesis import strategies as st

from waybridge.egress import (
    AnswerTooLong,
    EgressFailed,
    RedirectRefused,
    TargetRefused,
    check_target,
    check_url,
    is_denied,
    make_session,
    read_bounded,
    request,
)

DENIED = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::1",
    "2001:2::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%eth0",
    "fec0::1",
    "ff02::1",
    "",
    "localhost",
    "127.1",
    "0x7f000001",
    "2130706433",
]
FREE = ["1.1.1.1", "8.8.8.8", "172.32.0.1", "192.0.1.1", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", DENIED)
def test_an_address_inside_is_denied(address):
    assert is_denied(address)


@pytest.mark.parametrize("address", FREE)
def test_an_address_outside_is_free(address):
    assert not is_denied(address)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_no_address_that_the_standard_library_calls_private_is_free(address):
    plain = getattr(address, "ipv4_mapped", None) or address
    private = plain.is_private or plain.is_loopback or plain.is_link_local or plain.is_multicast
    if private or plain.is_reserved or plain.is_unspecified:
        assert is_denied(str(address))


@given(st.text())
def test_what_is_no_address_is_denied(text):
    try:
        ipaddress.ip_address(text)
    except ValueError:
        assert is_denied(text)


def test_an_operator_may_allow_a_network():
    allow = (ipaddress.ip_network("10.20.0.0/16"),)

    assert not is_denied("10.20.3.4", allow)
    assert not is_denied("::ffff:10.20.3.4", allow)
    assert is_denied("10.21.0.1", allow)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "characters"),
        ("https://e.com/" + "x" * 2048, "characters"),
        ("http://example.com/", "begin with https://"),
        ("ftp://example.com/", "begin with https://"),
        ("file:///etc/passwd", "begin with"),
        ("gopher://example.com", "begin with"),
        ("javascript:alert(1)", "begin with"),
        ("https:example.com", "begin with"),
        ("https://", "begin with"),
        ("https:///x", "begin with"),
        ("//example.com", "begin with"),
        (" https://example.com", "blanks"),
        ("https://example.com/a b", "blanks"),
        ("https://exa\tmple.com", "blanks"),
        ("https://example.com\r\nX: y", "blanks"),
        ("https://example.com\\@evil", "backslashes"),
        ("https://example.com/\x00", "blanks"),
        ("https://user@example.com", "user name"),
        ("https://user:pass@example.com", "user name"),
        ("https://@example.com", "user name"),
        ("https://example.com@127.0.0.1/", "user name"),
        ("https://example.com:22/", "port"),
        ("https://example.com:80/", "port"),
        ("https://example.com:0/", "port"),
        ("https://example.com:1023/", "port"),
        ("https://example.com:65536/", "valid address"),
        ("https://example.com:x/", "valid address"),
        ("https://[::1/", "valid address"),
        ("https://127.0.0.1/", "private"),
        ("https://[::1]/", "private"),
        ("https://[::ffff:127.0.0.1]/", "private"),
        ("https://[64:ff9b::a9fe:a9fe]/", "private"),
        ("https://[fe80::1%25eth0]/", "private"),
        ("https://169.254.169.254/latest/meta-data/", "private"),
        ("https://localhost/", "private"),
        ("https://LOCALHOST./", "private"),
        ("https://a.localhost/", "private"),
        ("https://0x7f.1/", "numeric"),
        ("https://0x7f000001/", "numeric"),
        ("https://2130706433/", "numeric"),
        ("https://017700000001/", "numeric"),
        ("https://0177.0.0.1/", "numeric"),
        ("https://127.1/", "numeric"),
        ("https://0/", "numeric"),
        ("https://127.0.0.1./", "numeric"),
        ("https://①②⑦.0.0.1/", "private"),
        ("https://127。0。0。1/", "private"),
        ("https://exa_mple..com/", "valid host"),
        ("https://ex%61mple.com/", "valid"),
        ("https://example.com,evil/", "valid host"),
    ],
)
def test_a_bad_target_is_refused_with_its_reason(url, said):
    with pytest.raises(TargetRefused, match=said):
        check_url(url, allow_private=False)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://example.com/hook", "https://example.com/hook"),
        ("HTTPS://EXAMPLE.com:443/Hook?x=1&y=a%20b#frag", "https://example.com/Hook?x=1&y=a%20b"),
        ("https://example.com:8443", "https://example.com:8443"),
        ("https://münchen.example/ü", "https://xn--mnchen-3ya.example/%C3%BC"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700:4700::1111]/", "https://[2606:4700:4700::1111]/"),
        ("https://api_v2.example.com./x", "https://api_v2.example.com./x"),
    ],
)
def test_a_good_target_is_brought_to_its_normal_form(url, normal):
    assert check_url(url, allow_private=False) == normal
    assert check_url(normal, allow_private=False) == normal


def test_private_targets_may_be_allowed_for_development():
    assert check_url("http://127.0.0.1:8000/x", allow_private=True) == "http://127.0.0.1:8000/x"
    assert check_url("http://localhost/x", allow_private=True) == "http://localhost/x"
    with pytest.raises(TargetRefused, match="port"):
        check_url("http://localhost:22/x", allow_private=True)
    with pytest.raises(TargetRefused, match="user name"):
        check_url("http://a:b@localhost/x", allow_private=True)


@given(st.text() | st.text().map(lambda text: f"https://{text}"))
def test_any_text_is_refused_or_safe(text):
    try:
        normal = check_url(text, allow_private=False)
    except TargetRefused:
        return
    assert normal.startswith("https://")
    assert "@" not in normal.split("/")[2]


async def test_a_name_for_a_private_address_is_refused_at_creation():
    async def lookup(host: str, port: int) -> list[str]:
        if host == "absent.example":
            raise socket.gaierror(socket.EAI_NONAME, "absent")
        return ["8.8.8.8", "127.0.0.1"] if host == "both.example" else ["8.8.8.8"]

    with pytest.raises(TargetRefused, match="private"):
        await check_target("https://both.example/", allow_private=False, lookup=lookup)
    for host in ("absent.example", "good.example"):
        assert await check_target(f"https://{host}/", allow_private=False, lookup=lookup) == f"https://{host}/"


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
