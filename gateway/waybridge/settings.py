"""Everything that an operator can set: `waybridge.toml` and `WAYBRIDGE_*` make one frozen `Settings`.

Every key has a default, so that no configuration at all works; docs/configuration.md says what each one does.
Strict: a number in quotes, an unknown key and a value out of its range are errors in a sentence.
"""

from __future__ import annotations

import ipaddress
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from waybridge.configuration import SHORTEST_SECRET, sentences
from waybridge.errors import ConfigurationError
from waybridge.settings_sources import Places, reading, sources_of
from waybridge.settings_tables import (
    DEFAULT_INSTANCE,
    NATIVE,
    AuthSettings,
    Brand,
    Connection,
    HttpBase,
    Instance,
    InstanceBrand,
    LimitSettings,
    MapSettings,
    Network,
    PluginTables,
    ServerSettings,
    SharingSettings,
    StoreSettings,
    StreamSettings,
    TripSettings,
    WebhookSettings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AuthSettings",
    "Brand",
    "Connection",
    "Instance",
    "InstanceBrand",
    "LimitSettings",
    "MapSettings",
    "Network",
    "PluginTables",
    "ServerSettings",
    "Settings",
    "SharingSettings",
    "StoreSettings",
    "StreamSettings",
    "TripSettings",
    "WebhookSettings",
    "load",
]
FILE = "waybridge.toml"
KEY_FILE = "waybridge.key"
HIGHEST_PORT = 65_535


class Settings(BaseSettings):
    """The whole configuration. Made by `load`, or of its arguments alone by `Settings(secret_keys=[...])`."""

    model_config = SettingsConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        allow_inf_nan=False,
        validate_default=True,
        env_prefix="WAYBRIDGE_",
        env_nested_delimiter="__",
    )

    public_base_url: HttpBase = ""
    share_page_base_url: HttpBase = ""
    database_url: str = Field(default="sqlite+aiosqlite:///waybridge.db", repr=False)
    bus_url: str = Field(default="memory://", repr=False)
    secret_keys: Annotated[tuple[SecretStr, ...], Field(strict=False, min_length=1)]
    history_days: float = Field(default=7, ge=0)
    metrics_listen: str = "127.0.0.1:9464"
    migrate_on_start: bool = True
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    api_prefixes: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("/api/v1", "/realtime/api/v1")
    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    webhooks: WebhookSettings = WebhookSettings()
    store: StoreSettings = StoreSettings()
    limits: LimitSettings = LimitSettings()
    sharing: SharingSettings = SharingSettings()
    trips: TripSettings = TripSettings()
    streams: StreamSettings = StreamSettings()
    map: MapSettings = MapSettings()
    brand: Brand = Brand()
    instances: Annotated[tuple[Instance, ...], Field(strict=False)] = ()
    connections: Annotated[tuple[Connection, ...], Field(strict=False)] = ()
    plugins: PluginTables = PluginTables()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over the environment over the file over the kept secret; see settings_sources.py."""
        del env_settings, dotenv_settings, file_secret_settings  # they read the process's own environment and folder
        return init_settings, *sources_of(settings_cls)

    @field_validator("secret_keys")
    @classmethod
    def _long_enough(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, key in enumerate(keys):
            if len(key.get_secret_value().encode("utf-8", "surrogatepass")) < SHORTEST_SECRET:
                raise ValueError(f"key {number} is shorter than {SHORTEST_SECRET} bytes")
        return keys

    @field_validator("database_url")
    @classmethod
    def _driver_named(cls, url: str) -> str:
        drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
        scheme, colon, rest = url.partition("://")
        scheme = drivers.get(scheme, scheme)
        if not colon or scheme not in drivers.values():
            raise ValueError("must begin with sqlite+aiosqlite:///FILE or postgresql+asyncpg://")
        return f"{scheme}://{rest}"

    @field_validator("bus_url")
    @classmethod
    def _bus_known(cls, url: str) -> str:
        if url != "memory://" and not re.match(r"(nats|tls|ws|wss)://.", url):
            raise ValueError("must be memory:// or nats://HOST:PORT")
        return url

    @field_validator("metrics_listen")
    @classmethod
    def _host_and_port(cls, text: str) -> str:
        host, _, port = text.rpartition(":")
        if text and not (host and port.isascii() and port.isdecimal() and int(port) <= HIGHEST_PORT):
            raise ValueError('must be HOST:PORT, or "" for none')
        return text

    @field_validator("api_prefixes")
    @classmethod
    def _paths(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        if any(not re.fullmatch(r"(/[A-Za-z0-9_.~-]+)+", prefix) for prefix in prefixes):
            raise ValueError("must be paths like /api/v1")
        return prefixes

    @field_validator("instances")
    @classmethod
    def _one_of_each(cls, instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
        seen: set[str] = set()
        for instance in instances:
            if instance.id in seen:
                raise ValueError(f"two instances have the id {instance.id}")
            seen.add(instance.id)
        return instances or (Instance(id=DEFAULT_INSTANCE),)

    @model_validator(mode="after")
    def _connections_fit(self) -> Settings:
        known = {instance.id for instance in self.instances}
        seen: set[tuple[str, str]] = set()
        for connection in self.connections:
            if connection.instance_id not in known:
                raise ValueError(
                    f"connection {connection.id}: there is no instance {connection.instance_id}; "
                    f"add it as [[instances]], or use one of {', '.join(sorted(known))}"
                )
            key = (connection.id, connection.instance_id if connection.id == NATIVE else "")
            if key in seen:
                raise ValueError(f"two connections have the id {connection.id}")
            seen.add(key)
        return self

    @property
    def base_url(self) -> str:
        """Where clients reach this gateway: `public_base_url`, else HOST:PORT (loopback for a wildcard host)."""
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}.get(self.server.host, self.server.host)  # noqa: S104
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return self.public_base_url or f"http://{host}:{self.server.port}"

    @property
    def share_base_url(self) -> str:
        """Where the pages of share links live: `share_page_base_url`, else `base_url`."""
        return self.share_page_base_url or self.base_url

    @cached_property
    def secrets(self) -> tuple[bytes, ...]:
        """The secret keys as bytes, the first first."""
        return tuple(key.get_secret_value().encode("utf-8", "surrogatepass") for key in self.secret_keys)

    @cached_property
    def trusted_networks(self) -> tuple[Network, ...]:
        return tuple(ipaddress.ip_network(text) for text in self.server.trusted_proxies)

    @cached_property
    def allowed_networks(self) -> tuple[Network, ...]:
        """Private networks that webhooks and API-made connections may reach all the same."""
        return tuple(ipaddress.ip_network(text) for text in self.webhooks.allow_subnets)

    def on(self, host: str, port: int) -> Settings:
        """The same settings on the address that the server really got (port 0 asks for any)."""
        return self.model_copy(update={"server": self.server.model_copy(update={"host": host, "port": port})})


def load(
    config: Path | None = None,
    *,
    cwd: Path,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of a folder: its file, under `WAYBRIDGE_*`, under `overrides` (the command line's).

    The file is `waybridge.toml` there, or `config`, or what WAYBRIDGE_CONFIG names; overrides have its shape.
    Without `secret_keys` the secret is the one in `cwd/waybridge.key`, made when it is not there. A relative
    SQLite file is one in `cwd`. Raises ConfigurationError, one line, naming keys and never their values.
    """
    if config is None and environ.get("WAYBRIDGE_CONFIG"):
        config = Path(environ["WAYBRIDGE_CONFIG"])
    file = cwd / (config or FILE)
    places = Places(file if config is not None or file.exists() else None, environ, cwd / KEY_FILE)
    try:
        with reading(places):
            settings = Settings(**(overrides or {}))
    except ValidationError as error:
        raise ConfigurationError(sentences(error, Settings)) from None
    return settings.model_copy(update={"database_url": _in_folder(settings.database_url, cwd)})


def _in_folder(url: str, cwd: Path) -> str:
    scheme, _, rest = url.partition(":///")
    if scheme != "sqlite+aiosqlite" or not rest or rest.startswith(("/", ":", "file:")):
        return url
    return f"{scheme}:///{cwd.absolute() / rest}"
