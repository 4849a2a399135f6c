"""The dialect's envelope: success is `{}` with a header, errors are `{"message", "description"}` (seed 002)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from waybridge import Answer, PushRejected
from waybridge_driver_events.payload import decode

if TYPE_CHECKING:
    from waybridge import Push

INVALID: Final = "Invalid Input Parameter"
UNAUTHORIZED: Final = b'{"message":"Invalid Authorization Token","description":"Invalid authorization token in header"}'
LARGEST_BODY: Final = 16_384
# What clients declare when nobody told them what they send: curl, aiohttp.
_UNDECLARED: Final = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded"})
_encode = msgspec.json.Encoder().encode


def read_body(push: Push, largest: int = LARGEST_BODY) -> Any:
    """Raises PushRejected for what is too large or declared as something else, FieldError for what is not JSON."""
    if len(push.body) > largest:
        raise rejected(413, "Content Too Large", f"The body is larger than {largest} bytes")
    media = push.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in _UNDECLARED and media != "application/json" and not media.endswith("+json"):
        raise rejected(415, "Unsupported Media Type", "The body must be application/json")
    return decode(push.body)


def accepted(result: str) -> Answer:
    return Answer(body=b"{}", headers={"X-Event-Result": result})


def answered(status: int, body: Any, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status=status, body=_encode(body), headers=headers or {})


def rejected(status: int, message: str, description: str, **headers: str) -> PushRejected:
    body = _encode({"message": message, "description": description})
    return PushRejected(status, body, headers={"Content-Type": "application/json", **headers}, reason=description)


def unrouted(push: Push) -> PushRejected:
    match list(push.segments):
        case ["v1", "bookings", _, _]:
            allowed = "GET, PUT"
        case ["v1", "bookings", _, _, "tracking"]:
            allowed = "GET"
        case ["v1", "bookings", _, _, "driver", "events" | "events:batch"] | ["v2", "bookings", _, "assignDriver"]:
            allowed = "POST"
        case _:
            return rejected(404, "Not Found", "There is nothing at this address")
    return rejected(405, "Method Not Allowed", f"Allowed: {allowed}", Allow=allowed)
