"""What it costs to push one position to many viewers.

    python bench/viewers.py [--viewers 1000] [--seconds 5] [--uvloop]

Prints, all of one run on this machine:
- frames a CPU-second of the whole gateway (a fleet's realtime socket) against a bare server that only writes the
  same frames to as many sockets;
- memory a viewer of a share link, session state included;
- POST to viewer: p50 and p99, 20 viewers, 200 positions a second, acknowledged after the commit;
- the same for all viewers at 20 positions a second, when all of them read and when a tenth stops reading;
- how long a new viewer waits for a snapshot of 10,000 devices.

The servers run in processes of their own; their CPU and memory are read from /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from waybridge.cli.serve import serving
from waybridge.settings import Settings
from waybridge.streams.wire import text_frame

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

DEVICES = 100
FRAME = text_frame(b'{"type":"position","DeviceToken":"%s"' % (b"d" * 36) + b"x" * 160 + b"}")
HANDSHAKE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


class Viewer(asyncio.Protocol):
    """Counts the bytes that come after the handshake; sends `first` as a frame when it may."""

    def __init__(self, path: str, first: bytes, board: Board, *, deaf: bool = False) -> None:
        self._path, self._first, self._board, self._deaf = path, first, board, deaf
        self._open = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(HANDSHAKE % self._path.encode())

    def data_received(self, data: bytes) -> None:
        if not self._open:
            self._open = True
            self._board.opened += 1
            if self._first:
                head = bytes((0x81, 0xFE)) + len(self._first).to_bytes(2, "big") + b"\0\0\0\0"
                self._transport.write(head + self._first)
            if self._deaf:
                self._transport.pause_reading()
            return
        self._board.took(data)


class Board:
    """What all viewers got; `arrivals` are delays in seconds while `timed` is set (frames carry their time)."""

    def __init__(self) -> None:
        self.opened = self.bytes = 0
        self.last = 0.0
        self.timed = False
        self.arrivals: list[float] = []

    def took(self, data: bytes) -> None:
        self.bytes += len(data)
        self.last = time.monotonic()
        if self.timed:
            now = time.time()
            for part in data.split(b'"Lng":')[1:]:
                number, comma, _ = part.partition(b",")
                if comma:  # else cut in two by the network
                    self.arrivals.append((now - float(number) * 20) % 3600)


def gateway(pipe: Connection, uvloop: bool) -> None:  # noqa: FBT001
    """The gateway's process: sends its address and a token, then serves until it is told to stop."""

    async def run(folder: str) -> None:
        settings = Settings(
            secret_keys=["bench" * 8],
            database_url=f"sqlite+aiosqlite:///{folder}/bench.db",
            metrics_listen="",
            server={"port": 0},
            limits={
                "public_requests_per_minute": 10_000_000, "sockets_per_token": 100_000, "sockets_per_address": 100_000,
            },
        )  # fmt: skip
        async with serving(settings) as (house, url):
            scope = "read write ingest admin"
            pipe.send((url, house.auth.issue(subject="bench", instances=["default"], scope=scope, ttl=3600)))
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    _start(run, uvloop)


def bare(pipe: Connection, uvloop: bool) -> None:  # noqa: FBT001
    """Writes FRAME to every socket, as often as it is told."""

    async def run(_folder: str) -> None:
        transports: list[asyncio.Transport] = []

        class Accept(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self._transport = transport

            def data_received(self, _data: bytes) -> None:
                self._transport.write(SWITCHING)
                transports.append(self._transport)

        loop = asyncio.get_running_loop()
        server = await loop.create_server(Accept, "127.0.0.1", 0, backlog=4096)
        pipe.send((f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", ""))
        while (rounds := await loop.run_in_executor(None, pipe.recv)) is not None:
            for _ in range(rounds):
                for transport in transports:
                    transport.write(FRAME)
                await asyncio.sleep(0)
            pipe.send(rounds)

    _start(run, uvloop)


def _start(run: Any, uvloop: bool) -> None:  # noqa: FBT001
    factory = None
    if uvloop:
        import uvloop as fast  # noqa: PLC0415

        factory = fast.new_event_loop
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run(folder))


@contextlib.contextmanager
def process(target: Any, uvloop: bool) -> Iterator[tuple[int, Connection, str, str]]:  # noqa: FBT001
    """(pid, pipe, address, token) of a server in a process of its own."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=target, args=(theirs, uvloop))
    child.start()
    url, token = ours.recv()
    try:
        yield child.pid or 0, ours, url, token
    finally:
        ours.send(None)
        child.join(20)


def cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


async def watch(
    url: str, path: str, count: int, first: bytes = b"", *, board: Board | None = None, deaf: bool = False
) -> Board:
    board = board or Board()
    count += board.opened
    host, _, port = url.removeprefix("http://").partition(":")
    for _ in range(count - board.opened):
        await asyncio.get_running_loop().create_connection(
            lambda: Viewer(path, first, board, deaf=deaf), host, int(port)
        )
    while board.opened < count:  # noqa: ASYNC110 - a bench looks, it need not be told
        await asyncio.sleep(0.05)
    return board


async def post(http: aiohttp.ClientSession, url: str, token: str, path: str, body: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    async with http.post(url + path, json=body, headers=headers) as answer:
        found = await answer.json()
        if answer.status >= 300:
            raise SystemExit(f"{path}: {answer.status} {found}")
        return found


def fixes(step: int, heading: float = 0.0) -> dict[str, Any]:
    now = time.time()
    return {
        "positions": [
            {"device_token": f"{n:036d}", "latitude": 50 + step / 1e5, "longitude": n / 100, "timestamp": now,
             "speed": 10.0, "accuracy": 5.0, **({"heading": heading} if heading else {})}
            for n in range(DEVICES)
        ]
    }  # fmt: skip


async def fleet(args: argparse.Namespace) -> tuple[float, int]:
    """(frames a CPU-second of the gateway, bytes of a frame)."""
    with process(gateway, args.uvloop) as (pid, _, url, token):
        first = json.dumps({"type": "authenticate", "jwt": token, "instance_id": "default"}).encode()
        async with aiohttp.ClientSession() as http:
            await post(http, url, token, "/ingest/native/positions", fixes(0))
            board = await watch(url, "/api/v1/ws/realtime", args.viewers, first)
            await asyncio.sleep(2)
            size = board.bytes // (DEVICES * args.viewers)  # the snapshot (and one short greeting)
            started, taken, sent = cpu(pid), board.bytes, 0
            until = time.monotonic() + args.seconds
            while time.monotonic() < until:
                sent += 1
                await post(http, url, token, "/ingest/native/positions", fixes(sent))
            await asyncio.sleep(1)
            return (board.bytes - taken) / size / (cpu(pid) - started), size


async def floor(args: argparse.Namespace) -> float:
    """Frames a CPU-second of the bare server."""
    with process(bare, args.uvloop) as (pid, pipe, url, _):
        await watch(url, "/", args.viewers)
        loop = asyncio.get_running_loop()
        started, rounds = cpu(pid), 0
        until = time.monotonic() + args.seconds
        while time.monotonic() < until:
            pipe.send(20)
            rounds += await loop.run_in_executor(None, pipe.recv)
        return rounds * args.viewers / (cpu(pid) - started)


async def memory(args: argparse.Namespace) -> float:
    """Bytes a viewer of one share link."""
    with process(gateway, args.uvloop) as (pid, _, url, token):
        async with aiohttp.ClientSession() as http:
            await post(http, url, token, "/ingest/native/positions", fixes(0))
            body = {"instance_id": "default", "device_token": f"{0:036d}"}
            link = (await post(http, url, token, "/api/v1/sharing/sessions", body))["share_token"]
            await watch(url, f"/api/v1/share/{link}/live", 50)
            await asyncio.sleep(1)
            before = resident(pid)
            await watch(url, f"/api/v1/share/{link}/live", args.viewers)
            await asyncio.sleep(1)
            return (resident(pid) - before) / args.viewers


async def latency(args: argparse.Namespace, *, viewers: int, deaf: int, rate: float) -> tuple[float, float]:
    """p50 and p99 of POST to viewer, milliseconds; `deaf` more viewers do not read."""
    with process(gateway, args.uvloop) as (_, _, url, token):
        first = json.dumps({"type": "authenticate", "jwt": token, "instance_id": "default"}).encode()
        async with aiohttp.ClientSession() as http:
            await watch(url, "/api/v1/ws/realtime", deaf, first, deaf=True)
            board = await watch(url, "/api/v1/ws/realtime", viewers, first)
            await post(http, url, token, "/ingest/native/positions", fixes(0))
            await asyncio.sleep(1)
            board.timed = True
            for number in range(int(rate * args.seconds)):
                now = time.time()
                body = {"device_token": f"{number % DEVICES:036d}", "latitude": 1.0, "timestamp": now,
                        "longitude": now % 3600 / 20}  # fmt: skip - the longitude carries the time of sending
                await post(http, url, token, "/ingest/native/positions", body)
                await asyncio.sleep(1 / rate)
            await asyncio.sleep(1)
            delays = sorted(board.arrivals)
            return delays[len(delays) // 2] * 1000, delays[int(len(delays) * 0.99)] * 1000


async def snapshot(args: argparse.Namespace, devices: int) -> tuple[float, int]:
    """(seconds until a new viewer has all devices, bytes)."""
    with process(gateway, args.uvloop) as (_, _, url, token):
        first = json.dumps({"type": "authenticate", "jwt": token, "instance_id": "default"}).encode()
        async with aiohttp.ClientSession() as http:
            for start in range(0, devices, 1000):
                now = time.time()
                batch = [
                    {"device_token": f"{n:036d}", "latitude": 1.0, "longitude": 1.0, "timestamp": now}
                    for n in range(start, start + 1000)
                ]
                await post(http, url, token, "/ingest/native/positions", {"positions": batch})
            began = time.monotonic()
            board = await watch(url, "/api/v1/ws/realtime", 1, first)
            while board.last == 0.0 or time.monotonic() - board.last < 0.5:  # noqa: ASYNC110 - see watch
                await asyncio.sleep(0.1)
            return board.last - began, board.bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--uvloop", action="store_true")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    bare_rate = asyncio.run(floor(args))
    rate, size = asyncio.run(fleet(args))
    print(f"viewers {args.viewers}, frames of about {size} bytes, loop {'uvloop' if args.uvloop else 'asyncio'}")
    print(f"bare server      {bare_rate:12,.0f} frames a CPU-second")
    print(f"gateway          {rate:12,.0f} frames a CPU-second ({rate / bare_rate:.2f} of bare, with ingest and store)")
    print(f"memory a viewer  {asyncio.run(memory(args)):12,.0f} bytes")
    p50, p99 = asyncio.run(latency(args, viewers=20, deaf=0, rate=200))
    print(f"POST to viewer   p50 {p50:.2f} ms, p99 {p99:.2f} ms (200 positions a second, 20 viewers)")
    tenth = args.viewers // 10
    for deaf in (0, tenth):
        p50, p99 = asyncio.run(latency(args, viewers=args.viewers - tenth, deaf=deaf, rate=20))
        print(f"POST to viewer   p50 {p50:.2f} ms, p99 {p99:.2f} ms ({args.viewers - tenth} read, {deaf} do not)")
    seconds, size = asyncio.run(snapshot(args, 10_000))
    print(f"snapshot         {seconds:.2f} s for 10,000 devices ({size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
