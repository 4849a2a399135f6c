"""Which page of last positions comes next. The vendor publishes no paging, so the usual ways are understood.

In this order: a `Link: rel="next"` header or a `next` address in the body (same origin only), then page and
total numbers of the envelope. Pure: answers what to ask for, does not ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_PAGES: Final = 100
_PLACES: Final = ("", "page", "paging", "pagination", "meta")
_PAGE: Final = ("page", "number", "pageNumber", "currentPage")
_PAGES: Final = ("totalPages", "pages", "pageCount")
_TOTAL: Final = ("total", "totalElements", "totalCount", "totalRows", "totalItems")


@dataclass(frozen=True, slots=True)
class Next:
    """Where the next page is: a whole address, or the number of a page of the same resource."""

    url: URL | None = None
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Foreign:
    """The next page would be on another origin; it is not followed."""


def next_page(body: Any, link: URL | str | None, current: URL, *, asked: int, seen: int) -> Next | Foreign | None:
    """What follows the page at `current`; None when the vendor names nothing.

    `asked` is the number of pages had so far, `seen` the number of rows in them.
    """
    if (address := link or _address(body)) is not None:
        return _same_origin(current, address)
    for envelope in _envelopes(body):
        page, pages, total = (_whole(envelope, names) for names in (_PAGE, _PAGES, _TOTAL))
        following = (page if page is not None else asked - 1) + 1
        if pages is not None:
            return Next(page=following) if asked < pages else None
        if total is not None:
            return Next(page=following) if seen < total else None
        more = envelope.get("hasMore", envelope.get("hasNext"))
        if isinstance(more, bool):
            return Next(page=following) if more else None
    return None


def knows_its_size(body: Any) -> bool:
    """Whether the envelope itself says how much there is, so that a full page is no sign of a cut one."""
    return any(
        _whole(envelope, _PAGES) is not None
        or _whole(envelope, _TOTAL) is not None
        or isinstance(envelope.get("hasMore", envelope.get("hasNext")), bool)
        for envelope in _envelopes(body)
    )


def _same_origin(current: URL, address: URL | str) -> Next | Foreign | None:
    try:
        target = current.join(URL(address) if isinstance(address, str) else address)
        same = target.origin() == current.origin() and target.user is None
    except ValueError:
        return Foreign()
    if not same:
        return Foreign()
    return Next(url=target) if target != current else None


def _address(body: Any) -> str | None:
    if not isinstance(body, dict):
        return None
    for place in ("", "links", "_links", "paging", "page", "meta"):
        holder = body if not place else body.get(place)
        if not isinstance(holder, dict):
            continue
        found = holder.get("next")
        if isinstance(found, dict):
            found = found.get("href")
        if isinstance(found, str) and found:
            return found
    return None


def _envelopes(body: Any) -> list[Mapping[str, Any]]:
    if not isinstance(body, dict):
        return []
    return [place for name in _PLACES if isinstance(place := body if not name else body.get(name), dict)]


def _whole(envelope: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = envelope.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
