"""What an operator says about one MyCarTracks account."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from waybridge import ProviderSettings
from waybridge_mycartracks.payload import FIELDS, REQUIRED_FIELDS

LEAST_INTERVAL: Final = 5
"""The vendor's smallest `minIntervalSeconds`; a smaller setting is raised to it."""


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic reports ValueError as a field error
    return value


VehicleId = Annotated[int, BeforeValidator(_no_boolean), Field(gt=0)]


class MyCarTracksSettings(ProviderSettings):
    """The settings of contract section 3, and two of the vendor's page: the request budget and socket pings.

    `fields`: what the events should carry; those that a position cannot do without are asked for anyway.
    `allowed_stream_hosts`: hosts that a stream address may name; None is the host of `base_url` alone.
    `requests_per_minute`: REST requests this connection makes at most.
    `ping_seconds`: how often to ping the socket; None sends nothing but what RFC 6455 asks for.
    """

    client_id: str = Field(min_length=1, max_length=500, repr=False)
    client_secret: SecretStr = Field(min_length=1, max_length=500)
    base_url: str = Field(default="https://mycartracks.com/services/rest/v3", max_length=2000)
    token_url: str = Field(default="https://mycartracks.com/oauth/token", max_length=2000)
    scope: str = Field(default="read", min_length=1, max_length=500)
    token_endpoint_auth_method: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"  # noqa: S105
    vehicle_ids: tuple[VehicleId, ...] | None = Field(default=None, min_length=1)
    vehicle_group_ids: tuple[VehicleId, ...] | None = Field(default=None, min_length=1)
    include_shared_vehicles: bool = True
    min_interval_seconds: Annotated[int, BeforeValidator(_no_boolean)] = Field(default=LEAST_INTERVAL, le=86_400)
    fields: tuple[str, ...] = FIELDS
    speed_unit: Literal["kmh", "ms", "mph"] = "kmh"
    page_size: Annotated[int, BeforeValidator(_no_boolean)] = Field(default=50, ge=1, le=1000)
    allowed_stream_hosts: tuple[str, ...] | None = None
    requests_per_minute: Annotated[int, BeforeValidator(_no_boolean)] = Field(default=30, ge=1, le=6000)
    ping_seconds: float | None = Field(default=None, ge=1)

    @field_validator("base_url", "token_url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be an http or https address")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("must hold neither user info nor query")
        return value.rstrip("/")

    @field_validator("fields")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in FIELDS:
                raise ValueError(f"{name!r} is no field of a position event; choose among {', '.join(FIELDS)}")
        return tuple(name for name in FIELDS if name in value or name in REQUIRED_FIELDS)

    @field_validator("allowed_stream_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not all(host and "/" not in host and "@" not in host for host in value):
            raise ValueError("must be host names, without scheme or path")
        return None if value is None else tuple(host.lower() for host in value)

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.vehicle_ids is not None and self.vehicle_group_ids is not None:
            raise ValueError("vehicle_ids and vehicle_group_ids exclude each other: set one of them")
        return self

    @property
    def interval(self) -> int:
        """The interval that the vendor is asked for, seconds."""
        return max(LEAST_INTERVAL, self.min_interval_seconds)

    @property
    def stream_hosts(self) -> frozenset[str]:
        """The hosts that a stream address may name, lower-case."""
        if self.allowed_stream_hosts:
            return frozenset(self.allowed_stream_hosts)
        return frozenset({(urlsplit(self.base_url).hostname or "").lower()})

    @property
    def plain_sockets(self) -> bool:
        """Whether a stream may be unencrypted: only towards this very machine."""
        return is_loopback(urlsplit(self.base_url).hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine by definition, without asking any name server."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
