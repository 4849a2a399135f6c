"""Every hook, command, option, route and plugin setting has its place in the documentation, and the examples work."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
import pytest
import typer
from pydantic import BaseModel
from running import running_gateway

import waybridge
from waybridge import hookspecs
from waybridge.app import Endpoints
from waybridge.cli.entry import with_plugins
from waybridge.facade import Gateway
from waybridge_accuracy.doubt import AccuracySettings
from waybridge_eta_osrm.route import OsrmSettings
from waybridge_mqtt.settings import MqttSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs"
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("waybridge_")}


def sections(page: str) -> dict[str, str]:
    """A page's second-level headings with the text under each."""
    parts = re.split(r"^## (.+)$", (DOCS / page).read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> dict[str, str]:
    """The first column's code, with the second column, of every row."""
    return {
        name: default
        for names, default in re.findall(r"^\| (`[^|]+`) \| ([^|]*) \|", text, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", names)
    }


def examples(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


# -- hooks


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_its_signature_its_moment_and_an_example(name: str) -> None:
    heading = next((each for each in sections("plugins.md") if each.startswith(f"`{name}(")), None)
    assert heading, f"docs/plugins.md has no paragraph on {name}"
    parameters = ", ".join(inspect.signature(HOOKS[name]).parameters)
    text = sections("plugins.md")[heading]

    assert heading.startswith(f"`{name}({parameters}) -> ")
    assert "**When:**" in text
    assert any(f"def {name}(" in example for example in examples(text))


def test_no_paragraph_tells_of_a_hook_that_is_none() -> None:
    told = {match[1] for match in (re.match(r"`(waybridge_\w+)\(", each) for each in sections("plugins.md")) if match}

    assert told == set(HOOKS)


@pytest.mark.parametrize("name", HOOKS)
def test_the_example_of_a_hook_is_a_plugin(name: str) -> None:
    text = next(text for heading, text in sections("plugins.md").items() if heading.startswith(f"`{name}("))
    (example,) = examples(text)
    module: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, f"docs/plugins.md {name}", "exec"), module)  # the page's own text
    manager = pluggy.PluginManager("waybridge")
    manager.add_hookspecs(hookspecs)

    manager.register(type("Plugin", (), {name: staticmethod(module[name])}), "example")
    manager.check_pending()

    assert [each.name for each in manager.get_hookcallers(manager.get_plugin("example")) or ()] == [name]


def test_examples_import_what_authors_may_import() -> None:
    for example in examples((DOCS / "plugins.md").read_text()):
        for names in re.findall(r"^from waybridge import (.+)$", example, re.MULTILINE):
            assert set(names.split(", ")) <= set(waybridge.__all__), names
        assert not re.search(r"^(from|import) waybridge\.", example, re.MULTILINE)


def test_everything_a_plugin_may_ask_the_gateway_has_its_row() -> None:
    known = {name for name in vars(Gateway) if not name.startswith("_")} | set(inspect.get_annotations(Gateway))
    told = {name.partition("(")[0] for name in rows(sections("plugins.md")["What a plugin may ask of the gateway"])}

    assert known == told


@pytest.mark.parametrize(
    ("page", "model"),
    [("accuracy", AccuracySettings), ("mqtt", MqttSettings), ("eta_osrm", OsrmSettings)],
)
def test_every_setting_of_a_plugin_has_its_row_and_default(page: str, model: type[BaseModel]) -> None:
    told = rows((DOCS / "plugins" / f"{page}.md").read_text())

    assert set(told) == set(model.model_fields)
    for name, field in model.model_fields.items():
        if told[name] == "required":
            assert field.is_required()
        elif told[name] == "none":
            assert field.default is None
        else:
            assert tomllib.loads(f"x = {told[name].strip('`')}")["x"] == field.default


# -- the command line


def commands(command: Any, path: str = "waybridge") -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, below in command.commands.items():
        yield from commands(below, f"{path} {name}")


COMMANDS = dict(commands(typer.main.get_command(with_plugins(["simulate"]))))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_has_its_place_and_default(path: str) -> None:
    text = sections("cli.md").get(f"`{path}`")
    assert text, f"docs/cli.md has no paragraph on {path}"
    told = rows(text)
    wanted: dict[str, Any] = {}
    for parameter in COMMANDS[path].params:
        names = [*parameter.opts, *parameter.secondary_opts]
        shown = [parameter.name.upper()] if parameter.param_type_name == "argument" else names
        for name in shown:
            wanted[name] = parameter

    assert set(told) == set(wanted)
    for name, parameter in wanted.items():
        if parameter.required:
            assert told[name] == "required", name
        elif parameter.default in (None, ""):
            assert told[name] == "none", name
        elif parameter.default is False and told[name] == "off":
            continue
        else:
            default = "true" if parameter.default is True else parameter.default
            assert told[name] == f"`{default}`", name


def test_no_paragraph_tells_of_a_command_that_is_none() -> None:
    assert {heading.strip("`") for heading in sections("cli.md")} == set(COMMANDS)


def test_every_command_says_what_it_does() -> None:
    for path, command in COMMANDS.items():
        assert command.help, path


# -- the API


async def test_every_operation_of_the_api_has_its_row_and_scope(tmp_path: Path) -> None:
    told = rows(sections("api.md")["Every operation"])
    async with running_gateway(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", tmp_path) as gateway:
        known = {f"{each.method} {each.path}": each.scope or "none" for each in Endpoints(gateway.house).operations()}

    assert told == known
