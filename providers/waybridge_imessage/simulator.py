"""A stand-in of Linq's partner API v3: chats, people who share, webhooks, and every fault of the vendor's pages.

Speaks the vendor's wire format over a real socket and shares no code with the provider's parser.

    async with LinqSimulator() as linq:
        chat = linq.add_chat("+14155550101")
        linq.subscribe("http://127.0.0.1:8080/ingest/imessage/webhook")   # -> the signing secret
        linq.share(chat, "+14155550101", 60.17, 24.94)
        linq.move("+14155550101", 60.18, 24.95)
        linq.stop_sharing("+14155550101")
        await linq.delivered()
"""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

from aiohttp import web

from waybridge_imessage.simulator_command import command, drive
from waybridge_imessage.simulator_http import routes
from waybridge_imessage.simulator_model import Chat, Faults, Sharing
from waybridge_imessage.simulator_webhooks import Deliveries, Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

API_VERSION = "v3"
WEBHOOK_VERSION = "2026-02-03"


class LinqSimulator:
    """One account at the vendor, on a port of the loopback interface.

    `person_accepts_requests`: a prompt makes the person share at once, from `home`. `calls` counts requests by
    "METHOD route"; `prompts` are the chats whose person saw one, in order. `retry_delays` are the seconds between the
    attempts of a webhook.
    """

    command = staticmethod(command)
    drive = drive

    def __init__(
        self,
        *,
        api_key: str = "simulated-linq-key",
        line: str = "+12025550100",
        person_accepts_requests: bool = False,
        request_every: float = 60.0,
        retry_delays: Sequence[float] = (0.5, 1.0, 2.0, 4.0, 8.0),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.api_key = api_key
        self.line = line
        self.partner_id = "partner_simulated"
        self.person_accepts_requests = person_accepts_requests
        self.request_every = request_every
        self.home = (60.1699, 24.9384)
        self.faults = Faults()
        self.chats: dict[str, Chat] = {}
        self.sharings: list[Sharing] = []
        self.calls: Counter[str] = Counter()
        self.clock = clock
        self.base_url = ""
        self.prompts: list[str] = []
        self._runner: web.AppRunner | None = None
        self.deliveries = Deliveries(self.faults_now, clock, retry_delays)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listens; answers the base URL for clients (`http://.../api/partner`)."""
        app = web.Application(client_max_size=65_536)
        app.add_routes(routes(self))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound = self._runner.addresses[0][1]
        self.base_url = f"http://{host}:{bound}/api/partner"
        return self.base_url

    def settings(self) -> dict[str, str]:
        """The settings of a connection to it."""
        return {"api_key": self.api_key, "base_url": self.base_url}

    async def stop(self) -> None:
        """Stops answering and delivering; what it knows is kept, so that it can start again."""
        await self.deliveries.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def faults_now(self) -> Faults:
        """The switches as they are; replace `faults` to turn them all off."""
        return self.faults

    @property
    def subscriptions(self) -> dict[str, Subscription]:
        """Webhook subscriptions by id."""
        return self.deliveries.subscriptions

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """Every webhook attempt: `{"event_type", "event_id", "status" (0: no connection), "headers", "body"}`."""
        return self.deliveries.attempts

    def add_chat(
        self,
        *handles: str,
        chat_id: str | None = None,
        service: Literal["iMessage", "SMS", "RCS"] = "iMessage",
        line: str | None = None,
    ) -> str:
        """A chat with these people (two or more make a group); answers its id."""
        chat = Chat(
            chat_id=chat_id or str(uuid.uuid4()), line=line or self.line, handles=list(handles), service=service
        )
        self.chats[chat.chat_id] = chat
        return chat.chat_id

    def subscribe(self, target_url: str, *, phone_numbers: Sequence[str] = (), secret: str = "") -> str:
        """A webhook subscription as the vendor's page would make it; answers its signing secret."""
        made = self.deliveries.create(
            {
                "target_url": target_url,
                "subscribed_events": ["location.sharing.started", "location.sharing.stopped"],
                "phone_numbers": list(phone_numbers),
            }
        )
        made.signing_secret = secret or made.signing_secret
        return made.signing_secret

    def share(
        self,
        chat: str | None,
        handle: str,
        latitude: float,
        longitude: float,
        *,
        altitude: float | None = None,
        address: str | None = None,
        locality: str | None = None,
        seconds: float | None = None,
        began_at: datetime | None = None,
        line: str | None = None,
        notify: bool = True,
    ) -> Sharing:
        """A person begins to share (for `seconds`, or without end); the webhook goes out unless told not to."""
        now = self.clock()
        known = self.chats.get(chat) if chat is not None else None
        began = began_at or now
        sharing = Sharing(
            handle=handle,
            line=line or (known.line if known else self.line),
            chat_id=chat,
            began_at=began,
            ends_at=None if seconds is None else began + timedelta(seconds=seconds),
            latitude=latitude,
            longitude=longitude,
            altitude=altitude,
            address=address,
            locality=locality,
            updated_at=now,
        )
        for older in self._active(handle):
            if older.line == sharing.line:
                older.active = False
        self.sharings.append(sharing)
        if notify:
            self.notify("started", sharing)
        return sharing

    def move(self, handle: str, latitude: float, longitude: float, *, updated_at: datetime | None = None) -> None:
        """A person who shares is somewhere else now."""
        for sharing in self._active(handle):
            sharing.latitude, sharing.longitude = latitude, longitude
            sharing.updated_at = updated_at or self.clock()

    def stop_sharing(self, handle: str, *, notify: bool = True) -> None:
        """A person stops sharing, in every chat."""
        for sharing in self._active(handle):
            sharing.active = False
            if notify:
                self.notify("stopped", sharing)

    def notify(self, kind: Literal["started", "stopped"], sharing: Sharing, **changes: Any) -> str:
        """Sends the webhook of a share (again, if one likes); `changes` replace fields of `data`. Answers its id."""
        data: dict[str, Any] = {
            "shared_by": sharing.handle,
            "shared_with": sharing.line,
            "began_at": wire_time(sharing.began_at),
            "chat_id": sharing.chat_id,
        }
        if kind == "started":
            data["ends_at"] = None if sharing.ends_at is None else wire_time(sharing.ends_at)
        else:
            data["ended_at"] = wire_time(self.clock())
        if self.faults.without_began_at:
            del data["began_at"]
        return self.send(f"location.sharing.{kind}", {**data, **changes}, line=sharing.line)

    def send(self, event_type: str, data: Any, *, line: str | None = None) -> str:
        """Delivers any event to every subscription that wants it; answers its event_id."""
        event_id = str(uuid.uuid4())
        envelope = {
            "api_version": API_VERSION,
            "webhook_version": WEBHOOK_VERSION,
            "event_type": event_type,
            "event_id": event_id,
            "created_at": wire_time(self.clock()),
            "trace_id": uuid.uuid4().hex,
            "partner_id": self.partner_id,
            "data": data,
        }
        self.deliveries.send(envelope, line=line)
        return event_id

    async def delivered(self) -> None:
        """Waits until every webhook was taken or given up."""
        await self.deliveries.settled()

    def visible(self, chat: Chat) -> list[Sharing]:
        """Who can be seen in a chat now."""
        now = self.clock()
        return [
            sharing
            for sharing in self.sharings
            if sharing.handle in chat.handles
            and sharing.line == chat.line
            and (self.faults.linger or (sharing.active and (sharing.ends_at is None or sharing.ends_at > now)))
        ]

    def _active(self, handle: str) -> list[Sharing]:
        return [sharing for sharing in self.sharings if sharing.active and sharing.handle == handle]


def wire_time(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as the vendor writes times."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
