"""One socket against the stand-in: watchdogs, strange frames, addresses that are not opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mycartracks_harness import Bench, HandClock, started, times

from waybridge import SourceUnavailable
from waybridge_mycartracks.payload import StreamSession
from waybridge_mycartracks.stream_socket import stream_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from waybridge_mycartracks import MyCarTracksSimulator


async def test_a_silent_socket_is_given_up_after_two_heartbeats_and_fifteen_seconds(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    ours = await started(bench())
    vendor.faults.mute = True

    await clock.advance(74)
    assert ours.ended == []
    await clock.advance(2)

    assert "silent for 75 s" in str(ours.ended[0])
    assert ours.counts["silent_socket"] == 1


async def test_heartbeats_alone_keep_a_socket(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    ours = await started(bench())
    vendor.faults.still = True
    await clock.advance(400)

    assert ours.ended == []
    assert vendor.streams_created == 1


async def test_a_socket_without_greeting_is_closed_after_ten_seconds(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.faults.mute = True
    ours = await started(bench())
    assert vendor.open_sockets == 1

    await clock.advance(10)

    assert "did not say connected within 10 s" in str(ours.ended[0])
    assert vendor.open_sockets == 0


async def test_a_first_position_greets_as_well(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.faults.greets = False
    ours = await started(bench())
    vendor.move(1, 48.0, 17.0)
    await clock.advance(40)

    assert ours.ended == []
    assert times(ours) == [0.0]


async def test_strange_frames_are_counted_and_harm_nothing(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], clock: HandClock
) -> None:
    vendor.faults.strange = vendor.faults.error_events = True
    ours = await started(bench())
    await clock.advance(31)
    vendor.move(1, 48.0, 17.0)
    await clock.advance(0)

    assert ours.ended == []
    assert times(ours) == [31.0]
    assert {
        name: ours.counts[name] for name in ("unknown_event", "malformed_frame", "binary_frame", "vendor_error")
    } == {
        "unknown_event": 1,
        "malformed_frame": 1,
        "binary_frame": 1,
        "vendor_error": 1,
    }


async def test_a_frame_over_64_kib_ends_the_socket(vendor: MyCarTracksSimulator, bench: Callable[..., Bench]) -> None:
    vendor.faults.oversized_frame = True
    ours = await started(bench())

    assert [type(error) for error in ours.ended] == [SourceUnavailable]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"websocket_host": "evil.example"}, "allowed_stream_hosts"),
        ({"websocket_host": "user:pass@127.0.0.1"}, "allowed_stream_hosts"),
        ({"websocket_host": "127.0.0.1.evil.example"}, "allowed_stream_hosts"),
        ({"websocket_scheme": "http"}, "not encrypted"),
        ({"websocket_scheme": "file"}, "not encrypted"),
    ],
)
async def test_a_socket_on_another_host_or_scheme_is_not_opened(
    vendor: MyCarTracksSimulator, bench: Callable[..., Bench], fault: dict[str, str], said: str
) -> None:
    for name, value in fault.items():
        setattr(vendor.faults, name, value)
    ours = await started(bench())

    assert said in str(ours.ended[0])
    assert "token" not in str(ours.ended[0])
    assert vendor.sockets_opened == 0


async def test_an_unencrypted_socket_is_refused_beyond_this_machine(
    bench: Callable[..., Bench], vendor: MyCarTracksSimulator
) -> None:
    settings = bench(base_url="https://mycartracks.com/services/rest/v3").settings
    session = StreamSession(
        websocket_url="ws://mycartracks.com/x?token=1", expires_at=None, heartbeat_seconds=30, min_interval_seconds=5
    )

    with pytest.raises(SourceUnavailable, match="not encrypted"):
        stream_address(session, settings)
