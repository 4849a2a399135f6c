"""Egress: which addresses and targets may be called, by whatever name."""


import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waybridge.egress import (
    TargetRefused,
    check_target,
    check_url,
    is_denied,
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
