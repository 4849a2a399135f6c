"""The edge of every connection: a deadline for request heads, and answers to what is no HTTP.

aiohttp waits for a request's head for ever, and logs a traceback for each request that it cannot parse. Here a
connection that has begun a request must bring its whole head within `HEAD_SECONDS`, however slowly it drips.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from waybridge.api.problems import problem, problem_of

log = structlog.get_logger("waybridge.edge")

HEAD_SECONDS = 15.0
"""From the connection's start, or the first byte of a later request, to the end of the request's head."""
KEEP_ALIVE_SECONDS = 75.0


class GuardedHandler(RequestHandler):
    """One connection. `head_seconds` is the deadline of a request's head."""

    __slots__ = ("_head_deadline", "_head_seconds")

    def __init__(self, manager: Server, *, head_seconds: float = HEAD_SECONDS, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._head_seconds = head_seconds
        self._head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_deadline = self._loop.call_later(self._head_seconds, self._head_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._head_arrived()
        elif self._head_deadline is None and self._waiter is not None and not self._waiter.done():
            self._head_deadline = self._loop.call_later(self._head_seconds, self._head_late)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """A body that cannot be read after its answer is the sender's affair: no traceback."""
        error = kw.get("exc_info")
        if isinstance(error, (web.RequestPayloadError, HttpProcessingError, ConnectionError)):
            log.debug("What followed an answer cannot be read", reason=type(error).__name__)
            return
        super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature
    ) -> web.StreamResponse:
        """The answer to a request that is no HTTP, or that failed outside every handler; then the end."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer is on its way already")
        if status >= 500 and isinstance(exc, Exception):
            response = problem_of(exc)
        else:
            log.debug("A request cannot be read", reason=type(exc).__name__)
            response = problem(status, "the request cannot be read" if status < 500 else "")
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """An expectation that nobody meets is refused before every middleware; here it gets the API's form."""
        if isinstance(resp, web.HTTPExpectationFailed):
            resp = problem(resp.status, "only 100-continue can be expected")
        return await super().finish_response(request, resp, start_time)

    def _head_arrived(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _head_late(self) -> None:
        self._head_deadline = None
        transport = self.transport  # force_close lets go of it
        if transport is not None:
            log.debug("A request's head did not arrive in time")
            self.force_close()
            transport.abort()


class GuardedServer(Server):
    """Makes a guarded handler for each connection."""

    def __call__(self) -> RequestHandler:
        return GuardedHandler(self, loop=self._loop, **self._kwargs)


class GuardedRunner(web.AppRunner):
    """Runs an application on guarded connections: `GuardedRunner(app)`, then sites as usual.

    aiohttp's own access log is off (it prints tokens); the application's middleware writes one.
    """

    def __init__(self, app: web.Application, *, head_seconds: float = HEAD_SECONDS, **kwargs: Any) -> None:
        kwargs.setdefault("keepalive_timeout", KEEP_ALIVE_SECONDS)
        super().__init__(app, access_log=None, head_seconds=head_seconds, **kwargs)

    async def _make_server(self) -> Server:
        made = await super()._make_server()
        return GuardedServer(
            made.request_handler,
            request_factory=made.request_factory,
            loop=asyncio.get_running_loop(),
            **made._kwargs,  # noqa: SLF001
        )
