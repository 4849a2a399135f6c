"""Finds plugins through the entry-point group `waybridge` and calls their hooks, each by a typed method."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import pluggy
import structlog
from pydantic import ValidationError

from waybridge import hookspecs
from waybridge.configuration import dotted
from waybridge.errors import ConfigurationError

if TYPE_CHECKING:
    import typer
    from aiohttp import web

    from waybridge.facade import EtaEstimator, Filter, Gateway, PluginSettings, Sink
    from waybridge.provider import Provider

log = structlog.get_logger("waybridge.plugins")
GROUP = "waybridge"


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin: its name, its distribution's version and name, and what went wrong with it, if anything."""

    name: str
    version: str
    origin: str
    hooks: tuple[str, ...]
    problem: str | None = None


class Plugins:
    """All plugins of this installation. One that cannot be used is said by name and stops nothing else."""

    def __init__(self, *, disabled: Sequence[str] = (), settings: PluginSettings | None = None) -> None:
        self._manager = pluggy.PluginManager("waybridge")
        self._manager.add_hookspecs(hookspecs)
        self._settings: PluginSettings = settings or {}
        self.found: list[Found] = []
        for name in disabled:
            self._manager.set_blocked(name)
        # What comes along is first, so that no stranger's plugin or provider takes the place of a built-in one.
        points = sorted(entry_points(group=GROUP), key=lambda point: (not _own(point), point.name, _origin(point)))
        taken: set[str] = set()
        for point in points:
            self._add(point, taken)
        self.found.sort(key=lambda each: each.name)
        unknown = set(disabled) - {each.name for each in self.found}
        if unknown:
            names = ", ".join(sorted(unknown))
            raise ConfigurationError(f"plugins.disabled names plugins that are not installed: {names}")
        self._providers = self._collect_providers()

    @property
    def providers(self) -> dict[str, type[Provider[Any]]]:
        """Provider classes by kind."""
        return self._providers

    def filters(self) -> list[Filter]:
        """Raises ConfigurationError where a plugin refuses its settings."""
        return _flat(self._each("waybridge_filters"))

    def eta(self) -> EtaEstimator | None:
        """Raises ConfigurationError where a plugin refuses its settings."""
        return next((answer for answer in self._each("waybridge_eta") if answer is not None), None)

    def sinks(self) -> list[Sink]:
        """Raises ConfigurationError where a plugin refuses its settings."""
        return _flat(self._each("waybridge_sinks"))

    def lifespans(self, gateway: Gateway) -> list[AbstractAsyncContextManager[None]]:
        """What to enter and to leave; one that fails to be is said, and is then nothing."""
        return [_unharmful(name, context) for name, context in self._named("waybridge_lifespan", gateway=gateway)]

    def routes(self, gateway: Gateway) -> list[web.AbstractRouteDef]:
        """Routes that go together. A plugin whose routes cannot be mounted is said and left out."""
        from aiohttp import web  # noqa: PLC0415 - keeps the command line quick

        trial, found = web.UrlDispatcher(), list[Any]()
        for name, routes in self._named("waybridge_routes", gateway=gateway):
            try:
                offered = list(routes or ())
                trial.add_routes(offered)
            except Exception as error:  # noqa: BLE001 - a stranger's objects
                _failed(name, "waybridge_routes", error)
            else:
                found += offered
        return found

    def commands(self, cli: typer.Typer, simulate: typer.Typer) -> None:
        for _ in self._named("waybridge_commands", cli=cli, simulate=simulate):
            pass

    def _each(self, hook: str) -> Iterator[Any]:
        """Every plugin's answer to a hook that is handed the settings. Raises ConfigurationError."""
        for _, answer in self._named(hook, settings=self._settings):
            yield answer

    def _named(self, hook: str, **given: Any) -> Iterator[tuple[str, Any]]:
        """(plugin, its answer to a hook that is handed what of `given` it names). One that fails is said and left out.

        Raises ConfigurationError where a plugin refuses its settings.
        """
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        for implementation in reversed(caller.get_hookimpls()):
            name = implementation.plugin_name
            try:
                answer = implementation.function(**{each: given[each] for each in implementation.argnames})
            except ValidationError as error:
                said = "; ".join(
                    f"{dotted(('plugins', name, *fault['loc']))}: {fault['msg'].removeprefix('Value error, ')}"
                    for fault in error.errors(include_url=False, include_input=False, include_context=False)
                )
                raise ConfigurationError(said) from None
            except Exception as error:  # noqa: BLE001 - a stranger's function
                _failed(name, hook, error)
            else:
                yield name, answer

    # -- finding

    def _add(self, point: EntryPoint, taken: set[str]) -> None:
        origin, version = _origin(point), point.dist.version if point.dist is not None else "?"
        if self._manager.is_blocked(point.name):
            self.found.append(Found(point.name, version, origin, (), "disabled by plugins.disabled"))
            return
        if point.name in taken:
            self._refuse(point, f"a second plugin under the name {point.name!r}; this one is not used")
            return
        taken.add(point.name)
        try:
            plugin = point.load()
        except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything at import
            self._refuse(point, f"cannot be imported: {type(error).__name__}: {error}")
            return
        problem = _misspelt(plugin)
        try:
            self._manager.register(plugin, point.name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            if self._manager.has_plugin(point.name):
                self._manager.unregister(name=point.name)
            self._refuse(point, problem or str(error))
            return
        hooks = tuple(sorted(each.name for each in self._manager.get_hookcallers(plugin) or ()))
        self.found.append(Found(point.name, version, origin, hooks, problem))
        if problem:
            log.error("A plugin has a function that will never be called", plugin=point.name, problem=problem)

    def _refuse(self, point: EntryPoint, problem: str) -> None:
        version = point.dist.version if point.dist is not None else "?"
        self.found.append(Found(point.name, version, _origin(point), (), problem))
        log.error("A plugin is not used", plugin=point.name, origin=_origin(point), problem=problem)

    def _collect_providers(self) -> dict[str, type[Provider[Any]]]:
        from waybridge.provider import Provider  # noqa: PLC0415 - keeps the command line quick

        kinds: dict[str, type[Provider[Any]]] = {}
        for implementation in self._manager.hook.waybridge_providers.get_hookimpls():
            name = implementation.plugin_name
            try:
                answer: Any = implementation.function()
                offered = list(answer)
            except Exception as error:  # noqa: BLE001 - a stranger's function
                log.error("A plugin could not name its providers", plugin=name, problem=str(error))  # noqa: TRY400
                continue
            for provider in offered:
                kind = getattr(provider, "kind", None)
                if not (inspect.isclass(provider) and issubclass(provider, Provider) and isinstance(kind, str)):
                    log.error("A plugin offers a provider that is none", plugin=name, provider=repr(provider))
                elif kind in kinds:
                    log.error("A provider's kind is taken; this one is not used", plugin=name, kind=kind)
                else:
                    kinds[kind] = provider
        return kinds


def _misspelt(plugin: object) -> str | None:
    known = [name for name in vars(hookspecs) if name.startswith("waybridge_")]
    for name in dir(plugin):
        if not name.startswith("waybridge_") or not inspect.isroutine(getattr(plugin, name)):
            continue
        if getattr(getattr(plugin, name), "waybridge_impl", None) is None:
            return f"{name} is not marked with @hookimpl"
        if name not in known:
            near = get_close_matches(name, known, 1)
            return f"{name} is no hook" + (f"; did you mean {near[0]}?" if near else "")
    return None


@asynccontextmanager
async def _unharmful(name: str, context: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
    """A stranger's context: whatever it raises when it is entered or left is said, and goes no further."""
    entered = AsyncExitStack()
    try:
        await entered.enter_async_context(context)
    except Exception as error:  # noqa: BLE001 - a stranger's context
        _failed(name, "waybridge_lifespan", error)
    try:
        yield
    finally:
        try:
            await entered.aclose()
        except Exception as error:  # noqa: BLE001 - a stranger's context
            log.error("A plugin failed while it stopped", plugin=name, problem=repr(error))  # noqa: TRY400


def _failed(name: str, hook: str, error: Exception) -> None:
    log.error("A plugin failed at start; it is not used", plugin=name, hook=hook, problem=repr(error))


def _own(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == "waybridge"


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} ({point.value})" if point.dist is not None else point.value


def _flat(answers: Iterable[Sequence[Any] | None]) -> list[Any]:
    return [each for answer in answers for each in answer or ()]
