"""The commands' names and options; each body is imported when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
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


@app.command()
def watch(
    url: Annotated[str, typer.Option(envvar="WAYBRIDGE_URL", help="The gateway.")] = "http://127.0.0.1:8080",
    token: Annotated[
        str | None,
        typer.Option(envvar="WAYBRIDGE_TOKEN", help="A token with scope read; else one of this folder's key."),
    ] = None,
    instance: Annotated[str, typer.Option(help="The instance to watch.")] = "default",
    config: ConfigFile = None,
) -> None:
    """A live table of devices in the terminal."""
    from waybridge.cli.tokens import token_or_own  # noqa: PLC0415
    from waybridge.cli.watch import watch as body  # noqa: PLC0415

    sys.exit(run(body(url, token_or_own(config, token, instance, "read"), instance)))


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="A CSV, GPX or GeoJSON track file.", exists=True, dir_okay=False)],
    speed: Annotated[float, typer.Option(min=0, help="Times as fast as it happened; 0 is as fast as it goes.")] = 1.0,
    live: Annotated[bool, typer.Option("--live", help="Shifts the times so that the first fix is now.")] = False,  # noqa: FBT002
    url: Annotated[str, typer.Option(envvar="WAYBRIDGE_URL", help="The gateway.")] = "http://127.0.0.1:8080",
    token: Annotated[
        str | None,
        typer.Option(envvar="WAYBRIDGE_TOKEN", help="A token with scope ingest; else one of this folder's key."),
    ] = None,
    instance: Annotated[str, typer.Option(help="The instance to write to.")] = "default",
    columns: Annotated[
        str | None, typer.Option("--columns", help="For a CSV: device=NAME,timestamp=NAME,latitude=NAME,...")
    ] = None,
    device: Annotated[str | None, typer.Option(help="The device token of a file that names none.")] = None,
    config: ConfigFile = None,
) -> None:
    """Plays a track file through the native ingest, with a progress bar."""
    from waybridge.cli.replay import replay as body  # noqa: PLC0415
    from waybridge.cli.tokens import token_or_own  # noqa: PLC0415

    own = token_or_own(config, token, instance, "ingest")
    sys.exit(run(body(file, speed=speed, live=live, url=url, token=own, instance=instance, columns=columns,
                      device=device)))  # fmt: skip


@app.command()
def listen(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes any.")] = 9000,
    secret: Annotated[str | None, typer.Option(help="whsec_...; without it nothing is verified.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """A local webhook receiver that verifies and prints."""
    from waybridge.cli.listen import listen as body  # noqa: PLC0415

    sys.exit(run(body(port=port, secret=secret, host=host)))


def with_plugins(arguments: list[str]) -> typer.Typer:
    """The command line with what plugins bring; they are loaded when a command of theirs may be meant or listed."""
    known = {each.name or (each.callback.__name__ if each.callback else "") for each in app.registered_commands}
    first = next((each for each in arguments if not each.startswith("-")), None)
    if first not in known and "--version" not in arguments:
        from waybridge.plugins import Plugins  # noqa: PLC0415

        simulate = typer.Typer(help="A vendor's stand-in, with switches for its faults.", no_args_is_help=True)
        Plugins().commands(app, simulate)
        app.add_typer(simulate, name="simulate")
    return app
