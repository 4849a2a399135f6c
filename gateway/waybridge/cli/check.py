"""`waybridge check`: what is wrong, a sentence each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from waybridge.cli.common import load_settings
from waybridge.cli.database import opened
from waybridge.configuration import validated
from waybridge.egress import make_session
from waybridge.errors import ConfigurationError
from waybridge.plugins import Plugins
from waybridge.provider import JSON, ProviderContext
from waybridge.runtime import SystemClock, secrets_of
from waybridge.store.connections import ConnectionRow, every_connection
from waybridge.store.engine import Store
from waybridge.store.migrate import current
from waybridge.vault import Vault, VaultError

if TYPE_CHECKING:
    from waybridge.egress import Network


class NoState:
    """A check keeps nothing."""

    async def get(self, key: str) -> None:
        del key

    async def items(self, prefix: str = "") -> dict[str, JSON]:
        del prefix
        return {}

    async def put(self, key: str, value: JSON) -> None:
        del key, value


async def check(config: Path | None) -> int:
    """Checks configuration, plugins, database and every connection's credentials; 1 if anything is wrong."""
    settings = load_settings(config)
    problems: list[str] = []
    kept: list[ConnectionRow] = []
    host = Plugins(disabled=settings.plugins.disabled, settings=settings.plugins.tables)
    problems += [
        f"plugin {each.name}: {each.problem}"
        for each in host.found
        if each.problem and each.name not in settings.plugins.disabled
    ]
    problems += await _plugins(host)
    try:
        async with opened(settings) as store:
            revision, head = await current(store)
            if revision not in (None, head):
                problems.append(f"database: its schema is {revision}, not {head}; run waybridge migrate")
            elif revision is not None:
                kept = await _kept(store, Vault(settings.secrets))
    except ConfigurationError as error:
        problems.append(f"database: {error}")
    guarded = not settings.webhooks.allow_private_targets
    answers = await asyncio.gather(
        *(_connection(host, each.provider, each.instance_id, each.id, each.settings) for each in settings.connections),
        *(
            _connection(
                host, each.provider, each.instance_id, each.connection_id, each.settings or {},
                guarded=guarded, allow=settings.allowed_networks,
            )
            for each in kept
        ),
    )  # fmt: skip
    problems += [answer for answer in answers if answer]
    for problem in problems:
        typer.echo(problem, err=True)
    if not problems:
        typer.echo(f"All fine: {len(settings.connections) + len(kept)} connections, {len(host.providers)} providers.")
    return 1 if problems else 0


async def _kept(store: Store, vault: Vault) -> list[ConnectionRow]:
    """The connections that were made through the API."""
    try:
        async with store.read() as conn:
            return [each for each in await every_connection(conn, vault) if each.origin == "api"]
    except VaultError as error:
        raise ConfigurationError(f"stored credentials do not open: {error}") from error


async def _plugins(host: Plugins) -> list[str]:
    """Whether the plugins take their settings."""
    try:
        host.filters()
        if (estimator := host.eta()) is not None:
            await estimator.close()
        for sink in host.sinks():
            await sink.close()
    except ConfigurationError as error:
        return [str(error)]
    return []


async def _connection(
    host: Plugins,
    kind: str,
    instance_id: str,
    connection_id: str,
    given: Mapping[str, object],
    *,
    guarded: bool = False,
    allow: Sequence[Network] = (),
) -> str | None:
    """What is wrong with a connection; `guarded` where its addresses came through the API."""
    provider_class = host.providers.get(kind)
    if provider_class is None:
        return f"connection {connection_id}: there is no provider {kind}; known: {', '.join(sorted(host.providers))}"
    try:
        settings = validated(provider_class.Settings, given)
    except ConfigurationError as error:
        return f"connection {connection_id}: {error}"
    async with make_session(guarded=guarded, allow=allow) as session:
        context = ProviderContext(
            instance_id=instance_id,
            connection_id=connection_id,
            session=session,
            state=NoState(),
            clock=SystemClock(),
            count=lambda _name, _amount=1: None,
            log=_Silent(),
        )
        provider = provider_class(settings, context)
        try:
            async with asyncio.timeout(20):
                await provider.check()
        except Exception as error:  # noqa: BLE001 - whatever a provider says is shown to the operator
            text = " ".join(str(error).split()) or type(error).__name__
            for secret in secrets_of(settings):
                text = text.replace(secret, "***")
            return f"connection {connection_id}: {text}"
        finally:
            await provider.close()
    return None


class _Silent:
    def __getattr__(self, name: str) -> object:
        return lambda *_args, **_fields: None
