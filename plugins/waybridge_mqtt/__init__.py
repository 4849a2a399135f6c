"""Positions and events to an MQTT broker; off unless `[plugins.mqtt]` stands in the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waybridge import hookimpl
from waybridge_mqtt.settings import MqttSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from waybridge import Sink

NAME = "mqtt"

__all__ = ["waybridge_sinks"]


@hookimpl
def waybridge_sinks(settings: Mapping[str, Mapping[str, Any]]) -> Sequence[Sink]:
    table = settings.get(NAME)
    if table is None:
        return []
    wanted = MqttSettings.model_validate(dict(table))
    from waybridge_mqtt.sink import MqttSink  # noqa: PLC0415 - aiomqtt is an extra

    return [MqttSink(wanted)]
