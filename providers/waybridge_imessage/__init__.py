"""iMessage location sharing through Linq's partner API v3: consent by webhook, positions by polling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waybridge import Provider, hookimpl
from waybridge_imessage.provider import IMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

__all__ = ["IMessage", "waybridge_commands", "waybridge_providers"]


@hookimpl
def waybridge_providers() -> Sequence[type[Provider[Any]]]:
    return [IMessage]


@hookimpl
def waybridge_commands(simulate: typer.Typer) -> None:
    from waybridge_imessage.simulator_command import command  # noqa: PLC0415 - only where it is asked for

    simulate.command("linq")(command)
