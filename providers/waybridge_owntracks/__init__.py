"""Phones with OwnTracks in HTTP mode: `https://user:<device-bound token>@host/ingest/<connection>/`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import msgspec

from waybridge import (
    Answer,
    Capabilities,
    Position,
    Profile,
    Provider,
    ProviderSettings,
    Push,
    PushRejected,
    Receipt,
    Rejection,
    Report,
    SourceKey,
    hookimpl,
    vendor_device_token,
)

MAX_ITEMS: Final = 1000


class OwnTracksSettings(ProviderSettings):
    """Nothing to set; who may push is in the token."""


class OwnTracks(Provider[OwnTracksSettings]):
    """Takes OwnTracks' JSON, one object or a list, and answers the empty list that its apps expect.

    A phone without a move pings only every quarter of an hour or so, hence the long `stale_after`.
    """

    kind: ClassVar[str] = "owntracks"
    Settings: ClassVar[type[ProviderSettings]] = OwnTracksSettings
    capabilities: ClassVar[Capabilities] = Capabilities(
        receives=True, stale_after=900.0, expected_interval=60.0, token_in=frozenset({"header", "basic", "query"})
    )

    async def check(self) -> None:
        """Nothing to prove: phones come to us."""

    async def receive(self, push: Push) -> Receipt:
        """Items that cannot be used are counted, not told: the apps would send them for ever."""
        if push.method != "POST" or any(push.segments):
            raise PushRejected(405 if push.method != "POST" else 404, reason="OwnTracks posts to the connection itself")
        reports: list[Report] = []
        rejected: list[Rejection] = []
        for index, item in enumerate(_items(push.body)):
            try:
                reports += parse(item, self.context.source(self._external_id(push, item)))
            except (ValueError, OverflowError, OSError, msgspec.ValidationError) as error:
                rejected.append(Rejection(index, "item", str(error)))
        self.context.count("refused_items", len(rejected))
        return Receipt(reports=reports, rejected=rejected, answer=Answer(body=b"[]"))

    def _external_id(self, push: Push, item: Any) -> str:
        """`user/device` of the topic or of the headers, else the tracker id; a bound token decides by itself."""
        user, device = push.headers.get("x-limit-u"), push.headers.get("x-limit-d")
        match item:
            case {"topic": str(topic)} if topic.startswith("owntracks/"):
                name = "/".join(topic.split("/")[1:3])
            case _ if user and device:
                name = f"{user}/{device}"
            case {"tid": str(name)}:
                pass
            case _:
                name = ""
        bound = push.sender.device_token if push.sender is not None else None
        if bound not in {None, vendor_device_token(self.context.instance_id, self.context.connection_id, name)}:
            name = str(bound)
        if not name:
            raise ValueError("names no device: no topic, no X-Limit-U and X-Limit-D, no tid, no bound token")
        return name


class _Location(msgspec.Struct):
    """OwnTracks' units: km/h, degrees, per cent, unix seconds."""

    lat: float
    lon: float
    tst: float
    acc: float | None = None
    alt: float | None = None
    vel: float | None = None
    cog: float | None = None
    batt: float | None = None


def parse(item: Any, source: SourceKey) -> list[Report]:
    """One payload -> its reports; types other than a location or a card have none.

    Raises ValueError, OverflowError, OSError and msgspec's ValidationError.
    """
    match item:
        case {"_type": "location"}:
            fix = msgspec.convert(item, _Location)
        case {"_type": "card", "name": str(name)} if name.isprintable():
            return [Profile(source=source, full_name=name)]
        case {"_type": str()}:
            return []
        case _:
            raise ValueError("must be an object with a _type")
    return [
        Position(
            source=source,
            latitude=fix.lat,
            longitude=fix.lon,
            recorded_at=datetime.fromtimestamp(fix.tst, UTC),
            altitude_m=fix.alt,
            accuracy_m=fix.acc,
            speed_mps=None if fix.vel is None else fix.vel / 3.6,
            heading_deg=fix.cog,
            battery=None if fix.batt is None else fix.batt / 100,
            attributes={f"owntracks.{key}": item[key] for key in ("t", "tid") if isinstance(item.get(key), str)},
        )
    ]


def _items(body: bytes) -> list[Any]:
    """The payloads of a body; none in an empty one, which the apps send when a friend is deleted."""
    try:
        tree = msgspec.json.decode(body) if body else []
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        problem = {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": f"not JSON: {error}"}
        headers = {"Content-Type": "application/problem+json"}
        raise PushRejected(400, msgspec.json.encode(problem), headers=headers) from error
    return tree[:MAX_ITEMS] if isinstance(tree, list) else [tree]


@hookimpl
def waybridge_providers() -> list[type[Provider[OwnTracksSettings]]]:
    return [OwnTracks]
