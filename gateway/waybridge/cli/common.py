"""What commands share: the configuration of the working folder, and running until a signal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from waybridge.settings import Settings

T = TypeVar("T")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="The configuration file; waybridge.toml here by default.")
]


def load_settings(config: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of this folder. Raises ConfigurationError."""
    from waybridge.settings import load  # noqa: PLC0415 - keeps `--help` quick

    return load(config, cwd=Path.cwd(), environ=os.environ, overrides=overrides)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine, on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        runner = asyncio.run
    else:
        runner = uvloop.run
    return runner(work)  # outside the handler: no traceback of the work names the missing extra
