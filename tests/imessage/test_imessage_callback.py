"""The gateway's own registration at the vendor."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from waybridge import CredentialsRejected, SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from imessage_harness import Gateway

    from waybridge_imessage.simulator import LinqSimulator

ANNA = "+14155550101"


async def run(door: Gateway, linq: LinqSimulator, **settings: object) -> None:
    await door.stop()
    door.connect(api_key=linq.api_key, base_url=linq.base_url, subscribe=True, **settings)
    door.start()
    await door.quiet()


async def test_it_registers_once_and_keeps_its_secret_over_restarts(door: Gateway, linq: LinqSimulator) -> None:
    await run(door, linq, phone_numbers=["+12025550100"])
    [made] = linq.subscriptions.values()
    assert made.target_url == f"{door.url}/webhook?version=2026-02-03"
    assert made.subscribed_events == ["location.sharing.started", "location.sharing.stopped"]
    assert made.phone_numbers == ["+12025550100"]
    assert await door.state.get("secret/callback") == {"id": made.subscription_id, "secrets": [made.signing_secret]}

    await run(door, linq, phone_numbers=["+12025550100"])

    assert list(linq.subscriptions.values()) == [made]
    assert linq.calls["POST subscription"] == 1
    assert linq.calls["PUT subscription"] == 0
    linq.share(None, ANNA, 1, 2)
    await linq.delivered()
    assert len(door.started) == 1


async def test_it_registers_anew_when_it_is_gone_and_still_takes_what_is_under_way(
    door: Gateway, linq: LinqSimulator
) -> None:
    await run(door, linq)
    [old] = linq.subscriptions.values()
    linq.subscriptions.clear()
    await door.pass_time(601, step=5)
    [new] = linq.subscriptions.values()
    kept = await door.state.get("secret/callback")
    assert kept == {"id": new.subscription_id, "secrets": [new.signing_secret, old.signing_secret]}


async def test_it_repairs_what_was_changed(door: Gateway, linq: LinqSimulator) -> None:
    await run(door, linq)
    [made] = linq.subscriptions.values()
    made.is_active, made.subscribed_events = False, ["message.sent"]
    await run(door, linq)
    assert made.is_active
    assert "location.sharing.started" in made.subscribed_events


async def test_a_registration_whose_secret_is_lost_is_replaced(door: Gateway, linq: LinqSimulator) -> None:
    linq.subscribe(f"{door.url}/webhook?version=2026-02-03")
    [orphan] = linq.subscriptions
    await run(door, linq)
    assert len(linq.subscriptions) == 1
    assert orphan not in linq.subscriptions


async def test_a_refused_registration_leaves_reading_at_work(door: Gateway, linq: LinqSimulator) -> None:
    chat = linq.add_chat(ANNA)
    linq.share(chat, ANNA, 60.17, 24.94)
    linq.faults.https_only = True
    await run(door, linq, chats=[chat])
    assert linq.subscriptions == {}
    assert any("HTTPS" in line for line in door.log.lines)
    assert len(door.positions) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [((401, 2004, "Unauthorized"), CredentialsRejected), ((403, 2005, "Denied"), CredentialsRejected)],
)
async def test_check_says_when_the_key_is_refused(
    door: Gateway, linq: LinqSimulator, status: tuple[int, int, str], error: type[Exception]
) -> None:
    provider = door.connect(api_key=linq.api_key, base_url=linq.base_url)
    await provider.check()
    linq.faults.status = status
    with pytest.raises(error):
        await provider.check()


async def test_check_tells_a_wrong_key_from_a_vendor_in_trouble(door: Gateway, linq: LinqSimulator) -> None:
    with pytest.raises(CredentialsRejected):
        await door.connect(api_key="wrong", base_url=linq.base_url).check()
    provider = door.connect(api_key=linq.api_key, base_url=linq.base_url)
    linq.faults.rate_limited, linq.faults.retry_after = 1, 30
    with pytest.raises(SourceUnavailable) as limited:
        await provider.check()
    assert limited.value.retry_after == 30
    linq.faults.rate_limited, linq.faults.retry_after = 1, None
    with pytest.raises(SourceUnavailable) as limited:
        await provider.check()
    assert limited.value.retry_after is None
    await linq.stop()
    with pytest.raises(SourceUnavailable):
        await provider.check()


async def test_check_says_that_something_else_answers_at_the_address(door: Gateway, linq: LinqSimulator) -> None:
    elsewhere = linq.base_url.replace("/partner", "/elsewhere")
    provider = door.connect(api_key=linq.api_key, base_url=elsewhere, chats=[linq.add_chat(ANNA)])
    with pytest.raises(SourceUnavailable, match="no Linq API"):
        await provider.check()


@pytest.mark.parametrize("status", [404, 405])
async def test_a_vendor_that_lists_no_webhooks_is_proved_by_reading(door: Gateway, status: int) -> None:
    """An account, or a vendor in front of it, may offer locations and no more."""
    made: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/v3/webhook-subscriptions"):
            if request.method == "POST" and status == 405:
                made.append((await request.json())["target_url"])
                return web.json_response({"id": "w1", "signing_secret": "whsec_" + "c2VjcmV0" * 4}, status=201)
            return web.Response(status=status, text="no such thing")
        if request.headers["Authorization"] != "Bearer key":
            return web.json_response({"error": {"status": 401, "code": 2004, "message": "no"}}, status=401)
        return web.json_response({"success": True, "data": {"type": "FeatureCollection", "features": []}})

    async with vendor(answer) as base_url:
        await door.connect(api_key="key", base_url=base_url, chats=["c1"]).check()
        await door.connect(api_key="key", base_url=base_url).check()
        with pytest.raises(CredentialsRejected):
            await door.connect(api_key="wrong", base_url=base_url, chats=["c1"]).check()
        door.connect(api_key="key", base_url=base_url, subscribe=True)
        door.start()
        await door.quiet()
    assert len(made) == (status == 405)


@asynccontextmanager
async def vendor(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Another vendor's server on loopback; the address of its API."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def test_reading_goes_on_while_registering_fails(door: Gateway, linq: LinqSimulator) -> None:
    chat = linq.add_chat(ANNA)
    linq.share(chat, ANNA, 60.17, 24.94)
    failing = True

    async def broken(*_: object, **__: object) -> list[dict[str, object]]:
        if failing:
            raise SourceUnavailable("Linq answered 500")
        return []

    door.connect(api_key=linq.api_key, base_url=linq.base_url, subscribe=True, chats=[chat])
    door.shown._linq.subscriptions = broken  # type: ignore[method-assign]
    door.start()
    await door.quiet()
    assert len(door.positions) == 1
    failing = False
    await door.pass_time(61)
    assert len(linq.subscriptions) == 1
