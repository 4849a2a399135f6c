"""Share sessions as recipients meet them: what a link shows, and who looked (contract section 8, seed 001)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import structlog

from waybridge.errors import Gone, NotFound, StoreUnavailable
from waybridge.sharing import lifecycle, view
from waybridge.store import sessions as store
from waybridge.vault import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from waybridge.bus import Fix
    from waybridge.eta import Arrivals
    from waybridge.roster import Device, Roster
    from waybridge.store.engine import Store, Tx
    from waybridge.store.sessions import ShareSession

log = structlog.get_logger("waybridge.sharing")

UNKNOWN_LINK = "this link is unknown or has expired"
SEEN_KEPT = 50_000


class UnknownLink(NotFound):
    """No session ever had this token (or it was purged): a miss, perhaps a guess."""


class Recipients:
    """What links show. `brand` gives an instance's name and colour."""

    def __init__(
        self, *, store: Store, roster: Roster, arrivals: Arrivals, brand: Callable[[str], Mapping[str, Any]]
    ) -> None:
        self._store = store
        self._roster = roster
        self._arrivals = arrivals
        self._brand = brand
        self._counted: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def public_state(self, share_token: str, client: str) -> dict[str, Any]:
        """What a link shows, as GET answers it; counts a first view from `client`.

        Raises UnknownLink, NotFound (expired) and Gone; the first two look the same.
        """
        session = await self.by_token(share_token)
        status = None if session is None else session.status_at(self._store.now_us())
        if session is None:
            raise UnknownLink(UNKNOWN_LINK)
        if status == "expired":
            raise NotFound(UNKNOWN_LINK)
        if status != "active":
            raise Gone(f"this link was {status}")
        found = self.seen(session, await self.past_trip(session))
        if found.fix is not None:
            await self._view_from(session, share_token, client)
        eta = None
        if found.fix is not None and found.destination is not None and self._wants_eta(session, found):
            eta = await self._arrivals.soon(found.device_id or 0, found.fix, found.destination)
        return self._answer(session, found, eta)

    async def by_token(self, share_token: str) -> ShareSession | None:
        """The session behind a link, whatever its state; None for a token that is unknown."""
        async with self._store.read() as conn:
            return await store.session_by_digest(conn, digest(share_token))

    async def by_id(self, session_id: str) -> ShareSession | None:
        """The session as the database has it now."""
        async with self._store.read() as conn:
            return await store.session_by_id(conn, session_id)

    async def past_trip(self, session: ShareSession) -> view.PastTrip | None:
        """The session's own trip, where its device is on another one by now."""
        device = self._device(session)
        if device is None or session.track_token is None or not view.needs_past(session, device):
            return None
        async with self._store.read() as conn:
            found = await store.last_of_trip(conn, device.id, session.track_token)
        return None if found is None else view.PastTrip(*found)

    # -- for live viewers: nothing here waits

    def seen(self, session: ShareSession, past: view.PastTrip | None) -> view.Sight:
        """What an active session shows now."""
        return view.sight(session, self._device(session), past)

    def trip_left(self, session: ShareSession, fix: Fix) -> view.PastTrip | None:
        """The session's trip with its last fix, if the device has gone on to another trip."""
        return view.PastTrip(fix, None) if view.needs_past(session, self._device(session)) else None

    def position_frame(self, session: ShareSession, found: view.Sight) -> dict[str, Any]:
        """The live frame of what is seen; only while there is a fix."""
        if found.fix is None:
            raise ValueError("there is no position to tell")
        return view.position(session, found, found.fix, now_us=self._store.now_us(), eta=self._eta_now(session, found))

    def updated_frame(self, session: ShareSession, found: view.Sight) -> dict[str, Any]:
        """The live frame after a change of the session: all that GET answers."""
        return {"type": "session_updated", **self._answer(session, found, self._eta_now(session, found))}

    # -- views

    async def count_views(self, session_id: str, count: int) -> None:
        """Counts sockets that got their first position. A database that is down costs the count, not the viewer."""

        async def unit(tx: Tx) -> None:
            await self._count(tx, session_id, count)

        try:
            await self._store.write(unit)
        except StoreUnavailable:
            log.warning("Views were not counted; the database is down", session=session_id, count=count)

    async def _view_from(self, session: ShareSession, share_token: str, client: str) -> None:
        if (session.id, client) in self._counted:
            return
        # Keyed by the link's secret, so that the table alone says nothing about who looked.
        address = hashlib.blake2b(client.encode(), key=share_token.encode()[:64], digest_size=16).digest()

        async def unit(tx: Tx) -> None:
            if await store.first_seen_from(tx, session.id, address):
                await self._count(tx, session.id, 1)

        try:
            await self._store.write(unit)
        except StoreUnavailable:
            log.warning("A view was not counted; the database is down", session=session.id)
            return
        self._counted[session.id, client] = None
        if len(self._counted) > SEEN_KEPT:
            self._counted.popitem(last=False)

    @staticmethod
    async def _count(tx: Tx, session_id: str, count: int) -> None:
        session = await store.add_views(tx, session_id, count)
        if session is not None and session.views == count:
            lifecycle.tell(tx, session, "viewed")

    # -- parts

    def _device(self, session: ShareSession) -> Device | None:
        return self._roster.device(session.instance_id, session.device_token)

    def _wants_eta(self, session: ShareSession, found: view.Sight) -> bool:
        return session.share_config.show_eta and not found.stale(self._store.now_us())

    def _eta_now(self, session: ShareSession, found: view.Sight) -> int | None:
        if found.fix is None or found.destination is None or not self._wants_eta(session, found):
            return None
        return self._arrivals.now(found.device_id or 0, found.fix, found.destination)

    def _answer(self, session: ShareSession, found: view.Sight, eta: int | None) -> dict[str, Any]:
        return view.answer(
            session, found, now_us=self._store.now_us(), eta=eta, brand=self._brand(session.instance_id)
        )
