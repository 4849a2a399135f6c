"""The commands' names and options; each body is imported when it runs."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from waybridge.cli.common import ConfigFile, load_settings, run
from waybridge.version import __version__

app = typer.Typer(
    name="waybridge",
    help="A pluggable gateway that bridges location providers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

LogFormat = Annotated[Literal["text", "json"] | None, typer.Option("--log-format", help="text or json")]


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"waybridge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Says it.")] = False,  # noqa: FBT002
) -> None:
    del version


@app.command()
def serve(
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Where to listen; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="8080 by default; 0 takes any.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes on the same port.")] = 1,
    log_format: LogFormat = None,
) -> None:
    """Runs the gateway."""
    from waybridge.cli.serve import serve as body  # noqa: PLC0415

    overrides: dict[str, object] = {}
    if host is not None or port is not None:
        overrides["server"] = {
            **({"host": host} if host is not None else {}),
            **({"port": port} if port is not None else {}),
        }
    if log_format is not None:
        overrides["log_format"] = log_format
    sys.exit(body(config, overrides, workers))


@app.command()
def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="8080 by default; 0 takes any.")] = 8080,
    seconds: Annotated[float | None, typer.Option(min=1, help="Stops by itself after so long.")] = None,
) -> None:
    """The main job with a simulated fleet through every provider; needs no account and no network."""
    from waybridge.cli.demo import demo as body  # noqa: PLC0415

    sys.exit(run(body(port, seconds)))


@app.command()
def token(
    instance: Annotated[list[str], typer.Option("--instance", help="An instance; '*' is all. May be repeated.")],
    scope: Annotated[str, typer.Option(help="read, write, ingest, admin, with blanks between.")] = "read write ingest",
    device: Annotated[str | None, typer.Option(help="Binds the token to one device, for its ingest.")] = None,
    ttl: Annotated[str, typer.Option(help="How long it lives: 90s, 15m, 24h, 30d.")] = "24h",
    config: ConfigFile = None,
) -> None:
    """Prints a token on stdout, nothing else."""
    from waybridge.cli.tokens import token as body  # noqa: PLC0415

    typer.echo(body(load_settings(config), instance, scope, device, ttl))


@app.command()
def check(config: ConfigFile = None) -> None:
    """Reads the configuration and proves every connection's credentials; exit 1 if anything is wrong."""
    from waybridge.cli.check import check as body  # noqa: PLC0415

    sys.exit(run(body(config)))


@app.command()
def migrate(config: ConfigFile = None) -> None:
    """Brings the database to the newest schema."""
    from waybridge.cli.database import migrate as body  # noqa: PLC0415

    typer.echo(run(body(load_settings(config))))


@app.command("rotate-keys")
def rotate_keys(config: ConfigFile = None) -> None:
    """Seals all stored credentials again under the first of secret_keys."""
    from waybridge.cli.database import rotate_keys as body  # noqa: PLC0415

    typer.echo(run(body(load_settings(config))))


@app.command()
def plugins(config: ConfigFile = None) -> None:
    """Lists the providers and plugins that were found, with version and origin."""
    from waybridge.cli.listing import plugins as body  # noqa: PLC0415

    sys.exit(body(load_settings(config)))


def _more() -> None:
    """Commands that have files of their own, and those that plugins bring."""
    from waybridge.cli import listen, replay, simulate, watch  # noqa: PLC0415

    for each in (watch, replay, listen, simulate):
        each.add(app)


_more()
