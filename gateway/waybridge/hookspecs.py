"""Every hook. Hooks register objects when the gateway starts; the objects do the work later.

Mark your functions with `from waybridge import hookimpl`; name them exactly as here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    import typer
    from aiohttp import web

    from waybridge.facade import EtaEstimator, Filter, Gateway, PluginSettings, Sink
    from waybridge.provider import Provider

    _ = AsyncIterator

hookspec = pluggy.HookspecMarker("waybridge")
hookimpl = pluggy.HookimplMarker("waybridge")


@hookspec
def waybridge_providers() -> Sequence[type[Provider[object]]]:  # type: ignore[type-var,empty-body]
    """Provider classes. Called once at start, before connections are made."""


@hookspec
def waybridge_filters(settings: PluginSettings) -> Sequence[Filter]:  # type: ignore[empty-body]
    """Filters that may refuse positions. Called once at start; each filter sees every position in order."""


@hookspec(firstresult=True)
def waybridge_eta(settings: PluginSettings) -> EtaEstimator | None:
    """The estimator of arrival times. Called once at start; the first that is not None is used."""


@hookspec
def waybridge_sinks(settings: PluginSettings) -> Sequence[Sink]:  # type: ignore[empty-body]
    """Sinks that are handed what the gateway accepted. Called once at start."""


@hookspec
def waybridge_lifespan(gateway: Gateway) -> AbstractAsyncContextManager[None]:  # type: ignore[empty-body]
    """An async context entered when the gateway has started and left before it stops."""


@hookspec
def waybridge_routes(gateway: Gateway) -> Sequence[web.AbstractRouteDef]:  # type: ignore[empty-body]
    """HTTP routes, mounted at the root of the site. Called once at start."""


@hookspec
def waybridge_commands(cli: typer.Typer, simulate: typer.Typer) -> None:
    """Adds commands to `waybridge`, or vendors' stand-ins to `waybridge simulate`.

    Called when the command line meets a command that is not built in.
    """
