"""Strangers' plugins that go wrong: each is said by name and stops nothing else (contract section 13)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from aiohttp import web
from running import running_gateway

from waybridge import Provider, hookimpl, plugins
from waybridge.plugins import Plugins


@dataclass(frozen=True)
class Point:
    """An entry point as importlib finds it; `load` gives the plugin or raises."""

    name: str
    load: Callable[[], Any]
    distribution: str = "stranger"
    value: str = "a_module"

    @property
    def dist(self) -> Any:
        return SimpleNamespace(name=self.distribution, version="1.0")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs plugins beside those that come along: name to object, or to an exception that importing raises."""
    own = list(plugins.entry_points(group=plugins.GROUP))

    def install(*points: Point, **found: Any) -> None:
        def loader(what: Any) -> Callable[[], Any]:
            def load() -> Any:
                if isinstance(what, Exception):
                    raise what
                return what

            return load

        more = [Point(name, loader(what)) for name, what in found.items()]
        monkeypatch.setattr(plugins, "entry_points", lambda **_: [*more, *points, *own])

    return install


class Raising:
    """Fails in every hook that it has."""

    @hookimpl
    def waybridge_providers(self) -> Any:
        raise RuntimeError("providers")

    @hookimpl
    def waybridge_filters(self, settings: Any) -> Any:
        raise RuntimeError("filters")

    @hookimpl
    def waybridge_lifespan(self, gateway: Any) -> Any:
        raise RuntimeError("lifespan")

    @hookimpl
    def waybridge_routes(self, gateway: Any) -> Any:
        raise RuntimeError("routes")

    @hookimpl
    def waybridge_commands(self, cli: Any, simulate: Any) -> Any:
        raise RuntimeError("commands")


class Late:
    """Fails when its objects are put to work: a context that cannot be entered, a route that is none."""

    @hookimpl
    @contextlib.asynccontextmanager
    async def waybridge_lifespan(self, gateway: Any) -> AsyncIterator[None]:
        raise RuntimeError("entering")
        yield

    @hookimpl
    def waybridge_routes(self, gateway: Any) -> Any:
        return ["/not/a/route"]


class Leaving:
    """Fails when it is left."""

    def __init__(self) -> None:
        self.entered = False

    @hookimpl
    @contextlib.asynccontextmanager
    async def waybridge_lifespan(self, gateway: Any) -> AsyncIterator[None]:
        self.entered = True
        yield
        raise RuntimeError("leaving")


class Good:
    """A command and a route."""

    @hookimpl
    def waybridge_routes(self, gateway: Any) -> Any:
        async def hello(_: web.Request) -> web.Response:
            return web.Response(text="hello")

        return [web.get("/hello", hello)]

    @hookimpl
    def waybridge_commands(self, cli: typer.Typer) -> None:
        @cli.command("hello")
        def hello() -> None:
            """Says it."""


async def test_a_plugin_that_raises_disturbs_no_other(installed: Any, tmp_path: Any) -> None:
    leaving = Leaving()
    installed(raising=Raising(), late=Late(), leaving=leaving, good=Good())
    async with running_gateway(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", tmp_path) as gateway:
        assert leaving.entered
        async with gateway.http.get(f"{gateway.url}/hello") as answer:
            assert await answer.text() == "hello"
        async with gateway.http.get(f"{gateway.url}/health") as answer:
            assert answer.status == 200
    cli = typer.Typer()
    Plugins().commands(cli, typer.Typer())
    assert [command.name for command in cli.registered_commands if command.name == "hello"] == ["hello"]


def test_what_cannot_be_used_is_said_by_name(installed: Any) -> None:
    class Unmarked:
        def waybridge_routes(self, gateway: Any) -> Any:
            return []

    class Misspelt:
        @hookimpl
        def waybridge_provider(self) -> Any:
            return []

    installed(broken=ImportError("no module named ships"), unmarked=Unmarked(), misspelt=Misspelt(), good=Good())
    problems = {each.name: each.problem for each in Plugins().found if each.problem}
    assert problems.keys() == {"broken", "unmarked", "misspelt"}
    assert "no module named ships" in str(problems["broken"])
    assert problems["unmarked"] == "waybridge_routes is not marked with @hookimpl"
    assert problems["misspelt"] == "waybridge_provider is no hook; did you mean waybridge_providers?"


def test_nobody_takes_the_place_of_what_comes_along(installed: Any) -> None:
    class Imposter(Provider[Any]):
        kind = "native"

        async def check(self) -> None: ...

    class First:
        @hookimpl
        def waybridge_providers(self) -> Any:
            return [Imposter]

    installed(Point("native", First, "aaa-ships"), aaa=First())
    host = Plugins()
    refused = next(each for each in host.found if each.origin.startswith("aaa-ships"))
    assert "second plugin under the name 'native'" in str(refused.problem)
    assert host.providers["native"] is not Imposter
