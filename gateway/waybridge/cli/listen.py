"""`waybridge listen`: a local webhook receiver that verifies each request and prints a line for each event."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import OrderedDict
from typing import Any

from aiohttp import web
from rich.console import Console

from waybridge.errors import ConfigurationError
from waybridge.signing import SignatureRejected, sign_webhook, verify_webhook

LARGEST_BODY = 1_048_576
REMEMBERED = 10_000
"""Event ids that are remembered to tell a repetition."""
_SHOWN = ("device_token", "provider", "cause", "shared_by", "shared_with", "customer_reference", "booking_reference",
          "id", "status", "from", "to", "connection_id", "state", "subscription_id", "reason", "message")  # fmt: skip


class Listener:
    """Takes webhooks at any path. With a secret, what it did not sign is answered 401."""

    def __init__(self, secret: str | None, console: Console) -> None:
        if secret is not None:
            try:
                sign_webhook(secret, "check", 0, b"")
            except ValueError as error:
                raise ConfigurationError(f"--secret: {error}") from None
        self._secret = secret
        self._console = console
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def take(self, request: web.Request) -> web.Response:
        """Verifies, prints, answers 204."""
        body = await request.read()
        if self._secret is not None:
            try:
                verify_webhook(self._secret, request.headers, body, time.time())
            except SignatureRejected as error:
                self._print("refused", "red", f"{request.path}: {error}")
                return web.Response(status=401, text=f"{error}\n")
        try:
            event = json.loads(body)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            self._print("refused", "red", f"{request.path}: the body is no JSON object")
            return web.Response(status=400, text="the body is no JSON object\n")
        event_id = str(event.get("event_id") or request.headers.get("webhook-id", "-"))
        mark = "again" if self._again(event_id) else "verified" if self._secret is not None else "unverified"
        style = "green" if mark == "verified" else "yellow"
        self._print(mark, style, f"{event.get('event_type', '?')}  {event_id}  {_told(event.get('data'))}")
        return web.Response(status=204)

    def _again(self, event_id: str) -> bool:
        again = event_id in self._seen
        self._seen[event_id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return again

    def _print(self, mark: str, style: str, text: str) -> None:
        """One line; control characters of a stranger's request never reach the terminal."""
        clean = "".join(character if character.isprintable() else "?" for character in text)
        at = time.strftime("%H:%M:%S")
        line = f"{at}  {mark:<10}  {clean}"
        self._console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


async def listen(host: str, port: int, secret: str | None, console: Console | None = None) -> int:
    """Serves until it is interrupted or terminated; returns the exit code. Port 0 takes any free one."""
    console = console or Console(file=sys.stdout)
    listener = Listener(secret, console)
    app = web.Application(client_max_size=LARGEST_BODY)
    app.router.add_route("*", "/{tail:.*}", listener.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
    await runner.setup()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop.set)
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
        address: Any = runner.addresses[0]
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        hint = "" if secret is not None else " (nothing is verified; give --secret whsec_...)"
        console.print(f"Listening on http://{shown}:{address[1]}/{hint}", markup=False, highlight=False, soft_wrap=True)
        await stop.wait()
    finally:
        await runner.cleanup()
    return 0


def _told(data: object) -> str:
    """The telling fields of an event's data, on one line."""
    if not isinstance(data, dict):
        return ""
    return "  ".join(f"{name}={data[name]}" for name in _SHOWN if data.get(name) is not None)
