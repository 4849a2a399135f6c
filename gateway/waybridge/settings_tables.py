"""The tables of the configuration file, each a frozen model; `settings.py` puts them together."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
NATIVE = "native"
DEFAULT_INSTANCE = "default"


def _identifier(text: str) -> str:
    if not ID.fullmatch(text):
        raise ValueError("must be 1 to 64 letters, digits, _ or -")
    return text


def _http_address(text: str) -> str:
    """An http(s) address without fragment or user info. Empty means not set."""
    if not text:
        return ""
    try:
        url = URL(text)
        fit = url.scheme in ("http", "https") and url.host and url.user is None and url.password is None
    except ValueError:
        fit = False
    if not fit or "#" in text:
        raise ValueError("must be an address like https://track.example.com")
    return text


def _http_base(text: str) -> str:
    """An address that paths are put after: no query, no slash at its end."""
    if "?" in _http_address(text):
        raise ValueError("must be an address like https://track.example.com, without a query")
    return text.rstrip("/")


def _origin(text: str) -> str:
    base = _http_base(text).lower()
    if not base or URL(base).path not in ("", "/") or not re.fullmatch(r"https?://[a-z0-9.\-\[\]:_]+", base):
        raise ValueError("must be an origin like https://portal.example.com, without a path")
    return base


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError("must be a network like 10.0.0.0/8 or 2001:db8::/32") from None


Identifier: TypeAlias = Annotated[str, AfterValidator(_identifier)]
HttpAddress: TypeAlias = Annotated[str, AfterValidator(_http_address)]
HttpBase: TypeAlias = Annotated[str, AfterValidator(_http_base)]
Origins: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], Field(strict=False)]
Networks: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], Field(strict=False)]
Words: TypeAlias = Annotated[tuple[str, ...], Field(strict=False)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Seconds: TypeAlias = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of the configuration: strict, frozen, no unknown keys, no values in error messages."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, validate_default=True
    )


class ServerSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    trusted_proxies: Networks = ()


class AuthSettings(Section):
    jwks_url: HttpAddress = ""
    issuer: str = ""
    audience: str = "waybridge"
    algorithms: Annotated[tuple[Literal["RS256", "ES256", "EdDSA"], ...], Field(strict=False, min_length=1)] = (
        "RS256",
        "ES256",
        "EdDSA",
    )
    subject_claim: str = Field(default="sub", min_length=1)
    instances_claim: str = Field(default="instances", min_length=1)
    scope_claim: str = Field(default="scope", min_length=1)
    device_token_claim: str = Field(default="device_token", min_length=1)
    leeway_seconds: float = Field(default=30, ge=0, le=300)
    outside_lifetime_hours: Seconds = 24
    client_token_seconds: Count = 3600
    jwks_timeout_seconds: Seconds = 1
    jwks_ttl_seconds: Seconds = 600
    jwks_refetch_seconds: Seconds = 30
    jwks_keep_hours: Seconds = 24

    @model_validator(mode="after")
    def _whole(self) -> AuthSettings:
        if bool(self.jwks_url) != bool(self.issuer):
            raise ValueError("jwks_url and issuer belong together: set both or none")
        if self.issuer == "waybridge":
            raise ValueError("issuer waybridge is the gateway's own; an outside issuer needs another name")
        return self


class WebhookSettings(Section):
    allow_private_targets: bool = False
    allow_subnets: Networks = ()
    timeout_seconds: Seconds = 15
    connect_seconds: Seconds = 5
    answer_bytes: Count = 65_536
    retry_seconds: Annotated[tuple[Seconds, ...], Field(strict=False)] = (
        5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400,
    )  # fmt: skip
    retry_jitter: float = Field(default=0.2, ge=0, le=1)
    retry_after_hours: Seconds = 24
    dead_letter_days: Seconds = 14
    disable_after_hours: Seconds = 120
    overlap_hours: float = Field(default=24, ge=0)
    overlap_hours_max: float = Field(default=168, ge=0)


class StoreSettings(Section):
    durability: Literal["full", "normal"] = "full"


class LimitSettings(Section):
    public_requests_per_minute: Count = 60
    public_requests_burst: int = Field(default=0, ge=0)
    public_misses_per_minute: Count = 10
    public_misses_burst: int = Field(default=0, ge=0)
    token_requests_per_minute: Count = 60
    limiter_keys: Count = 200_000
    sockets_per_token: Count = 200
    sockets_per_address: Count = 100
    active_sessions_per_device: Count = 10
    ingest_body_bytes: Count = 1_048_576
    bulk_body_bytes: Count = 1_048_576
    body_bytes: Count = 65_536
    public_frame_bytes: Count = 4_096
    tenant_frame_bytes: Count = 65_536
    page_size: Count = 50
    page_size_max: Count = 500
    track_points: Count = 5_000
    share_hours: Seconds = 168
    update_interval_seconds: Count = 300
    recipient_name_length: Count = 200
    notes_length: Count = 2_000
    order_id_length: Count = 200
    label_length: Count = 300
    future_reject_seconds: Seconds = 86_400
    authenticate_seconds: Seconds = 10
    slow_reader_seconds: Seconds = 10
    token_bytes: Count = 8_192


class SharingSettings(Section):
    allow_unknown_devices: bool = False
    recheck_seconds: Seconds = 30
    idempotency_hours: Seconds = 24
    keep_ended_days: Seconds = 30


class TripSettings(Section):
    gap_seconds: Seconds = 300
    standstill_seconds: Seconds = 300
    standstill_speed: float = Field(default=1.0, ge=0)


class StreamSettings(Section):
    lifetime_seconds: Seconds = 3_600
    heartbeat_seconds: Seconds = 30
    min_interval_seconds: Seconds = 1


class MapSettings(Section):
    basemap: str = Field(default="builtin", pattern=r"^(builtin|openfreemap|pmtiles:.+|(style|raster):https?://.+)$")
    attribution: str = Field(default="", max_length=500)


class Brand(Section):
    name: str = Field(default="Waybridge", min_length=1, max_length=100)
    color: str = Field(default="#1a5cff", pattern=r"^#[0-9A-Fa-f]{6}$")


class InstanceBrand(Section):
    """An instance's own name and colour; what is None is taken from `[brand]`."""

    name: str | None = Field(default=None, min_length=1, max_length=100)
    color: str | None = Field(default=None, pattern=r"^#[0-9A-Fa-f]{6}$")


class Instance(Section):
    id: Identifier
    name: str | None = Field(default=None, max_length=200)
    embed_origins: Origins = ()
    brand: InstanceBrand = InstanceBrand()


class Connection(Section):
    """`settings` are the provider's own; its model validates them when the connection is made."""

    id: Identifier
    provider: str = Field(min_length=1, max_length=64)
    instance_id: Identifier = DEFAULT_INSTANCE
    settings: dict[str, Any] = Field(default_factory=dict, repr=False)

    @model_validator(mode="after")
    def _native(self) -> Connection:
        if self.id == NATIVE and self.provider != NATIVE:
            raise ValueError(f"the id {NATIVE} belongs to the provider {NATIVE}; choose another id")
        return self


class PluginTables(Section):
    """`disabled` blocks plugins by name; every `[plugins.NAME]` table belongs to the plugin NAME."""

    model_config = ConfigDict(extra="allow")
    disabled: Words = ()

    @property
    def tables(self) -> Mapping[str, Mapping[str, Any]]:
        return self.model_extra or {}

    @model_validator(mode="after")
    def _tables_only(self) -> PluginTables:
        for name, value in self.tables.items():
            if not isinstance(value, dict):
                raise ValueError(f"{name}: is no table; `disabled` and tables [plugins.NAME] may stand here")  # noqa: TRY004
        return self

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return [("disabled", self.disabled), ("tables", sorted(self.tables))]
