"""The MQTT sink, against a real broker on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any

import aiomqtt
import pytest
from amqtt.broker import Broker
from processes import free_port
from pwdlib.hashers.argon2 import Argon2Hasher
from pydantic import ValidationError
from running import running_gateway

from waybridge import SinkEvent
from waybridge.errors import ConfigurationError
from waybridge_mqtt import waybridge_sinks
from waybridge_mqtt.settings import MqttSettings
from waybridge_mqtt.sink import MqttSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@contextlib.asynccontextmanager
async def broker(port: int, **auth: Any) -> AsyncIterator[None]:
    """A broker on the port until the block ends; with `users` only they are let in."""
    logging.getLogger("transitions").setLevel(logging.WARNING)
    plugins: dict[str, Any] = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": not auth}}
    if auth:
        plugins["amqtt.plugins.authentication.FileAuthPlugin"] = {"password_file": str(auth["users"])}
    running = Broker({"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}, "plugins": plugins})
    await running.start()
    try:
        yield
    finally:
        await running.shutdown()


class Subscriber:
    """What a client at the broker reads."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client

    async def next(self) -> tuple[str, dict[str, Any]]:
        async with asyncio.timeout(10):
            message = await anext(self._client.messages)
        assert isinstance(message.payload, bytes)
        return str(message.topic), json.loads(message.payload)


@contextlib.asynccontextmanager
async def subscriber(port: int, topics: str = "#", **options: Any) -> AsyncIterator[Subscriber]:
    async with aiomqtt.Client("127.0.0.1", port, **options) as client:
        await client.subscribe(topics, qos=1)
        yield Subscriber(client)


def event(token: str = "van", kind: Any = "position", **body: Any) -> SinkEvent:
    return SinkEvent(
        kind=kind, type="device.position.updated", instance_id="acme", device_token=token,
        body=json.dumps(body).encode(),
    )  # fmt: skip


@contextlib.asynccontextmanager
async def sink(port: int, **settings: Any) -> AsyncIterator[MqttSink]:
    made = MqttSink(MqttSettings(url=f"mqtt://127.0.0.1:{port}", **settings))
    yield made
    await made.close()


def test_without_its_table_there_is_no_sink() -> None:
    assert waybridge_sinks({"other": {}}) == []
    (made,) = waybridge_sinks({"mqtt": {"url": "mqtt://h"}})
    assert made.name == "mqtt"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "url"),
        ({"url": "http://h"}, "must be mqtt://"),
        ({"url": "mqtt://u:p@h"}, "must be mqtt://"),
        ({"url": "mqtt://h/topic"}, "must be mqtt://"),
        ({"url": "mqtt://h:99999"}, "must be mqtt://"),
        ({"url": "mqtt://h", "topic_prefix": "a/#"}, "must be a topic"),
        ({"url": "mqtt://h", "topic_prefix": ""}, "must be a topic"),
        ({"url": "mqtt://h", "qos": 3}, "less than or equal to 2"),
        ({"url": "mqtt://h", "password": "hunter2"}, "needs a username"),
        ({"url": "mqtt://h", "pasword": "hunter2"}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_refused_without_showing_them(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        waybridge_sinks({"mqtt": settings})
    assert "hunter2" not in str(caught.value)


def test_ports_and_secrets() -> None:
    assert MqttSettings(url="mqtt://h").address == ("h", 1883)
    assert MqttSettings(url="mqtts://h").address == ("h", 8883)
    assert MqttSettings(url="mqtt://h", tls=True).address == ("h", 8883)
    assert MqttSettings(url="mqtt://[::1]:5").address == ("::1", 5)
    assert "hunter2" not in repr(MqttSettings(url="mqtt://h", username="u", password="hunter2"))


async def test_positions_and_events_come_in_order_under_topics_of_their_own() -> None:
    port = free_port()
    async with broker(port), subscriber(port) as reader, sink(port, topic_prefix="fleet/eu") as made:
        await made.take([event(number=number) for number in range(250)] + [event("a/b+c#d", "event", number=250)])
        got = [await reader.next() for _ in range(251)]

    assert [body["number"] for _, body in got] == list(range(251))
    assert {topic for topic, _ in got[:250]} == {"fleet/eu/acme/van/position"}
    assert got[250][0] == "fleet/eu/acme/a%2Fb%2Bc%23d/event"


async def test_retained_positions_wait_for_those_who_come_later_and_events_do_not() -> None:
    port = free_port()
    async with broker(port), sink(port, retain=True) as made:
        await made.take([event(number=1), event(number=2), event(kind="event", number=3)])
        async with subscriber(port) as reader:
            assert await reader.next() == ("waybridge/acme/van/position", {"number": 2})
            await made.take([event("bus", number=4)])
            assert await reader.next() == ("waybridge/acme/bus/position", {"number": 4})


async def test_credentials_open_a_closed_broker(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"way:{Argon2Hasher().hash('sesame')}\n")
    port = free_port()
    async with broker(port, users=users):
        async with sink(port, username="way", password="wrong") as refused:
            with pytest.raises(aiomqtt.MqttError):
                await refused.take([event(number=1)])
        async with (
            sink(port, username="way", password="sesame") as made,
            subscriber(port, username="way", password="sesame") as reader,
        ):
            await made.take([event(number=2)])
            assert (await reader.next())[1] == {"number": 2}


async def test_a_broker_that_comes_back_is_found_again() -> None:
    port = free_port()
    async with sink(port) as made:
        with pytest.raises(aiomqtt.MqttError):
            await made.take([event(number=0)])
        async with broker(port), subscriber(port) as reader:
            await made.take([event(number=1)])
            assert (await reader.next())[1] == {"number": 1}
        with pytest.raises(aiomqtt.MqttError):
            await made.take([event(number=2)])
        async with broker(port), subscriber(port) as reader:
            await made.take([event(number=3)])
            assert (await reader.next())[1] == {"number": 3}


async def test_a_gateway_publishes_what_streams_may_see(tmp_path: Path) -> None:
    port = free_port()
    database = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    mqtt = {"mqtt": {"url": f"mqtt://127.0.0.1:{port}", "qos": 1}}
    async with (
        broker(port),
        subscriber(port, "waybridge/#") as reader,
        running_gateway(database, tmp_path, plugins=mqtt) as gateway,
    ):
        body = {"device_token": "van", "latitude": 60.1, "longitude": 24.9, "timestamp": time.time(), "speed": 12.5}
        async with gateway.http.post(
            f"{gateway.url}/ingest/native/positions", json=body, headers=gateway.headers()
        ) as response:
            assert response.status == 200
        got = dict([await reader.next(), await reader.next()])

    assert set(got) == {"waybridge/default/van/position", "waybridge/default/van/event"}
    position = got["waybridge/default/van/position"]
    assert (position["latitude"], position["speed"], position["provider"]) == (60.1, 12.5, "native")
    assert got["waybridge/default/van/event"]["type"] == "device.online"


async def test_a_gateway_with_wrong_settings_says_so(tmp_path: Path) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
    with pytest.raises(ConfigurationError, match=r"plugins\.mqtt\.url: must be mqtt://"):
        async with running_gateway(database, tmp_path, plugins={"mqtt": {"url": "nowhere"}}):
            pass
