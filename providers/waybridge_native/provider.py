"""The native provider: `POST /ingest/native/positions` and the frames of the live socket (contract section 6)."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Final
from urllib.parse import urlsplit

import msgspec
from pydantic import Field, SecretStr, field_validator

from waybridge import (
    Answer,
    Capabilities,
    Outcome,
    Profile,
    Provider,
    ProviderContext,
    ProviderSettings,
    Push,
    PushRejected,
    Receipt,
    SourceKey,
    canonical_token,
)
from waybridge_native.demo import NativeDemo
from waybridge_native.parse import MAX_POSITIONS, InvalidBody, MalformedBody, Parser
from waybridge_native.profile import PLACEHOLDER, fetch_profile

_encode = msgspec.json.Encoder().encode
# The one field that devices send under another name than the position has.
_SENT_AS: Final = {"recorded_at": "timestamp"}
# What clients declare when nobody told them what they send: curl, aiohttp.
_UNDECLARED: Final = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded"})


class NativeSettings(ProviderSettings):
    """`profile_url` has the place `{device_token}`; `profile_token` is sent to it as a bearer token.

    `positions_per_batch` is how many positions one request or frame may hold.
    """

    profile_url: str | None = Field(default=None, max_length=2000)
    profile_token: SecretStr | None = None
    positions_per_batch: int = Field(default=MAX_POSITIONS, ge=1, le=MAX_POSITIONS)

    @field_validator("profile_url")
    @classmethod
    def _fetchable(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError("must be an http or https address")
            if PLACEHOLDER not in value or PLACEHOLDER in parts.netloc:
                raise ValueError(f"must contain {PLACEHOLDER} behind its host")
        return value


class Native(Provider[NativeSettings]):
    """Takes positions as the contract writes them. Ranges and clocks are the intake's; here is only the parsing."""

    kind: ClassVar[str] = "native"
    demo = NativeDemo
    Settings: ClassVar[type[ProviderSettings]] = NativeSettings
    capabilities: ClassVar[Capabilities] = Capabilities(receives=True)

    def __init__(self, settings: NativeSettings, context: ProviderContext) -> None:
        super().__init__(settings, context)
        self._parser = Parser(partial(SourceKey, context.connection_id), settings.positions_per_batch)

    async def check(self) -> None:
        """Nothing to prove: devices come to us, and profiles are fetched only when somebody asks."""

    async def receive(self, push: Push) -> Receipt:
        """A POST to `positions`, or a frame of the live socket with the same body."""
        if push.frame is None:
            _check_request(push)
        try:
            parsed = self._parser.parse(push.body)
        except MalformedBody as error:
            raise _problem(400, "Bad Request", str(error)) from error
        except InvalidBody as error:
            raise _problem(422, "Unprocessable Content", str(error), (error.field, error.message)) from error
        if push.sender is not None and push.sender.device_token is not None:
            own = canonical_token(push.sender.device_token)
            if any(position.source.external_id != own for position in parsed.positions):
                raise _problem(403, "Forbidden", "The token is bound to another device.")
        return Receipt(
            reports=parsed.positions,
            indexes=parsed.indexes,
            rejected=parsed.rejected,
            instance_id=parsed.instance_id,
            answer=_answer,
        )

    async def profile(self, source: SourceKey) -> Profile | None:
        """The device's profile at `profile_url`; None without that setting, and where the address says 404."""
        if self.settings.profile_url is None:
            return None
        return await fetch_profile(self.context.session, self.settings.profile_url, self.settings.profile_token, source)


def _check_request(push: Push) -> None:
    if tuple(push.segments) != ("positions",):
        raise _problem(404, "Not Found", "Positions are posted to /ingest/native/positions.")
    if push.method != "POST":
        raise _problem(405, "Method Not Allowed", "Positions are posted.", allow="POST")
    media = push.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in _UNDECLARED and media != "application/json" and not media.endswith("+json"):
        raise _problem(415, "Unsupported Media Type", "The body must be application/json.")


def _answer(outcome: Outcome) -> Answer:
    rejected = sorted(outcome.rejected, key=lambda rejection: rejection.index)
    body = {
        "accepted": outcome.accepted,
        "duplicates": outcome.duplicates,
        "rejected": [
            {"index": one.index, "field": _SENT_AS.get(one.field, one.field), "error": one.error} for one in rejected
        ],
    }
    nothing_kept = bool(rejected) and not outcome.accepted and not outcome.duplicates
    return Answer(status=422 if nothing_kept else 200, body=_encode(body))


def _problem(
    status: int, title: str, detail: str, error: tuple[str, str] | None = None, *, allow: str | None = None
) -> PushRejected:
    body: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if error is not None:
        body["errors"] = [{"field": error[0], "message": error[1]}]
    headers = {"Content-Type": "application/problem+json"}
    if allow is not None:
        headers["Allow"] = allow
    return PushRejected(status, _encode(body), headers=headers, reason=detail)
