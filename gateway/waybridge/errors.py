"""Every exception of Waybridge.

    WaybridgeError
    ├── ConfigurationError        the operator's file, environment or command line is wrong
    ├── StoreUnavailable          the database cannot answer now; the API says 503
    ├── RequestError              a caller's request cannot be served; carries status, detail, field errors
    │   ├── Malformed 400 · Unauthorized 401 · Forbidden 403 · NotFound 404 · Conflict 409 · Gone 410
    │   └── TooLarge 413 · UnsupportedMedia 415 · Invalid 422 · TooMany 429 · BadGateway 502 · Unavailable 503
    └── ProviderError             what a provider may raise, each with one meaning
        ├── SourceUnavailable     not now: the gateway retries with back-off
        ├── CredentialsRejected   never with these credentials: the gateway stops and tells the operator
        ├── PushRejected          answer this inbound request so, and take nothing in
        └── AskRefused            the source cannot be asked to share (a conflict with the vendor's reason)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class WaybridgeError(Exception):
    """The root of all errors that Waybridge raises on purpose."""


class ConfigurationError(WaybridgeError):
    """The configuration is wrong; the message says which key and what to do.

    `errors` are (key, message) pairs where single keys are wrong; the key is "" for a fault of the whole.
    """

    def __init__(self, message: str, *, errors: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class StoreUnavailable(WaybridgeError):
    """The database did not answer or refused the work; nothing of the unit was kept."""


class RequestError(WaybridgeError):
    """A request that is answered with `status` and, in the API's form, `detail`.

    `errors` are (field, message) pairs for 422; `headers` are added to the answer.
    """

    status: ClassVar[int] = 400
    title: ClassVar[str] = "Bad Request"

    def __init__(
        self, detail: str = "", *, errors: Sequence[tuple[str, str]] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class Malformed(RequestError):
    status, title = 400, "Bad Request"


class Unauthorized(RequestError):
    status, title = 401, "Unauthorized"


class Forbidden(RequestError):
    status, title = 403, "Forbidden"


class NotFound(RequestError):
    status, title = 404, "Not Found"


class Conflict(RequestError):
    status, title = 409, "Conflict"


class Gone(RequestError):
    status, title = 410, "Gone"


class TooLarge(RequestError):
    status, title = 413, "Content Too Large"


class UnsupportedMedia(RequestError):
    status, title = 415, "Unsupported Media Type"


class Invalid(RequestError):
    status, title = 422, "Unprocessable Content"


class TooMany(RequestError):
    """`retry_after` in whole seconds, sent as Retry-After."""

    status, title = 429, "Too Many Requests"

    def __init__(self, detail: str = "", *, retry_after: int = 1, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail, headers={"Retry-After": str(max(1, retry_after)), **(headers or {})})


class BadGateway(RequestError):
    status, title = 502, "Bad Gateway"


class Unavailable(RequestError):
    status, title = 503, "Service Unavailable"

    def __init__(self, detail: str = "", *, retry_after: int = 5) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class ProviderError(WaybridgeError):
    """The root of what a provider raises on purpose."""


class SourceUnavailable(ProviderError):
    """The outside system cannot be reached or answers nonsense for now; retried with full jitter.

    `retry_after`: seconds that the vendor asked for, honoured when given.
    """

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CredentialsRejected(ProviderError):
    """The vendor refuses the credentials or the scope; retrying cannot help."""


class PushRejected(ProviderError):
    """Answers an inbound request with `status`, `body` and `headers`, and takes nothing in."""

    def __init__(
        self, status: int, body: bytes = b"", *, headers: Mapping[str, str] | None = None, reason: str = ""
    ) -> None:
        super().__init__(reason or f"push rejected with {status}")
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


class AskRefused(ProviderError):
    """The vendor refused to ask the source; `reason` is shown to the caller with status 409.

    `already_sharing` tells that the source shares now, so that nothing needs to be asked; `unknown` that the vendor
    has nothing by this name, so that another connection may be asked.
    """

    def __init__(self, reason: str, *, already_sharing: bool = False, unknown: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.already_sharing = already_sharing
        self.unknown = unknown
