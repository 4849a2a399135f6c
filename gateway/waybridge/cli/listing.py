"""`waybridge plugins`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from waybridge.plugins import Plugins

if TYPE_CHECKING:
    from waybridge.settings import Settings


def plugins(settings: Settings) -> int:
    """Prints a table of plugins; 1 when one of them has a problem that nobody asked for."""
    host = Plugins(disabled=settings.plugins.disabled)
    table = Table("plugin", "version", "origin", "does", box=None, header_style="bold")
    broken = False
    for each in host.found:
        disabled = each.name in settings.plugins.disabled
        broken = broken or (each.problem is not None and not disabled)
        does = each.problem or ", ".join(hook.removeprefix("waybridge_") for hook in each.hooks)
        table.add_row(each.name, each.version, each.origin, does)
    console = Console(width=160, soft_wrap=True)
    console.print(table)
    console.print("Providers:", ", ".join(sorted(host.providers)))
    return 1 if broken else 0
