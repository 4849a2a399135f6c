"""The command line: one file a command. Exit codes: 0 fine, 1 a problem in one line on stderr, 2 wrong usage."""

from __future__ import annotations

import sys

from waybridge.cli.entry import with_plugins


def main() -> None:
    """Runs the command line; a problem that we know is said in one line, never with a traceback."""
    from waybridge.errors import WaybridgeError  # noqa: PLC0415 - imported when something runs

    try:
        with_plugins(sys.argv[1:])(standalone_mode=True)
    except WaybridgeError as error:
        sys.stderr.write(f"waybridge: {' '.join(str(error).split())}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


__all__ = ["main"]
