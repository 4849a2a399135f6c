"""Runs the benches: `python -m bench [NAME...] [--quick] [--peers FOLDER] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import signal
import tempfile
from pathlib import Path

from bench import fanout, growth, hop, ingest, latency, nodes, peers, reads, webhooks
from bench.report import Report
from bench.servers import postgres

NAMES = ("ingest", "fanout", "latency", "reads", "growth", "hop", "nodes", "webhooks")


async def main(arguments: argparse.Namespace) -> int:
    report = Report()
    names = arguments.names or NAMES
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wb-bench-")))
        server = stack.enter_context(postgres()) if {"ingest", "hop", "nodes", "webhooks"} & set(names) else None
        others = peers.Peers(arguments.peers)
        quick = arguments.quick
        for name in names:
            print(f"-- {name}", flush=True)
            match name:
                case "ingest":
                    await ingest.ingest(report, folder / name, server, quick=quick)
                case "fanout":
                    await fanout.fanout(report, folder / name, others, quick=quick)
                case "latency":
                    await latency.latency(report, folder / name, quick=quick)
                case "reads":
                    await reads.reads(report, folder / name, quick=quick)
                case "growth":
                    await growth.growth(report, folder / name, quick=quick)
                case "hop":
                    await hop.hop(report, folder / name, server, quick=quick)
                case "nodes":
                    await nodes.nodes(report, folder / name, server, quick=quick)
                case "webhooks":
                    await webhooks.webhooks(report, folder / name, server, quick=quick)
    place = report.write(arguments.out)
    print(f"\n{report.table()}\n\n{place}")
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="How fast the gateway is; see bench/README.md.")
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="short runs, for a look; the numbers are rougher")
    parser.add_argument("--peers", type=Path, help="a folder with peers that are not installed: usr/..., node_modules")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    return parser.parse_args()


def run() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    arguments = parsed()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped then, too
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return asyncio.run(main(arguments))
    return int(uvloop.run(main(arguments)))


if __name__ == "__main__":
    raise SystemExit(run())
