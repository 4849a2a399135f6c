"""Who shares with us: the rules of a share's life, pure.

A share is known by (line it is shared with, handle that shares, began_at). A person is a source; the person shares
while at least one share is open, on whichever line. A stop always wins: whatever began no later than the newest
share known to have ended on that line is over, in whatever order the events come.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from waybridge_imessage.wire import SharingEvent

UNKNOWN_LINE = ""
INSTANT = timedelta(microseconds=1)
REDISCOVER_AFTER = timedelta(seconds=60)
Change: TypeAlias = Literal["started", "stopped", "extended"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """An open share. `found`: seen by reading, not told; its line is unknown and `began_at` is when we saw it."""

    line: str
    began_at: datetime
    ends_at: datetime | None = None
    chat: str | None = None
    found: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """All that is known of one handle.

    `ended`: line -> the newest `began_at` that is over. `stopped_at` is the vendor's time of the last end,
    `noted_at` ours. `met`: a profile was reported.
    """

    shares: tuple[Share, ...] = ()
    ended: Mapping[str, datetime] = field(default_factory=dict)
    stopped_at: datetime | None = None
    noted_at: datetime | None = None
    met: bool = False

    @property
    def chats(self) -> frozenset[str]:
        """The chats in which the open shares can be read."""
        return frozenset(share.chat for share in self.shares if share.chat is not None)


def heard(person: Person, event: SharingEvent, now: datetime) -> tuple[Person, Change]:
    """What a webhook changes."""
    after = _started(person, event) if event.kind == "started" else _stopped(person, event, now)
    return after, _change(person, after)


def found(person: Person, chat: str, updated_at: datetime | None, read_at: datetime) -> tuple[Person, Change]:
    """A read at `read_at` shows a person: a share that no webhook told of, unless it may be an echo of an ended one."""
    if person.shares:
        return person, None
    if person.stopped_at is not None:
        fresh = updated_at is not None and updated_at > person.stopped_at
        settled = person.noted_at is None or read_at > person.noted_at + REDISCOVER_AFTER
        if not fresh or not settled:
            return person, None
    share = Share(line=UNKNOWN_LINE, began_at=read_at, chat=chat, found=True)
    after = replace(person, shares=(share,))
    return after, _change(person, after)


def over(person: Person, share: Share, now: datetime) -> tuple[Person, Change]:
    """A share that ended by the clock (its time is up, or nothing could be read of it for long)."""
    after = _without(person, (share,), share.line, share.began_at)
    after = replace(after, stopped_at=now, noted_at=now)
    return after, _change(person, after)


def introduced(person: Person) -> Person:
    """The person, whose profile has been reported."""
    return replace(person, met=True)


def _started(person: Person, event: SharingEvent) -> Person:
    began_at = event.began_at or event.created_at
    mark = person.ended.get(event.shared_with)
    if mark is not None and began_at <= mark:
        return person
    told = Share(line=event.shared_with, began_at=began_at, ends_at=event.ends_at, chat=event.chat_id)
    known = next((s for s in person.shares if s.line == event.shared_with or s.found), None)
    if known is None:
        return replace(person, shares=(*person.shares, told))
    if not known.found and began_at <= known.began_at:
        return person
    told = replace(told, chat=told.chat or known.chat)
    return replace(person, shares=tuple(told if s is known else s for s in person.shares))


def _stopped(person: Person, event: SharingEvent, now: datetime) -> Person:
    ended_at = min(event.ended_at or event.created_at, now)
    hit = tuple(s for s in person.shares if (s.line == event.shared_with or s.found) and _ends(s, event))
    after = _without(person, hit, event.shared_with, event.began_at or event.created_at)
    if person.shares and not hit:
        return after
    known = person.stopped_at
    # Ends follow each other, so that what begins next begins after all of them.
    stopped_at = ended_at if known is None else max(known + INSTANT if hit else known, ended_at)
    return replace(after, stopped_at=stopped_at, noted_at=now)


def _ends(share: Share, event: SharingEvent) -> bool:
    """Whether a stop is of this share or of a later one, not of an earlier one that came late."""
    if share.found:
        return max(event.ended_at or event.created_at, event.created_at) >= share.began_at
    if event.began_at is not None:
        return event.began_at >= share.began_at
    return event.created_at > share.began_at


def _without(person: Person, gone: tuple[Share, ...], line: str, began_at: datetime) -> Person:
    mark = person.ended.get(line)
    ended = {**person.ended, line: began_at if mark is None else max(mark, began_at)}
    return replace(person, shares=tuple(s for s in person.shares if s not in gone), ended=ended)


def _change(before: Person, after: Person) -> Change:
    if not before.shares:
        return "started" if after.shares else None
    if not after.shares:
        return "stopped"
    return "extended" if ends_at(after) != ends_at(before) else None


def ends_at(person: Person) -> datetime | None:
    """When the last open share is due to end; None while one has no end."""
    ends = [share.ends_at for share in person.shares]
    return max((e for e in ends if e is not None), default=None) if None not in ends else None


def dump(person: Person) -> dict[str, Any]:
    """A person as JSON for the keyed state."""
    return {
        "shares": [
            {
                "line": s.line,
                "began_at": s.began_at.isoformat(),
                "ends_at": _iso(s.ends_at),
                "chat": s.chat,
                "found": s.found,
            }
            for s in person.shares
        ],
        "ended": {line: at.isoformat() for line, at in sorted(person.ended.items())},
        "stopped_at": _iso(person.stopped_at),
        "noted_at": _iso(person.noted_at),
        "met": person.met,
    }


def load(value: Any) -> Person:
    """A person from the keyed state; an unknown one for None."""
    if value is None:
        return Person()
    return Person(
        shares=tuple(
            Share(
                line=s["line"],
                began_at=_time(s["began_at"]),
                ends_at=None if s["ends_at"] is None else _time(s["ends_at"]),
                chat=s["chat"],
                found=s["found"],
            )
            for s in value["shares"]
        ),
        ended={line: _time(at) for line, at in value["ended"].items()},
        stopped_at=None if value["stopped_at"] is None else _time(value["stopped_at"]),
        noted_at=None if value["noted_at"] is None else _time(value["noted_at"]),
        met=value["met"],
    )


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
