"""Share sessions for operators: seeds 000 and 001, contract section 8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field

from waybridge.api.answers import Answer
from waybridge.api.bodies import Paging, keepable
from waybridge.api.operations import Operation
from waybridge.api.sharing_bodies import sized
from waybridge.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from waybridge.api.operations import Call
    from waybridge.settings_tables import LimitSettings
    from waybridge.sharing import NewSession
    from waybridge.store.sessions import ShareSession, Status

ABSENT = "no such share session"
KEY_LENGTH = 255


class SessionsQuery(Paging):
    status: Literal["active", "completed", "cancelled", "expired"] | None = None
    device_token: str | None = Field(default=None, max_length=200)
    order_id: str | None = Field(default=None, max_length=200)


class Links(Answer):
    map_url: str | None
    api_url: str | None
    ws_url: str | None


class Destination(Answer):
    latitude: float
    longitude: float
    label: str | None


class ShareConfigAnswer(Answer):
    show_speed: bool
    show_heading: bool
    show_eta: bool
    show_destination_on_map: bool
    update_interval_seconds: int


class SessionAnswer(Answer):
    """A share session; times in unix seconds. The token is null when no secret key opens it any more."""

    id: str
    share_token: str | None
    share_url: str | None
    links: Links
    device_token: str
    instance_id: str
    status: Literal["active", "completed", "cancelled", "expired"]
    created_at: int
    expires_at: int
    order_id: str | None
    recipient_name: str | None
    notes: str | None
    track_token: str | None
    destination: Destination | None
    share_config: ShareConfigAnswer
    updated_at: int
    completed_at: int | None
    cancelled_at: int | None
    views: int


class SessionsAnswer(Answer):
    sessions: list[SessionAnswer]
    total: int
    limit: int
    offset: int


class Sessions(Protocol):
    """The share sessions (waybridge.sharing.Sharing)."""

    async def create(
        self, instance_id: str, wanted: NewSession, *, key: str | None = None, created_by: str | None = None
    ) -> ShareSession: ...
    async def session(self, instance_id: str, session_id: str) -> ShareSession: ...
    async def sessions(
        self,
        instance_id: str,
        *,
        status: Status | None,
        device_token: str | None,
        order_id: str | None,
        limit: int,
        offset: int,
    ) -> tuple[list[ShareSession], int]: ...
    async def change(self, instance_id: str, session_id: str, changes: Mapping[str, Any]) -> ShareSession: ...
    async def complete(self, instance_id: str, session_id: str) -> ShareSession: ...
    async def cancel(self, instance_id: str, session_id: str) -> ShareSession: ...
    def describe(self, session: ShareSession) -> dict[str, Any]: ...


class SharingApi:
    """The operations on share sessions."""

    def __init__(self, sharing: Sessions, limits: LimitSettings) -> None:
        self._sharing = sharing
        self._created, self._changed = sized(limits)

    def operations(self) -> list[Operation]:
        one = "/sharing/sessions/{session_id}"
        tag = "Share sessions"
        return [
            Operation(
                method="POST",
                path="/sharing/sessions",
                handler=self._create,
                summary="Create a share session",
                description="`Idempotency-Key`: the same key and body within 24 h answers with the same session.",
                tag=tag,
                scope="write",
                body=self._created,
                instance="body_or_query",
                answers={201: SessionAnswer, 409: None},
                absent="no such device",
            ),
            Operation(
                method="GET",
                path="/sharing/sessions",
                handler=self._list,
                summary="List share sessions, newest first",
                tag=tag,
                scope="read",
                query=SessionsQuery,
                answers={200: SessionsAnswer},
                absent="no such instance",
            ),
            Operation(
                method="GET",
                path=one,
                handler=self._read,
                summary="Read a share session",
                tag=tag,
                scope="read",
                answers={200: SessionAnswer},
                absent=ABSENT,
            ),
            Operation(
                method="PATCH",
                path=one,
                handler=self._change,
                summary="Change an active share session",
                tag=tag,
                scope="write",
                body=self._changed,
                answers={200: SessionAnswer, 409: None},
                absent=ABSENT,
            ),
            Operation(
                method="DELETE",
                path=one,
                handler=self._cancel,
                summary="Cancel a share session",
                tag=tag,
                scope="write",
                answers={200: SessionAnswer, 409: None},
                absent=ABSENT,
            ),
            Operation(
                method="POST",
                path=f"{one}/complete",
                handler=self._complete,
                summary="Complete a share session",
                tag=tag,
                scope="write",
                answers={200: SessionAnswer, 409: None},
                absent=ABSENT,
            ),
        ]

    async def _create(self, call: Call) -> web.Response:
        session = await self._sharing.create(
            _instance(call),
            call.body.session(),
            key=_idempotency_key(call),
            created_by=call.principal.subject if call.principal is not None else None,
        )
        return call.json(self._sharing.describe(session), 201)

    async def _list(self, call: Call) -> web.Response:
        query: SessionsQuery = call.query
        page, total = await self._sharing.sessions(
            _instance(call),
            status=query.status,
            device_token=query.device_token,
            order_id=query.order_id,
            limit=query.limit,
            offset=query.offset,
        )
        found = [self._sharing.describe(session) for session in page]
        return call.json({"sessions": found, "total": total, "limit": query.limit, "offset": query.offset})

    async def _read(self, call: Call) -> web.Response:
        session = await self._sharing.session(_instance(call), call.path["session_id"])
        return call.json(self._sharing.describe(session))

    async def _change(self, call: Call) -> web.Response:
        session = await self._sharing.change(_instance(call), call.path["session_id"], call.body.changes())
        return call.json(self._sharing.describe(session))

    async def _complete(self, call: Call) -> web.Response:
        session = await self._sharing.complete(_instance(call), call.path["session_id"])
        return call.json(self._sharing.describe(session))

    async def _cancel(self, call: Call) -> web.Response:
        session = await self._sharing.cancel(_instance(call), call.path["session_id"])
        return call.json(self._sharing.describe(session))


def _instance(call: Call) -> str:
    if call.instance_id is None:  # the dispatcher requires it of every operation here
        raise Invalid("the query is not valid", errors=[("instance_id", "is required")])
    return call.instance_id


def _idempotency_key(call: Call) -> str | None:
    given = call.request.headers.getall("Idempotency-Key", [])
    if not given:
        return None
    key = given[0]
    if len(given) > 1 or not 1 <= len(key) <= KEY_LENGTH or not keepable(key):
        raise Invalid(
            "the headers are not valid",
            errors=[("Idempotency-Key", f"must be given once, as 1 to {KEY_LENGTH} printable characters")],
        )
    return key
