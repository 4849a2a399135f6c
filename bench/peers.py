"""What the gateway's fan-out is measured against: the bare cost of writing, and other servers where installed.

Each takes a payload by `publish` and writes it to every WebSocket viewer. A peer that is not on PATH is looked for
in the folder given by `--peers`: an unpacked Debian tree (`usr/...`) and `node_modules`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load import masked_frame, upgrade
from bench.servers import Gateway, free_port

HERE = Path(__file__).parent
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu")


@dataclass(frozen=True, slots=True)
class Target:
    """A fan-out server under measurement."""

    name: str
    pids: Sequence[int]
    viewer_port: int
    publish_port: int
    upgrade: bytes
    hello: Sequence[bytes]
    ready_mark: bytes
    http: bool = True
    path: str = "/pub"
    token: str = ""

    def publication(self, payload: bytes) -> bytes:
        """What the publisher's connection writes for one position."""
        if self.http:
            return (
                f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.token}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
            ).encode() + payload
        topic = b"positions"
        body = struct.pack("!H", len(topic)) + topic + payload
        return b"\x30" + _length(len(body)) + body

    @property
    def greeting(self) -> bytes:
        """What the publisher's connection begins with."""
        return b"" if self.http else _connect(b"publisher")


def gateway_realtime(gateway: Gateway, device: str | None = None) -> Target:
    """The realtime socket of an instance."""
    token = gateway.token()
    first = {"type": "authenticate", "jwt": token, "instance_id": "default", **({"device_token": device} if device else {})}
    return Target(
        "Waybridge", [gateway.pid], gateway.port, gateway.port, upgrade("/api/v1/ws/realtime"),
        [masked_frame(json.dumps(first).encode())], b'"welcome"', path="/ingest/native/positions", token=token,
    )  # fmt: skip


class Peers:
    """Starts the peers that there are."""

    names = ("bare writes", "Nchan", "Node ws", "websockets", "mosquitto")

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder.resolve() if folder else None

    @contextlib.asynccontextmanager
    async def running(self, name: str, work: Path) -> AsyncIterator[Target | None]:
        """A running peer, or None where it is not installed."""
        work.mkdir(parents=True, exist_ok=True)
        port, publish = free_port(), free_port()
        command = self._command(name, work, port, publish)
        if command is None:
            yield None
            return
        environ = dict(os.environ)
        if self._folder is not None:
            environ["LD_LIBRARY_PATH"] = ":".join(str(self._folder / part) for part in LIBRARIES)
        with (work / "peer.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(*command, cwd=work, env=environ, stdout=log, stderr=log)
        try:
            await _listening(port, process, work / "peer.log")
            mqtt = name == "mosquitto"
            yield Target(
                name, [process.pid], port, publish if name not in ("Nchan", "Node ws", "bare writes") else port,
                upgrade("/sub", "mqtt" if mqtt else None),
                [masked_frame(_connect(b""), 2), masked_frame(_subscribe(), 2)] if mqtt else [],
                b"\x90\x03\x00\x01" if mqtt else b"\r\n\r\n", http=not mqtt,
            )  # fmt: skip
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()

    def _command(self, name: str, work: Path, port: int, publish: int) -> list[str] | None:
        match name:
            case "bare writes":
                return [sys.executable, str(HERE / "peer_bare.py"), str(port)]
            case "websockets":
                known = importlib.util.find_spec("websockets")
                return [sys.executable, str(HERE / "peer_websockets.py"), str(port), str(publish)] if known else None
            case "Node ws":
                node, modules = shutil.which("node"), self._inside("node_modules/ws")
                if node is None or modules is None:
                    return None
                return [node, str(HERE / "peer_ws.cjs"), str(modules), str(port)]
            case "Nchan":
                nginx, module = self._binary("nginx"), self._inside("usr/lib/nginx/modules/ngx_nchan_module.so")
                if nginx is None or module is None:
                    return None
                (work / "nginx.conf").write_text(_NGINX.format(module=module, port=port, work=work))
                (work / "logs").mkdir(exist_ok=True)
                return [nginx, "-p", str(work), "-c", str(work / "nginx.conf"), "-e", str(work / "error.log")]
            case _:
                mosquitto = self._binary("mosquitto")
                if mosquitto is None:
                    return None
                (work / "mosquitto.conf").write_text(_MOSQUITTO.format(port=port, publish=publish))
                return [mosquitto, "-c", str(work / "mosquitto.conf")]

    def _binary(self, name: str) -> str | None:
        inside = self._inside(f"usr/sbin/{name}")
        return str(inside) if inside else shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")

    def _inside(self, part: str) -> Path | None:
        roots = [self._folder] if self._folder else []
        return next((root / part for root in [*roots, Path("/"), HERE] if (root / part).exists()), None)


_NGINX = """load_module {module};
daemon off; master_process off; worker_processes 1; pid {work}/nginx.pid;
events {{ worker_connections 20000; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {work}/body;
 proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi; uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
 server {{ listen 127.0.0.1:{port};
  location = /pub {{ nchan_publisher; nchan_channel_id x; nchan_message_buffer_length 0; }}
  location = /sub {{ nchan_subscriber websocket; nchan_channel_id x; nchan_subscriber_first_message newest; }} }} }}
"""
_MOSQUITTO = """listener {port} 127.0.0.1
protocol websockets
listener {publish} 127.0.0.1
allow_anonymous true
max_queued_messages 100000
set_tcp_nodelay true
"""


def _length(size: int) -> bytes:
    """MQTT's variable length."""
    out = b""
    while True:
        size, digit = divmod(size, 128)
        out += bytes((digit | (0x80 if size else 0),))
        if not size:
            return out


def _connect(client: bytes) -> bytes:
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack("!H", len(client)) + client
    return b"\x10" + _length(len(body)) + body


def _subscribe() -> bytes:
    topic = b"positions"
    body = b"\x00\x01" + struct.pack("!H", len(topic)) + topic + b"\x00"
    return b"\x82" + _length(len(body)) + body


async def _listening(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(20):
        while process.returncode is None:
            with contextlib.suppress(OSError):
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                return
            await asyncio.sleep(0.02)
    raise RuntimeError(log.read_text()[-1000:])
