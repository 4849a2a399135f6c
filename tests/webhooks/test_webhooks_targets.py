"""No request goes to a private address: not at creation, not by a name that changes its mind, not later."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from webhooks_harness import Clock, Receiver, deliver, emit, make, settings

from waybridge import egress
from waybridge.errors import Invalid
from waybridge.store.engine import Store
from waybridge.webhooks import Webhooks

FIELDS = {"subscribed_events": ["*"]}

DENIED = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "0.0.0.0", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "240.0.0.1", "255.255.255.255", "[::1]", "[::]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]",
    "[fe80::1]", "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[2001:db8::1]", "[3fff::1]", "[100::1]",
    "[2002:7f00:1::]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[5f00::1]", "[2001::1]",
]  # fmt: skip
ODD = [
    "2130706433", "0x7f.1", "0x7f000001", "017700000001", "127.1", "0", "127.0.0.1.", "①②⑦.0.0.1", "127。0。0。1",
    "localhost", "sub.localhost", "127.0.0.1%00.example.com", "127.0.0.1\\@example.com",
]  # fmt: skip


@pytest.fixture
def database_url(tmp_path: Any) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'waybridge.db'}"


@pytest.fixture
async def guarded(store: Store) -> AsyncIterator[Webhooks]:
    """Webhooks as they are in production."""
    made = make(store, settings(allow_private_targets=False))
    yield made
    await made.close()


@pytest.mark.parametrize("host", [*DENIED, *ODD])
async def test_private_targets_are_422_at_creation_in_every_spelling(guarded: Webhooks, host: str) -> None:
    for url in (f"https://{host}/", f"https://{host}:8443/"):
        with pytest.raises(Invalid) as refused:
            await guarded.subscriptions.create("acme", {"target_url": url, **FIELDS})
        assert [field for field, _ in refused.value.errors] == ["target_url"]


@pytest.mark.parametrize("url", ["http://example.com/", "https://example.com:80/", "https://example.com:25/"])
async def test_only_https_and_ports_that_serve_it(guarded: Webhooks, url: str) -> None:
    with pytest.raises(Invalid):
        await guarded.subscriptions.create("acme", {"target_url": url, **FIELDS})


class Rebinding(AbstractResolver):
    """A name server that answers with an address of the attacker's choice."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        version = ipaddress.ip_address(self.address).version
        return [
            ResolveResult(
                hostname=host,
                host=self.address,
                port=port,
                family=socket.AF_INET if version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
async def test_a_name_that_is_bound_anew_reaches_nothing(
    store: Store, clock: Clock, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = 0

    async def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setattr(egress, "_lookup", _public)
    resolver = Rebinding(address)

    def open_session() -> aiohttp.ClientSession:
        return egress.make_session(guarded=True, auto_decompress=False, resolver=resolver)

    webhooks = make(store, settings(allow_private_targets=False), open_session=open_session)
    made = await webhooks.subscriptions.create("acme", {"target_url": f"https://rebind.example.com:{port}/", **FIELDS})
    await emit(store, device_token="van-1")
    for _ in range(3):
        await deliver(webhooks)
        clock.forward(100_000)

    (delivery,) = (await webhooks.history.deliveries(None, made["id"]))["deliveries"]
    assert resolver.asked > 0
    assert [each["error"] for each in delivery["attempts"]] == ["the address may not be called"] * 3
    assert connections == 0
    await webhooks.close()
    server.close()


async def _public(_host: str, _port: int) -> list[str]:
    return ["93.184.216.34"]


async def test_a_target_that_was_allowed_once_is_still_guarded_at_every_connect(
    store: Store, receiver: Receiver
) -> None:
    lenient = make(store, settings())
    made = await lenient.subscriptions.create("acme", {"target_url": receiver.url, **FIELDS})
    strict = make(store, settings(allow_private_targets=False))
    await emit(store, device_token="van-1")
    await deliver(strict)

    assert receiver.received == []
    (delivery,) = (await strict.history.deliveries(None, made["id"]))["deliveries"]
    assert delivery["attempts"][0]["error"] == "the address may not be called"
    await lenient.close()
    await strict.close()
