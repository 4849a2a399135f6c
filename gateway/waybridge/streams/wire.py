"""Bytes of the live protocols (RFC 6455, server-sent events) and the table of close codes.

| code | when | the client |
|---|---|---|
| 1000 | done: the share session was completed or cancelled, the client closed | stops |
| 1001 | the gateway is shutting down | comes back |
| 1008 | misuse: frames that make no sense, again and again | stops |
| 1011 | the gateway failed | comes back |
| 4001 | credentials missing, wrong or expired; share link unknown or expired | stops |
| 4003 | not your instance (or there is none of that name) | stops |
| 4008 | too slow or too many | comes back, with back-off |
| 4009 | replaced by a newer connection of the same stream | stops |
"""

from __future__ import annotations

import struct
from enum import IntEnum


class CloseCode(IntEnum):
    """Why the gateway closes a live connection."""

    DONE = 1000
    GOING_AWAY = 1001
    MISUSE = 1008
    FAILED = 1011
    CREDENTIALS = 4001
    NOT_YOUR_INSTANCE = 4003
    TOO_SLOW_OR_TOO_MANY = 4008
    REPLACED = 4009


FINAL = frozenset(
    {CloseCode.DONE, CloseCode.MISUSE, CloseCode.CREDENTIALS, CloseCode.NOT_YOUR_INSTANCE, CloseCode.REPLACED}
)
"""After these a client must not come back."""


def text_frame(payload: bytes) -> bytes:
    """A whole, unmasked text frame of a server."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A whole close frame; the reason is cut to what a control frame holds."""
    payload = struct.pack("!H", code) + reason.encode()[:123]
    return bytes((0x88, len(payload))) + payload


def sse_event(payload: bytes, event_id: int | None = None) -> bytes:
    """One server-sent event in one chunk of HTTP's chunked coding; `payload` holds no line break (JSON)."""
    lines = b"data: " + payload + b"\n\n"
    if event_id is not None:
        lines = b"id: %d\n" % event_id + lines
    return chunk(lines)


def chunk(data: bytes) -> bytes:
    """A chunk of HTTP/1.1's chunked coding."""
    return b"%x\r\n" % len(data) + data + b"\r\n"


LAST_CHUNK = b"0\r\n\r\n"
SSE_STAY_AWAY = chunk(b"retry: 86400000\n\n")
"""Server-sent events know no close code: a browser is asked to come back tomorrow."""
