"""The files in config/ say what the gateway understands: settings, options, metrics."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prometheus_client import generate_latest
from running import running_gateway

from waybridge.cli.entry import app
from waybridge.metrics import REGISTRY
from waybridge.plugins import Plugins
from waybridge.settings import Settings, load

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
SUFFIX = re.compile(r"_(bucket|sum|count|total)$")


def understood(words: list[str]) -> None:
    """Parses a command line of ours as far as it goes without running it."""
    command: Any = typer.main.get_command(app)
    assert words[0] in command.commands, words
    command.commands[words[0]].make_context(words[0], words[1:], resilient_parsing=False)


def settings_of(environ: dict[str, str], folder: Path) -> Settings:
    filled = {name: re.sub(r"\$\{\w+(?::-([^}]*)|:\?[^}]*)?\}", r"\1", text) for name, text in environ.items()}
    return load(None, cwd=folder, environ={**filled, "WAYBRIDGE_SECRET_KEYS": json.dumps(["k" * 40])})


def test_the_compose_file_starts_two_nodes_with_settings_that_exist(tmp_path: Path) -> None:
    services = yaml.safe_load((CONFIG / "compose.yaml").read_text())["services"]
    nodes = {name: service for name, service in services.items() if "build" in service}

    assert len(nodes) == 2
    for node in nodes.values():
        settings = settings_of(node["environment"], tmp_path)
        assert settings.bus_url == "nats://nats:4222"
        assert settings.database_url.startswith("postgresql+asyncpg://")
        assert re.search(r"@(\w+)/", settings.database_url)[1] in services
        assert set(node["depends_on"]) <= set(services)
        assert (CONFIG / node["build"]["context"] / node["build"]["dockerfile"]).is_file()
    proxy = services["proxy"]
    for volume in proxy["volumes"]:
        assert (CONFIG / volume.partition(":")[0]).is_file()
    asked = re.findall(r"server ([\w-]+):(\d+)", (CONFIG / "nginx.conf").read_text())
    assert {name for name, _ in asked} == set(nodes)
    assert {int(port) for _, port in asked} == {settings.server.port}


def test_the_image_and_the_unit_start_the_command_with_options_that_exist() -> None:
    image = (CONFIG / "Dockerfile").read_text()
    entry, words = (json.loads(re.search(rf"^{name} (.+)$", image, re.MULTILINE)[1]) for name in ("ENTRYPOINT", "CMD"))
    assert entry == ["waybridge"]
    understood(words)
    extras = re.search(r"\.whl\)\[([\w,]+)\]", image)[1].split(",")
    assert set(extras) <= set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])

    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # systemd's keys have capitals
    unit.read(CONFIG / "waybridge.service")
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    command, *words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(command).name == "waybridge"
    understood(words)
    assert float(unit["Service"]["TimeoutStopSec"]) > 10  # the gateway's own limit


def test_the_example_configuration_is_taken_as_it_stands(tmp_path: Path) -> None:
    settings = load(CONFIG / "waybridge.example.toml", cwd=tmp_path, environ={})

    assert settings.connections
    providers = Plugins().providers
    for each in settings.connections:
        providers[each.provider].Settings.model_validate(each.settings)


async def test_the_dashboard_asks_for_metrics_and_labels_that_there_are(tmp_path: Path) -> None:
    dashboard = json.loads((CONFIG / "grafana-dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(asked) >= 10
    async with running_gateway(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", tmp_path):
        page = generate_latest(REGISTRY).decode()
    there = set(re.findall(r"^# TYPE (\w+) ", page, re.MULTILINE))

    for expression in [*asked, *re.findall(r"`(waybridge_\w+)", (ROOT / "docs" / "operations.md").read_text())]:
        for name in re.findall(r"\bwaybridge_\w+", expression):
            assert {name, SUFFIX.sub("", name)} & there, name
            labels = {word for group in re.findall(r"by \(([\w, ]+)\)", expression) for word in group.split(", ")}
            labels |= set(re.findall(r"[{,]\s*(\w+)\s*=~?", expression))
            collector = REGISTRY._names_to_collectors[name]
            assert labels - {"le"} <= set(collector._labelnames), expression


@pytest.mark.parametrize("name", sorted(each.name for each in CONFIG.iterdir()))
def test_every_file_of_config_is_told_of(name: str) -> None:
    told = "".join((ROOT / page).read_text() for page in ("docs/operations.md", "config/compose.yaml", "README.md"))
    assert name in told
