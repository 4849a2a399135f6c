"""Tickets: values that are kept for a while and handed out once, whichever node is asked.

They lie among the stream sessions, under keys of their own; the ticket itself is kept as its digest only.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, delete

from waybridge.store.tables import stream_sessions

if TYPE_CHECKING:
    from waybridge.store.engine import Tx

_PREFIX: Final = "ticket:"


async def keep_ticket(tx: Tx, digest: bytes, value: Any, expires_us: int) -> None:
    """Keeps a JSON value until `expires_us`; clears tickets that nobody came with."""
    mine = stream_sessions.c.stream_id.startswith(_PREFIX)
    await tx.conn.execute(delete(stream_sessions).where(and_(stream_sessions.c.expires_us <= tx.now_us, mine)))
    await tx.conn.execute(
        stream_sessions.insert().values(
            stream_id=_PREFIX + digest.hex(),
            instance_id="",
            token_digest=digest,
            spec=json.dumps(value),
            created_us=tx.now_us,
            expires_us=expires_us,
        )
    )


async def take_ticket(tx: Tx, digest: bytes) -> Any:
    """The value of a ticket, which is gone afterwards; None when it is unknown, used or over."""
    used = delete(stream_sessions).where(stream_sessions.c.stream_id == _PREFIX + digest.hex())
    row = (await tx.conn.execute(used.returning(stream_sessions.c.spec, stream_sessions.c.expires_us))).first()
    return json.loads(row.spec) if row is not None and row.expires_us > tx.now_us else None
