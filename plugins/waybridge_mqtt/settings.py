"""`[plugins.mqtt]`."""

from __future__ import annotations

import importlib.util
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator


class MqttSettings(BaseModel):
    """Where the broker is and how it is talked to. `url` is mqtt://HOST:PORT, or mqtts:// for TLS."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str
    username: str | None = None
    password: SecretStr | None = None
    topic_prefix: str = Field(default="waybridge", max_length=200)
    qos: int = Field(default=1, ge=0, le=2)
    tls: bool = False
    client_id: str | None = Field(default=None, max_length=200)
    retain: bool = False

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            fit = parts.scheme in ("mqtt", "mqtts") and parts.hostname and parts.port != 0
        except ValueError:
            fit = False
        if not fit or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
            raise ValueError("must be mqtt://HOST:PORT or mqtts://HOST:PORT; username and password have their own keys")
        return url

    @field_validator("topic_prefix")
    @classmethod
    def _no_wildcards(cls, prefix: str) -> str:
        if not prefix or prefix.startswith(("/", "$")) or prefix.endswith("/") or set(prefix) & set("+#\x00"):
            raise ValueError("must be a topic without +, #, and slashes at its ends")
        return prefix

    @model_validator(mode="after")
    def _whole(self) -> MqttSettings:
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a username")
        if importlib.util.find_spec("aiomqtt") is None:
            raise ValueError("needs the package aiomqtt: pip install 'waybridge[mqtt]'")
        return self

    @property
    def secure(self) -> bool:
        return self.tls or urlsplit(self.url).scheme == "mqtts"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; 1883 by default, 8883 with TLS."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (8883 if self.secure else 1883)
