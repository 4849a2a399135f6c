from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select
from webhooks_harness import Clock, Receiver, deliver, emit

from waybridge.errors import Conflict, Invalid, NotFound
from waybridge.signing import SignatureRejected, sign_webhook, verify_webhook
from waybridge.store import tables
from waybridge.store.engine import Store, Tx
from waybridge.webhooks import Webhooks, history
from waybridge.webhooks.events import NAMES, acceptable, matches

HOURS = 3_600


async def subscribe(webhooks: Webhooks, url: str, **fields: Any) -> dict[str, Any]:
    return await webhooks.subscriptions.create("acme", {"target_url": url, "subscribed_events": ["*"], **fields})


def test_wildcards_cover_what_they_say() -> None:
    assert matches(["device.*"], "device.online")
    assert not matches(["device.*"], "devices.online")
    assert not matches(["device.*"], "location.sharing.started")
    assert matches(["location.*"], "location.sharing.started")
    assert matches(["share.session.*"], "share.session.viewed")
    assert matches(["*"], "driver.event")
    assert not matches(["device.online"], "device.online.x")


@pytest.mark.parametrize("name", [*NAMES, "*", "device.*", "location.*", "location.sharing.*", "webhook.*"])
def test_names_and_wildcards_of_the_catalogue_are_accepted(name: str) -> None:
    assert acceptable(name, foreign=False)


@pytest.mark.parametrize("name", ["message.sent", "chat.*", "device", "device.", "dev*", "*.online", "**", "Device.*"])
def test_other_names_are_not(name: str) -> None:
    assert not acceptable(name, foreign=False)


@pytest.mark.parametrize("name", ["message.sent", "chat.typing_indicator.started", "message.*"])
def test_names_of_another_vendor_are_accepted_where_its_dialect_is_spoken(name: str) -> None:
    assert acceptable(name, foreign=True)
    assert not acceptable(name + "!", foreign=True)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"target_url": "ftp://example.com/"}, "target_url"),
        ({"target_url": "https://user:pw@example.com/"}, "target_url"),
        ({"target_url": "https://example.com:22/"}, "target_url"),
        ({"target_url": ""}, "target_url"),
        ({"target_url": 1}, "target_url"),
        ({"subscribed_events": []}, "subscribed_events"),
        ({"subscribed_events": ["message.sent"]}, "subscribed_events.0"),
        ({"subscribed_events": "*"}, "subscribed_events"),
        ({"device_tokens": [""]}, "device_tokens.0"),
        ({"device_tokens": ["a\nb"]}, "device_tokens.0"),
        ({"causes": ["whim"]}, "causes.0"),
        ({"phone_numbers": ["555"]}, "phone_numbers.0"),
        ({"is_active": "yes"}, "is_active"),
        ({"signing_secret": "whsec_mine"}, "signing_secret"),
    ],
)
async def test_what_is_not_valid_is_refused_with_its_field(
    webhooks: Webhooks, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await subscribe(webhooks, **{"url": "http://127.0.0.1:9000/", **fields})
    assert [name for name, _ in refused.value.errors] == [field]
    assert await webhooks.subscriptions.every(None) == []


async def test_a_subscription_is_made_read_changed_and_removed(webhooks: Webhooks, clock: Clock) -> None:
    made = await subscribe(
        webhooks, "http://127.0.0.1:9000/a", device_tokens=["1E653223-8EFE-4904-BAAA-23F0972924E0"], causes=["consent"]
    )
    assert made.pop("signing_secret").startswith("whsec_")
    assert made == {
        "id": made["id"],
        "instance_id": "acme",
        "target_url": "http://127.0.0.1:9000/a",
        "subscribed_events": ["*"],
        "device_tokens": ["1e653223-8efe-4904-baaa-23f0972924e0"],
        "groups": None,
        "causes": ["consent"],
        "phone_numbers": None,
        "is_active": True,
        "disabled_reason": None,
        "failing_since": None,
        "created_at": "2026-11-18T11:06:40Z",
        "updated_at": "2026-11-18T11:06:40Z",
    }
    assert await webhooks.subscriptions.one(["acme"], made["id"]) == made
    assert await webhooks.subscriptions.every(["acme"]) == [made]
    assert await webhooks.subscriptions.every(["other"]) == []
    for refused in ({"instance_ids": ["other"]}, {"instance_ids": []}):
        with pytest.raises(NotFound):
            await webhooks.subscriptions.one(refused["instance_ids"], made["id"])
    with pytest.raises(NotFound):
        await webhooks.subscriptions.replace(["other"], made["id"], {"is_active": False})
    with pytest.raises(NotFound):
        await webhooks.subscriptions.remove(["other"], made["id"])

    clock.forward(1)
    changed = await webhooks.subscriptions.replace(
        ["acme"], made["id"], {"subscribed_events": ["device.*", "device.*"], "causes": [], "groups": ["vans"]}
    )
    assert changed == {
        **made, "subscribed_events": ["device.*"], "causes": None, "groups": ["vans"],
        "updated_at": "2026-11-18T11:06:41Z",
    }  # fmt: skip
    await webhooks.subscriptions.remove(["acme"], made["id"])
    with pytest.raises(NotFound):
        await webhooks.subscriptions.remove(["acme"], made["id"])


async def test_the_same_target_may_be_subscribed_twice(webhooks: Webhooks) -> None:
    first = await subscribe(webhooks, "http://127.0.0.1:9000/a")
    second = await subscribe(webhooks, "http://127.0.0.1:9000/a")
    assert first["id"] != second["id"]
    assert first["signing_secret"] != second["signing_secret"]


async def test_secrets_are_never_shown_again_and_never_lie_open(webhooks: Webhooks, store: Store) -> None:
    made = await subscribe(webhooks, "http://127.0.0.1:9000/a")
    assert "signing_secret" not in await webhooks.subscriptions.one(None, made["id"])
    async with store.read() as conn:
        row = (await conn.execute(select(tables.subscriptions))).one()
    key = made["signing_secret"].removeprefix("whsec_").encode()
    assert all(key not in str(value).encode() for value in row)


async def test_a_device_or_group_filter_hears_of_its_devices_only(
    webhooks: Webhooks, store: Store, receiver: Receiver
) -> None:
    async def group(tx: Tx) -> None:
        await tx.conn.execute(
            insert(tables.groups),
            [
                {"id": 7, "instance_id": "acme", "group_id": "vans", "created_us": 1, "updated_us": 1},
                {"id": 8, "instance_id": "other", "group_id": "vans", "created_us": 1, "updated_us": 1},
            ],
        )
        await tx.conn.execute(
            insert(tables.group_members),
            [
                {"group_number": 7, "device_token": "van-1"},
                {"group_number": 7, "device_token": "van-2"},
                {"group_number": 8, "device_token": "van-4"},
            ],
        )

    await store.write(group)
    await subscribe(webhooks, receiver.url + "/token", device_tokens=["van-3"])
    await subscribe(webhooks, receiver.url + "/group", groups=["vans"])
    await subscribe(webhooks, receiver.url + "/both", groups=["vans"], device_tokens=["van-3"])
    for number in (1, 2, 3, 4):
        await emit(store, device_token=f"van-{number}")
    await emit(store, "connection.degraded", data={"connection_id": "c"})
    await deliver(webhooks)

    heard: dict[str, list[str]] = {}
    for each in receiver.received:
        heard.setdefault(each.path.removeprefix("/hook/"), []).append(each.event["data"]["device_token"])
    assert {path: sorted(tokens) for path, tokens in heard.items()} == {
        "token": ["van-3"],
        "group": ["van-1", "van-2"],
        "both": ["van-1", "van-2", "van-3"],
    }


async def test_causes_and_lines_filter_too(webhooks: Webhooks, store: Store, receiver: Receiver) -> None:
    await subscribe(webhooks, receiver.url + "/cause", causes=["consent"])
    await subscribe(webhooks, receiver.url + "/line", phone_numbers=["+15550001111"])
    for cause, line in (("consent", "+15550001111"), ("consent", "+15559999999"), ("online", "acme")):
        await emit(
            store,
            "location.sharing.started",
            device_token="van-1",
            cause=cause,
            data={"cause": cause, "shared_with": line},
        )
    await deliver(webhooks)

    heard = [(each.path.removeprefix("/hook/"), each.event["data"]["shared_with"]) for each in receiver.received]
    assert sorted(heard) == [
        ("cause", "+15550001111"),
        ("cause", "+15559999999"),
        ("line", "+15550001111"),
        ("line", "acme"),
    ]


async def test_both_secrets_sign_until_the_overlap_ends(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock
) -> None:
    made = await subscribe(webhooks, receiver.url)
    rotated = await webhooks.subscriptions.rotate(None, made["id"], 2)
    assert rotated["signing_secret"] != made["signing_secret"]
    assert rotated["previous_secret_expires_at"] == "2026-11-18T13:06:40Z"

    await emit(store, device_token="van-1")
    await deliver(webhooks)
    clock.forward(2 * HOURS)
    await emit(store, device_token="van-1")
    await deliver(webhooks)

    during, after = receiver.received
    assert len(during.headers["webhook-signature"].split(" ")) == 2
    for secret in (made["signing_secret"], rotated["signing_secret"]):
        verify_webhook(secret, during.headers, during.body, clock() / 1e6 - 2 * HOURS)
    verify_webhook(rotated["signing_secret"], after.headers, after.body, clock() / 1e6)
    with pytest.raises(SignatureRejected):
        verify_webhook(made["signing_secret"], after.headers, after.body, clock() / 1e6)


async def test_a_rotation_without_overlap_ends_every_old_secret_and_there_is_a_limit_of_live_ones(
    webhooks: Webhooks, clock: Clock
) -> None:
    made = await subscribe(webhooks, "http://127.0.0.1:9000/")
    for _ in range(4):
        await webhooks.subscriptions.rotate(None, made["id"], None)
    with pytest.raises(Conflict):
        await webhooks.subscriptions.rotate(None, made["id"], 24)
    last = await webhooks.subscriptions.rotate(None, made["id"], 0)
    assert last["previous_secret_expires_at"] is None
    await webhooks.subscriptions.rotate(None, made["id"], 168)
    with pytest.raises(Invalid):
        await webhooks.subscriptions.rotate(None, made["id"], 168.5)
    with pytest.raises(NotFound):
        await webhooks.subscriptions.rotate(["other"], made["id"], 1)


async def test_the_published_vector_is_signed_as_published() -> None:
    signature = sign_webhook(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_the_test_event_goes_to_its_subscription_alone(
    webhooks: Webhooks, store: Store, receiver: Receiver
) -> None:
    made = await subscribe(webhooks, receiver.url + "/mine", subscribed_events=["device.online"])
    await subscribe(webhooks, receiver.url + "/other")

    sent = await webhooks.history.test(["acme"], made["id"])
    await deliver(webhooks)

    (got,) = receiver.received
    assert (got.path, got.event_id, got.event["event_type"]) == ("/hook/mine", sent["event_id"], "webhook.test")
    with pytest.raises(NotFound):
        await webhooks.history.test(["other"], made["id"])
    await webhooks.subscriptions.replace(None, made["id"], {"is_active": False})
    with pytest.raises(Conflict):
        await webhooks.history.test(None, made["id"])


async def test_events_are_replayed_by_id_and_by_range_with_the_same_id_and_bytes(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock
) -> None:
    made = await subscribe(webhooks, receiver.url, subscribed_events=["device.online"])
    ids = []
    for _ in range(5):
        ids.append(await emit(store, device_token="van-1"))
        clock.forward(60)
    other = await emit(store, "device.offline", device_token="van-1")
    foreign = await emit(store, device_token="van-1", instance_id="other")
    await deliver(webhooks)
    first = {each.event_id: each.body for each in receiver.received}
    receiver.received.clear()
    clock.forward(HOURS)

    assert await webhooks.history.replay_event(None, made["id"], ids[3]) == {"replayed": 1}
    await deliver(webhooks)
    assert receiver.ids == [ids[3]]
    assert receiver.received[0].headers["webhook-timestamp"] == str(clock() // 1_000_000)
    receiver.received.clear()

    began = clock() - (HOURS + 5 * 60) * 1_000_000
    answer = await webhooks.history.replay_range(None, made["id"], began + 60_000_000, began + 240_000_000)
    await deliver(webhooks)
    assert answer == {"replayed": 3}
    assert receiver.ids == ids[1:4]
    assert all(first[each.event_id] == each.body for each in receiver.received)
    receiver.received.clear()

    assert await webhooks.history.replay_range(None, made["id"], None, None) == {"replayed": 5}
    await deliver(webhooks)
    assert receiver.ids == ids
    for unknown in (other, foreign, "evt_unknown"):
        with pytest.raises(NotFound):
            await webhooks.history.replay_event(None, made["id"], unknown)
    with pytest.raises(Invalid):
        await webhooks.history.replay_range(None, made["id"], clock(), clock() - 1)


async def test_a_long_range_is_replayed_whole_and_in_order(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PAGE", 20)
    made = await subscribe(webhooks, receiver.url, is_active=False)

    async def many(tx: Tx) -> list[str]:
        return [tx.emit("device.online", instance_id="acme", data={}, device_token="van-1") for _ in range(50)]

    ids = await store.write(many)
    await webhooks.dispatcher.expand()
    await webhooks.subscriptions.replace(None, made["id"], {"is_active": True})
    clock.forward(1)

    assert await webhooks.history.replay_range(None, made["id"], None, None) == {"replayed": 50}
    await deliver(webhooks)

    assert receiver.ids == ids


async def test_what_is_old_is_purged_and_what_waits_is_not(
    webhooks: Webhooks, store: Store, receiver: Receiver, clock: Clock
) -> None:
    made = await subscribe(webhooks, receiver.url, subscribed_events=["device.*"])
    old = await emit(store, device_token="van-1")
    unheard = await emit(store, "driver.event", device_token="van-1")
    await deliver(webhooks)
    clock.forward(13 * 24 * HOURS)
    receiver.default = 503
    waits = await emit(store, device_token="van-1")
    await deliver(webhooks)
    assert await webhooks.housekeeping.clean() == 0
    clock.forward(2 * 24 * HOURS)
    assert await webhooks.housekeeping.clean() == 3

    async with store.read() as conn:
        kept = list((await conn.execute(select(tables.outbox.c.event_id))).scalars())
        assert kept == [waits]
        assert len((await conn.execute(select(tables.attempts))).all()) == 1
    listed = await webhooks.history.deliveries(None, made["id"])
    assert [each["event_id"] for each in listed["deliveries"]] == [waits]
    assert {old, unheard}.isdisjoint(kept)


async def test_deactivation_and_removal_drop_what_waits(webhooks: Webhooks, store: Store, receiver: Receiver) -> None:
    off = await subscribe(webhooks, receiver.url)
    gone = await subscribe(webhooks, receiver.url)
    receiver.default = 500
    await emit(store, device_token="van-1")
    await emit(store, device_token="van-1")
    await webhooks.dispatcher.expand()
    await webhooks.subscriptions.replace(None, off["id"], {"is_active": False})
    await webhooks.subscriptions.remove(None, gone["id"])

    await deliver(webhooks)

    assert receiver.received == []
    listed = await webhooks.history.deliveries(None, off["id"], state="dropped", limit=1, offset=1)
    assert (listed["total"], listed["limit"], listed["offset"], len(listed["deliveries"])) == (2, 1, 1, 1)
    await webhooks.subscriptions.replace(None, off["id"], {"is_active": True})
    await emit(store, device_token="van-1")
    await deliver(webhooks)
    assert len(receiver.received) == 1
