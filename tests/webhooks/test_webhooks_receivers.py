"""What receivers make of our webhooks: the published libraries, the vendor's client, the page's own receivers."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
import time
from pathlib import Path

import aiohttp
import pytest
import standardwebhooks
from linq import LinqAPIV3
from linq.types import LocationSharingStartedWebhookEvent, LocationSharingStoppedWebhookEvent
from webhooks_harness import Clock, Receiver, deliver, emit
from webhooks_programs import free_port, install, line, listening, running

from waybridge.signing import signed_headers
from waybridge.store.engine import Store
from waybridge.webhooks import Webhooks
from waybridge.webhooks.events import CATALOGUE, EventKind

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "webhooks.md"
STARTED = {
    "sharing_id": "shr_1", "kind": "source", "device_token": "van-1", "provider": "imessage", "connection_id": "c",
    "shared_by": "+14155550101", "shared_with": "+12025550100", "chat_id": None,
    "began_at": "2026-11-18T11:06:40Z", "ends_at": None, "cause": "consent",
}  # fmt: skip


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'waybridge.db'}"


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time_ns() // 1000)  # their clocks are real


def code(language: str) -> str:
    """The receiver of the page in a language."""
    (block,) = re.findall(rf"```{language}\n(// receiver|# receiver)(.*?)```", PAGE.read_text(), re.DOTALL)
    return "".join(block)


async def tell_both(store: Store) -> tuple[str, str]:
    started = await emit(store, "location.sharing.started", device_token="van-1", cause="consent", data=STARTED)
    stopped = {**STARTED, "ended_at": "2026-11-18T12:06:40Z", "cause": "consent_withdrawn"}
    return started, await emit(
        store, "location.sharing.stopped", device_token="van-1", cause="consent_withdrawn", data=stopped
    )


async def test_the_published_library_and_the_vendors_client_accept_them_strictly(
    webhooks: Webhooks, store: Store, receiver: Receiver
) -> None:
    fields = {"target_url": receiver.url, "subscribed_events": ["location.sharing.*"]}
    made = await webhooks.subscriptions.create("acme", fields)
    rotated = await webhooks.subscriptions.rotate(None, made["id"], 1)
    started, _ = await tell_both(store)
    await deliver(webhooks)

    assert receiver.types == ["location.sharing.started", "location.sharing.stopped"]
    client = LinqAPIV3(api_key="unused", base_url="http://127.0.0.1:9")
    for secret in (made["signing_secret"], rotated["signing_secret"]):
        for got in receiver.received:
            assert standardwebhooks.Webhook(secret).verify(got.body, got.headers) == got.event
            client.webhooks.unwrap(got.body.decode(), headers=got.headers, key=secret)
    first, second = receiver.received
    begun = LocationSharingStartedWebhookEvent.model_validate(first.event)
    ended = LocationSharingStoppedWebhookEvent.model_validate(second.event)
    assert (begun.event_id, begun.data.shared_by) == (started, "+14155550101")
    assert ended.data.began_at == begun.data.began_at
    client.close()


async def posted(url: str, secret: str, event_id: str, body: bytes, **replaced: str) -> int:
    headers = {**signed_headers(secret, event_id, int(time.time()), body), **replaced}
    async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=headers) as response:
        return response.status


@pytest.mark.parametrize("language", ["python", pytest.param("javascript", marks=pytest.mark.node)])
async def test_the_receivers_of_the_page_take_what_is_signed_and_nothing_else(
    webhooks: Webhooks, store: Store, tmp_path: Path, language: str
) -> None:
    port = free_port()
    made = await webhooks.subscriptions.create(
        "acme", {"target_url": f"http://127.0.0.1:{port}/", "subscribed_events": ["*"]}
    )
    secret = made["signing_secret"]
    if language == "python":
        (tmp_path / "receiver.py").write_text(code("python"))
        command = [sys.executable, "receiver.py"]
    else:
        command = ["node", "receiver.mjs"]
        (tmp_path / "receiver.mjs").write_text(code("javascript"))
        await install(tmp_path)
    async with running(*command, cwd=tmp_path, SECRET=secret, PORT=str(port)) as process:
        await listening(port)
        started, stopped = await tell_both(store)
        await deliver(webhooks)
        assert await line(process) == f"location.sharing.started {started} van-1"
        assert await line(process) == f"location.sharing.stopped {stopped} van-1"

        url = f"http://127.0.0.1:{port}/"
        other = "whsec_" + "A" * 32
        assert await posted(url, other, "evt_forged", b"{}") == 401
        assert await posted(url, secret, "evt_late", b"{}", **{"webhook-timestamp": "1"}) == 401
        assert await posted(url, secret, "evt_odd", b"{}", **{"webhook-signature": "v1"}) == 401
        await webhooks.history.replay_event(None, made["id"], started)
        following = await emit(store, device_token="van-2")
        await deliver(webhooks)
        assert await line(process) == f"device.online {following} van-2"
    listed = await webhooks.history.deliveries(None, made["id"])
    assert {each["state"] for each in listed["deliveries"]} == {"delivered"}


async def test_listen_verifies_prints_a_line_an_event_and_stops_cleanly(
    webhooks: Webhooks, store: Store, tmp_path: Path
) -> None:
    port = free_port()
    made = await webhooks.subscriptions.create(
        "acme", {"target_url": f"http://127.0.0.1:{port}/hook", "subscribed_events": ["*"]}
    )
    command = [sys.executable, "-m", "waybridge", "listen", "--port", str(port), "--secret", made["signing_secret"]]
    async with running(*command, cwd=tmp_path) as process:
        assert await line(process) == f"Listening on http://127.0.0.1:{port}/"
        started, _ = await tell_both(store)
        await deliver(webhooks)
        first = await line(process)
        assert re.fullmatch(r"\d\d:\d\d:\d\d  verified {4}location\.sharing\.started  .*", first)
        assert started in first
        assert "device_token=van-1" in first
        assert "location.sharing.stopped" in await line(process)
        await webhooks.history.replay_event(None, made["id"], started)
        await deliver(webhooks)
        assert "  again  " in await line(process)

        url = f"http://127.0.0.1:{port}/hook"
        assert await posted(url, "whsec_" + "A" * 32, "evt_forged", b"{}") == 401
        assert "no signature matches" in await line(process)
        assert await posted(url, made["signing_secret"], "evt_odd", b'"\\u001b[2J"') == 400
        assert "no JSON object" in await line(process)
        assert await posted(url, made["signing_secret"], "evt_x", b'{"event_type": "\\u001b[31m"}') == 204
        assert "?[31m" in await line(process)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--secret", "whsec_!"], "--secret"), (["--port", "PORT"], "cannot listen")]
)
async def test_listen_says_what_is_wrong_in_a_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        command = [each.replace("PORT", port) for each in arguments]
        async with running(sys.executable, "-m", "waybridge", "listen", *command, cwd=tmp_path) as process:
            assert process.stderr is not None
            async with asyncio.timeout(20):
                error = (await process.stderr.read()).decode()
                assert await process.wait() == 1
    assert said in error
    assert len(error.strip().splitlines()) == 1


async def test_listen_without_a_secret_verifies_nothing_and_says_so(tmp_path: Path) -> None:
    async with running(sys.executable, "-m", "waybridge", "listen", "--port", "0", cwd=tmp_path) as process:
        hello = await line(process)
        assert "nothing is verified" in hello
        url = hello.split()[2]
        async with aiohttp.ClientSession() as http, http.post(url, json={"event_type": "a.b"}) as response:
            assert response.status == 204
        assert "unverified  a.b" in await line(process)


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.name)
def test_the_page_documents_every_event_with_every_field(kind: EventKind) -> None:
    page = PAGE.read_text()
    family, _, last = kind.name.rpartition(".")
    section = next(
        (each for each in re.split(r"\n### ", page) if each.startswith(f"{family}.") and last in each.splitlines()[0]),
        "",
    )
    assert section, f"{kind.name} has no section"
    for field in kind.fields:
        assert f"`{field}`" in section, f"{kind.name}: {field}"
