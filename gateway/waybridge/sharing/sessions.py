"""Share sessions as operators make, read, change and end them: every rule and limit (contract section 8, seed 000)."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import structlog

from waybridge.errors import Conflict, Invalid, NotFound
from waybridge.model import Place, canonical_token
from waybridge.sharing import lifecycle, view
from waybridge.store import sessions as store
from waybridge.store.sessions import ShareConfig, ShareSession, Status
from waybridge.vault import VaultError, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from waybridge.roster import Roster
    from waybridge.settings_tables import LimitSettings, SharingSettings
    from waybridge.store.engine import Store, Tx
    from waybridge.vault import Vault

log = structlog.get_logger("waybridge.sharing")

HOUR_US = 3_600_000_000
TOKEN_BYTES = 16
ABSENT = "no such share session"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """What a caller asks for; lengths and ranges are checked at the border."""

    device_token: str
    hours: float = 24
    recipient_name: str | None = None
    notes: str | None = None
    order_id: str | None = None
    track_token: str | None = None
    destination: Place | None = None
    share_config: ShareConfig = field(default_factory=ShareConfig)

    def fingerprint(self) -> bytes:
        """The same for the same request, whatever the order of its keys."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode("utf-8", "surrogatepass")).digest()


class Sharing(lifecycle.Endings):
    """Share sessions of all instances.

    `base_url` is the API's address, `share_base_url` that of the pages.
    """

    def __init__(
        self,
        *,
        store: Store,
        roster: Roster,
        vault: Vault,
        limits: LimitSettings,
        settings: SharingSettings,
        base_url: Callable[[], str],
        share_base_url: Callable[[], str],
    ) -> None:
        self._store = store
        self._roster = roster
        self._vault = vault
        self._limits = limits
        self._settings = settings
        self._base_url = base_url
        self._share_base_url = share_base_url

    async def create(
        self, instance_id: str, wanted: NewSession, *, key: str | None = None, created_by: str | None = None
    ) -> ShareSession:
        """Makes a session; `key` (Idempotency-Key) makes a repeated request answer with the first one's.

        Raises NotFound for an unknown device, Conflict at the limit of active sessions, Invalid when an idempotency
        key comes back with another body.
        """
        wanted = replace(wanted, device_token=canonical_token(wanted.device_token))
        token = secrets.token_urlsafe(TOKEN_BYTES)
        session_id = secrets.token_hex(12)
        sealed = self._vault.seal(token, bound_to=f"share_sessions/{session_id}")

        async def unit(tx: Tx) -> ShareSession:
            if key is not None:
                await store.lock(tx, "idempotency", instance_id, key)
                known = await self._repeated(tx, instance_id, key, wanted)
                if known is not None:
                    return known
            await store.lock(tx, "shares", instance_id, wanted.device_token)
            device = self._roster.device(instance_id, wanted.device_token)
            number = await store.device_number(tx.conn, instance_id, wanted.device_token)
            if number is None and not self._settings.allow_unknown_devices:
                raise NotFound("no such device")
            most = self._limits.active_sessions_per_device
            if await store.count_active(tx.conn, instance_id, wanted.device_token, tx.now_us) >= most:
                raise Conflict(f"the device has {most} active share sessions, which is the most; end one first")
            session = ShareSession(
                id=session_id,
                instance_id=instance_id,
                device_token=wanted.device_token,
                device_id=number,
                token_sealed=sealed,
                created_us=tx.now_us,
                updated_us=tx.now_us,
                expires_us=tx.now_us + round(wanted.hours * HOUR_US),
                order_id=wanted.order_id,
                recipient_name=wanted.recipient_name,
                notes=wanted.notes,
                track_token=wanted.track_token,
                destination=wanted.destination,
                share_config=wanted.share_config,
                created_by=created_by,
            )
            await store.add_session(tx, session, digest(token))
            await lifecycle.begin(tx, session, device)
            if key is not None:
                await store.remember_key(tx, instance_id, key, wanted.fingerprint(), session_id)
            return session

        return await self._store.write(unit)

    async def session(self, instance_id: str, session_id: str) -> ShareSession:
        """Raises NotFound."""
        async with self._store.read() as conn:
            found = await store.session_of(conn, instance_id, session_id)
        if found is None:
            raise NotFound(ABSENT)
        return found

    async def sessions(
        self,
        instance_id: str,
        *,
        status: Status | None,
        device_token: str | None,
        order_id: str | None,
        limit: int,
        offset: int,
    ) -> tuple[list[ShareSession], int]:
        """(a page, newest first; the total)."""
        if device_token is not None:
            try:
                device_token = canonical_token(device_token)
            except ValueError:
                return [], 0
        async with self._store.read() as conn:
            return await store.sessions_of(
                conn,
                instance_id,
                now_us=self._store.now_us(),
                status=status,
                device_token=device_token,
                order_id=order_id,
                limit=limit,
                offset=offset,
            )

    async def change(self, instance_id: str, session_id: str, changes: Mapping[str, Any]) -> ShareSession:
        """Changes an active session.

        `changes` holds what was sent, by the names of the API: `share_config` with only the keys that change (None
        for the defaults), `expires_in_hours` from now on. Raises NotFound, Conflict.
        """

        async def unit(tx: Tx) -> ShareSession:
            session = await self._locked(tx, instance_id, session_id)
            status = session.status_at(tx.now_us)
            if status != "active":
                raise Conflict(f"the session is {status}; only an active one can be changed")
            values = {name: value for name, value in changes.items() if name != "expires_in_hours"}
            if "share_config" in values:
                given = values["share_config"]
                values["share_config"] = ShareConfig() if given is None else replace(session.share_config, **given)
            if "expires_in_hours" in changes:
                values["expires_us"] = min(
                    tx.now_us + round(changes["expires_in_hours"] * HOUR_US),
                    session.created_us + round(self._limits.share_hours * HOUR_US),
                )
            if not values:
                return session
            changed = await store.change_session(tx, session_id, values)
            period = {"ends_us": changed.expires_us, "shared_with": changed.recipient_name or changed.id}
            await store.change_share_period(tx, session_id, period)
            lifecycle.tell(tx, changed, "updated")
            return changed

        return await self._store.write(unit)

    async def complete(self, instance_id: str, session_id: str) -> ShareSession:
        """Ends a session as done; again is the same. Raises NotFound, Conflict."""
        return await self._end(instance_id, session_id, "completed")

    async def cancel(self, instance_id: str, session_id: str) -> ShareSession:
        """Ends a session as withdrawn; again is the same. Raises NotFound, Conflict."""
        return await self._end(instance_id, session_id, "cancelled")

    def describe(self, session: ShareSession) -> dict[str, Any]:
        """A session as operators read it (seed 000, contract section 8); times in unix seconds."""
        token = self._token(session)
        page = None if token is None else f"{self._share_base_url()}/share/{token}"
        api = None if token is None else f"{self._base_url()}/api/v1/share/{token}"
        return {
            "id": session.id,
            "share_token": token,
            "share_url": page,
            "links": {
                "map_url": page,
                "api_url": api,
                "ws_url": None if api is None else f"ws{api.removeprefix('http')}/live",
            },
            "device_token": session.device_token,
            "instance_id": session.instance_id,
            "status": session.status_at(self._store.now_us()),
            "created_at": _unix(session.created_us),
            "expires_at": _unix(session.expires_us),
            "order_id": session.order_id,
            "recipient_name": session.recipient_name,
            "notes": session.notes,
            "track_token": session.track_token,
            "destination": view.place(session.destination),
            "share_config": asdict(session.share_config),
            "updated_at": _unix(session.updated_us),
            "completed_at": _unix(session.completed_us),
            "cancelled_at": _unix(session.cancelled_us),
            "views": session.views,
        }

    async def purge(self) -> int:
        """Forgets links that ended long ago (they answer 404 then) and old idempotency keys; how many links."""

        async def unit(tx: Tx) -> int:
            return await store.purge(
                tx,
                ended_before_us=tx.now_us - round(self._settings.keep_ended_days * 24 * HOUR_US),
                keys_before_us=tx.now_us - round(self._settings.idempotency_hours * HOUR_US),
            )

        return await self._store.write(unit)

    # -- rules that both sides of a transaction share

    async def _end(self, instance_id: str, session_id: str, ending: lifecycle.Ending) -> ShareSession:
        async def unit(tx: Tx) -> ShareSession:
            session = await self._locked(tx, instance_id, session_id)
            status = session.status_at(tx.now_us)
            if status == ending:
                return session
            if status != "active":
                raise Conflict(f"the session is {status} already")
            return await lifecycle.finish(tx, session_id, ending) or session

        return await self._store.write(unit)

    @staticmethod
    async def _locked(tx: Tx, instance_id: str, session_id: str) -> ShareSession:
        session = await store.locked_session(tx, instance_id, session_id)
        if session is None:
            raise NotFound(ABSENT)
        return session

    async def _repeated(self, tx: Tx, instance_id: str, key: str, wanted: NewSession) -> ShareSession | None:
        since = tx.now_us - round(self._settings.idempotency_hours * HOUR_US)
        known = await store.remembered_key(tx.conn, instance_id, key, since)
        if known is None:
            return None
        if known[0] != wanted.fingerprint():
            raise Invalid(
                "the idempotency key was used with another body",
                errors=[("Idempotency-Key", "was used with another body")],
            )
        return await store.session_of(tx.conn, instance_id, known[1])

    def _token(self, session: ShareSession) -> str | None:
        try:
            return self._vault.open(session.token_sealed, bound_to=f"share_sessions/{session.id}")
        except VaultError:
            log.exception("A share link cannot be shown; none of secret_keys opens it", session=session.id)
            return None


def _unix(us: int | None) -> int | None:
    return None if us is None else us // 1_000_000
