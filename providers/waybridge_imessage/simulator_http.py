"""The HTTP side of the stand-in: the vendor's paths, statuses, error envelope and X-Trace-ID."""

from __future__ import annotations

import asyncio
import json
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from waybridge_imessage.simulator import LinqSimulator
    from waybridge_imessage.simulator_model import Chat, Sharing

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROOT = "/api/partner/v3"
EVENT_TYPES = [
    "message.sent",
    "message.received",
    "message.delivered",
    "message.failed",
    "location.sharing.started",
    "location.sharing.stopped",
]
DOC_URL = "https://docs.linqapp.com/channel/imessage/guides/webhooks/events"


class _Refusal(Exception):
    def __init__(self, status: int, code: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


def routes(simulator: LinqSimulator) -> Sequence[web.AbstractRouteDef]:
    """The API's routes over one account."""
    api = _Api(simulator)
    return [
        web.get(f"{ROOT}/chats/{{chat}}/location", api.served("GET location", api.location)),
        web.delete(f"{ROOT}/chats/{{chat}}/location", api.served("DELETE location", api.stop)),
        web.post(f"{ROOT}/chats/{{chat}}/location/request", api.served("POST request", api.request)),
        web.get(f"{ROOT}/chats/{{chat}}", api.served("GET chat", api.chat)),
        web.get(f"{ROOT}/webhook-events", api.served("GET events", api.events)),
        web.post(f"{ROOT}/webhook-subscriptions", api.served("POST subscription", api.create)),
        web.get(f"{ROOT}/webhook-subscriptions", api.served("GET subscriptions", api.listed)),
        web.get(f"{ROOT}/webhook-subscriptions/{{id}}", api.served("GET subscription", api.read)),
        web.put(f"{ROOT}/webhook-subscriptions/{{id}}", api.served("PUT subscription", api.update)),
        web.delete(f"{ROOT}/webhook-subscriptions/{{id}}", api.served("DELETE subscription", api.delete)),
    ]


class _Api:
    def __init__(self, simulator: LinqSimulator) -> None:
        self._linq = simulator

    def served(self, name: str, handler: Handler) -> Handler:
        """A handler behind the key, the faults and the error envelope."""

        async def serve(request: web.Request) -> web.StreamResponse:
            self._linq.calls[name] += 1
            faults = self._linq.faults
            if faults.hold:
                await asyncio.sleep(faults.hold)
            try:
                self._fail()
                self._authorize(request)
                answer = await handler(request)
            except _Refusal as refusal:
                answer = _error(refusal)
            if faults.lose_answers:
                faults.lose_answers -= 1
                if request.transport is not None:
                    request.transport.abort()
            answer.headers["X-Trace-ID"] = uuid.uuid4().hex
            return answer

        return serve

    def _authorize(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {self._linq.api_key}":
            raise _Refusal(401, 2004, "Unauthorized")

    def _fail(self) -> None:
        faults = self._linq.faults
        if faults.status is not None:
            raise _Refusal(*faults.status)
        if faults.server_errors:
            faults.server_errors -= 1
            raise _Refusal(500, 3006, "Internal server error")
        if faults.rate_limited:
            faults.rate_limited -= 1
            raise _Refusal(429, 1007, "Rate limit exceeded", faults.retry_after)

    async def location(self, request: web.Request) -> web.StreamResponse:
        faults = self._linq.faults
        chat = self._chat(request)
        shown = [] if faults.hide else [_feature(one, faults.omit) for one in self._linq.visible(chat)]
        collection = {"type": "FeatureCollection", "features": [*faults.features, *shown]}
        text = json.dumps(collection if faults.bare else {"success": True, "data": collection}, allow_nan=True)
        if faults.truncate:
            text = text[: len(text) // 2]
        text += " " * faults.oversize
        return web.Response(text=text, content_type="application/geo+json" if faults.bare else "application/json")

    async def request(self, request: web.Request) -> web.StreamResponse:
        chat = self._chat(request)
        self._may_be_asked(chat)
        now = self._linq.clock().timestamp()
        if chat.asked_at is not None and now - chat.asked_at < self._linq.request_every:
            left = int(self._linq.request_every - (now - chat.asked_at)) + 1
            raise _Refusal(429, 1007, "Rate limited per chat", left)
        chat.asked_at = now
        self._linq.prompts.append(chat.chat_id)
        if self._linq.person_accepts_requests:
            latitude, longitude = self._linq.home
            self._linq.share(chat.chat_id, chat.handles[0], latitude, longitude)
        return web.json_response({"success": True, "message": "Location request sent"})

    def _may_be_asked(self, chat: Chat) -> None:
        conflict = self._linq.faults.request_conflict
        if conflict is not None:
            raise _Refusal(409, conflict, "Conflict")
        if len(chat.handles) > 1:
            raise _Refusal(409, 2016, "GroupChatNotSupported")
        if chat.service != "iMessage":
            raise _Refusal(409, 2017, "ChatServiceNotSupported")
        if self._linq.visible(chat):
            raise _Refusal(409, 2018, "The recipient is already sharing their location")

    async def stop(self, request: web.Request) -> web.StreamResponse:
        chat = self._chat(request)
        handle = (await _fields(request)).get("handle")
        if not isinstance(handle, str) or not any(one.handle == handle for one in self._linq.visible(chat)):
            raise _Refusal(404, 2001, "Nobody with this handle is sharing")
        self._linq.stop_sharing(handle)
        return web.json_response({"success": True, "message": "Stop requested"}, status=202)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        chat = self._chat(request)
        now = self._linq.clock().isoformat()
        people = [(chat.line, True), *((handle, False) for handle in chat.handles)]
        return web.json_response(
            {
                "id": chat.chat_id,
                "created_at": now,
                "updated_at": now,
                "display_name": ", ".join(chat.handles),
                "handles": [
                    {
                        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, handle)),
                        "handle": handle,
                        "is_me": me,
                        "joined_at": now,
                        "service": chat.service,
                        "status": "active",
                    }
                    for handle, me in people
                ],
                "health_status": {"doc_url": DOC_URL, "status": "HEALTHY", "updated_at": now},
                "is_archived": False,
                "is_group": len(chat.handles) > 1,
                "service": chat.service,
            }
        )

    async def events(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"events": EVENT_TYPES, "doc_url": DOC_URL})

    async def create(self, request: web.Request) -> web.StreamResponse:
        fields = await _fields(request)
        for name in ("target_url", "subscribed_events"):
            if not fields.get(name):
                raise _Refusal(400, 1001, f"{name} is required")
        if self._linq.faults.https_only and not str(fields["target_url"]).startswith("https://"):
            raise _Refusal(400, 1005, "target_url must be an HTTPS URL")
        if any(one.target_url == fields["target_url"] for one in self._linq.subscriptions.values()):
            raise _Refusal(409, 2019, "This target_url is already subscribed")
        made = self._linq.deliveries.create(fields)
        return web.json_response(made.shown(with_secret=True), status=201)

    async def listed(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"subscriptions": [one.shown() for one in self._linq.subscriptions.values()]})

    async def read(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._subscription(request).shown())

    async def update(self, request: web.Request) -> web.StreamResponse:
        subscription = self._subscription(request)
        for name, value in (await _fields(request)).items():
            if name in ("target_url", "subscribed_events", "is_active", "routing_key_header", "routing_id_header"):
                setattr(subscription, name, value)
            elif name == "phone_numbers":
                subscription.phone_numbers = list(value or ())
        subscription.updated_at = self._linq.clock()
        return web.json_response(subscription.shown())

    async def delete(self, request: web.Request) -> web.StreamResponse:
        del self._linq.subscriptions[self._subscription(request).subscription_id]
        return web.Response(status=204)

    def _chat(self, request: web.Request) -> Chat:
        chat = self._linq.chats.get(request.match_info["chat"])
        if chat is None:
            raise _Refusal(404, 2001, "Chat not found")
        return chat

    def _subscription(self, request: web.Request) -> Any:
        subscription = self._linq.subscriptions.get(request.match_info["id"])
        if subscription is None:
            raise _Refusal(404, 2001, "Webhook subscription not found")
        return subscription


def _feature(sharing: Sharing, omit: frozenset[str]) -> dict[str, Any]:
    coordinates = [sharing.longitude, sharing.latitude]
    if sharing.altitude is not None:
        coordinates.append(sharing.altitude)
    properties = {
        "handle": sharing.handle,
        "address": sharing.address,
        "locality": sharing.locality,
        "updated_at": sharing.updated_at.isoformat().replace("+00:00", "Z"),
    }
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": coordinates},
        "properties": {name: value for name, value in properties.items() if value is not None and name not in omit},
    }


async def _fields(request: web.Request) -> dict[str, Any]:
    try:
        fields = await request.json()
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise _Refusal(400, 1003, "The body must be a JSON object")
    return fields


def _error(refusal: _Refusal) -> web.Response:
    error: dict[str, Any] = {"status": refusal.status, "code": refusal.code, "message": refusal.message}
    headers = {}
    if refusal.status == HTTPStatus.TOO_MANY_REQUESTS and refusal.retry_after is not None:
        error["retry_after"] = refusal.retry_after
        headers["Retry-After"] = str(refusal.retry_after)
    body = {"success": False, "error": error, "trace_id": uuid.uuid4().hex}
    return web.json_response(body, status=refusal.status, headers=headers)
