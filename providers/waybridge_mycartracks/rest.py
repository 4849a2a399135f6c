"""The vendor's REST API: last positions, page by page, and stream sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from yarl import URL

from waybridge import CredentialsRejected, SourceUnavailable
from waybridge_mycartracks.budget import Budget
from waybridge_mycartracks.exchange import Reply, exchange
from waybridge_mycartracks.oauth import Tokens
from waybridge_mycartracks.paging import MOST_PAGES, Foreign, Next, knows_its_size, next_page
from waybridge_mycartracks.payload import Fix, StreamSession, find_rows, parse_row, parse_session, row_vehicle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from datetime import datetime

    from waybridge import ProviderContext
    from waybridge_mycartracks.settings import MyCarTracksSettings

_LARGEST_PAGE: Final = 8 * 1024 * 1024
_LARGEST_SESSION: Final = 65_536
_BARREN_PAGES: Final = 2
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403


@dataclass(frozen=True, slots=True)
class Opening:
    """A stream session, and the vendor's clock when it made it (None where the answer has no Date)."""

    session: StreamSession
    vendor_now: datetime | None


@dataclass(slots=True)
class _Fetched:
    """What is known while pages are read."""

    vehicles: set[str] = field(default_factory=set)
    pages: int = 0
    barren: int = 0


class Rest:
    """Requests with the account's token, inside the request budget. Raises CredentialsRejected, SourceUnavailable."""

    def __init__(self, settings: MyCarTracksSettings, context: ProviderContext) -> None:
        self._settings = settings
        self._context = context
        self._tokens = Tokens(settings, context)
        self._budget = Budget(settings.requests_per_minute, context)
        self._base = URL(settings.base_url)
        self._refused_again = False
        self._warned = False

    async def prove(self) -> None:
        """Asks for one position: proves credentials, scope and address."""
        self._decoded(await self._request("GET", self._positions, params={"limit": "1"}))

    async def last_positions(self) -> AsyncGenerator[list[Fix], None]:
        """Every vehicle's last position, a list for each page; rows without coordinates are counted and left out."""
        fetched = _Fetched()
        where, params = self._positions, {"limit": str(self._settings.page_size)}
        while True:
            reply = await self._request("GET", where, params=params)
            body = self._decoded(reply)
            rows = find_rows(body)
            if rows is None:
                self._context.count("unknown_shape")
                self._context.log.warning("last positions came in an unknown shape; relying on the stream")
                return
            fixes = [fix for row in rows if (fix := parse_row(row, self._settings.speed_unit)) is not None]
            if skipped := len(rows) - len(fixes):
                self._context.count("row_without_position", skipped)
            yield fixes
            following = self._following(fetched, rows, body, reply)
            if following is None:
                return
            where, params = (following.url, {}) if following.url else (self._positions, self._page(following))

    async def create_stream(self) -> Opening:
        """Makes a stream session; its address serves once."""
        settings = self._settings
        wanted: dict[str, Any] = {
            "includeSharedVehicles": settings.include_shared_vehicles,
            "minIntervalSeconds": settings.interval,
            "fields": list(settings.fields),
        }
        if settings.vehicle_ids is not None:
            wanted["vehicleIds"] = list(settings.vehicle_ids)
        if settings.vehicle_group_ids is not None:
            wanted["vehicleGroupIds"] = list(settings.vehicle_group_ids)
        reply = await self._request("POST", self._base / "vehicles/livePositions/stream", body=wanted)
        session = parse_session(self._decoded(reply)) if len(reply.body) <= _LARGEST_SESSION else None
        if session is None:
            self._context.count("unknown_shape")
            raise SourceUnavailable(f"the stream request was answered {reply.status} without a websocketUrl")
        return Opening(session, reply.date)

    @property
    def _positions(self) -> URL:
        return self._base / "vehicles/lastPositions"

    def _page(self, following: Next) -> dict[str, str]:
        return {"limit": str(self._settings.page_size), "page": str(following.page)}

    def _following(self, fetched: _Fetched, rows: Sequence[Any], body: Any, reply: Reply) -> Next | None:
        before = len(fetched.vehicles)
        fetched.vehicles.update(vehicle for row in rows if (vehicle := row_vehicle(row)) is not None)
        fetched.pages += 1
        # A vendor that counts pages from 1 answers the first page twice; two pages without news are the end.
        fetched.barren = 0 if len(fetched.vehicles) > before else fetched.barren + 1
        if not rows or fetched.barren >= _BARREN_PAGES or fetched.pages >= MOST_PAGES:
            return None
        following = next_page(body, reply.link, reply.url, asked=fetched.pages, seen=len(fetched.vehicles))
        if isinstance(following, Foreign):
            self._context.count("foreign_next_page")
            self._context.log.warning("the next page of last positions is on another host; it is not followed")
            return None
        if following is None and len(rows) >= self._settings.page_size and not knows_its_size(body):
            self._warn_truncated(len(rows))
        return following

    def _warn_truncated(self, rows: int) -> None:
        if not self._warned:
            self._warned = True
            self._context.log.warning("last positions are possibly truncated; the stream brings the rest", rows=rows)

    async def _request(
        self, method: str, url: URL, *, params: Mapping[str, str] | None = None, body: Any = None
    ) -> Reply:
        """One request, repeated once with another token after a 401; an answer other than 2xx is raised."""
        token = await self._tokens.current()
        reply = await self._send(method, url, token, params, body)
        if reply.status == _UNAUTHORIZED:
            self._context.count("token_refused")
            fresh = await self._tokens.after(token)
            reply = await self._send(method, url, fresh, params, body)
            if reply.status == _UNAUTHORIZED:
                self._tokens.drop(fresh)
                raise self._twice_refused(reply, fresh != token)
        self._refused_again = False
        if not reply.ok:
            raise self._failure(method, reply)
        return reply

    async def _send(self, method: str, url: URL, token: str, params: Mapping[str, str] | None, body: Any) -> Reply:
        await self._budget.spend()
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return await exchange(
            self._context.session,
            method,
            url,
            headers=headers,
            params=params,
            body=None if body is None else msgspec.json.encode(body),
            largest=_LARGEST_PAGE,
            secrets=self._tokens.secrets,
        )

    def _twice_refused(self, reply: Reply, another: bool) -> Exception:  # noqa: FBT001
        """A new token refused is final. The vendor may hand out the refused token again: that is given one more try."""
        said = f"401 with a fresh token: {reply.excerpt(self._tokens.secrets)}"
        if another or self._refused_again:
            return CredentialsRejected(said)
        self._refused_again = True
        return SourceUnavailable(f"401, and the token endpoint handed out the refused token: {said}")

    def _failure(self, method: str, reply: Reply) -> Exception:
        said = f"{method} {reply.url.path} answered {reply.status}: {reply.excerpt(self._tokens.secrets)}"
        if reply.status == _FORBIDDEN:
            chosen = self._settings.vehicle_ids or self._settings.vehicle_group_ids
            whom = f" (asked for {', '.join(map(str, chosen[:20]))})" if chosen else ""
            return CredentialsRejected(f"{said}; the credentials lack the scope or these vehicles{whom}")
        if reply.is_redirect:
            return SourceUnavailable(f"{method} {reply.url.path} answered {reply.status}, a redirect: correct base_url")
        return SourceUnavailable(said, retry_after=reply.retry_after)

    def _decoded(self, reply: Reply) -> Any:
        try:
            return msgspec.json.decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        self._context.count("unknown_shape")
        raise SourceUnavailable(f"{reply.url.path} answered {reply.status} with something that is not JSON")
