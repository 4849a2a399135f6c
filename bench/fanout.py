"""Fan-out: the realtime socket and one share session to many viewers, against bare writes and other servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from bench import peers
from bench.load import Positions, seed_devices, upgrade
from bench.measure import Watch, Work, memory_bytes, percentiles, total, unsent_bytes
from bench.report import NOT_RUN, Report
from bench.servers import Gateway, running
from bench.viewers import Tally, close_viewers, open_each, open_viewers

WINDOW, FEW = 32, 4
"""Positions on their way at saturation, and where each is waited for almost alone."""
MARK = b'"type":"position"'
VIEWERS = 500


class Publisher(asyncio.Protocol):
    """One connection that writes publications and looks for refusals in the answers."""

    def __init__(self) -> None:
        self.refused: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if b"HTTP/1.1 4" in data or b"HTTP/1.1 5" in data or b'"accepted":0' in data:
            self.refused = data


async def publisher(target: peers.Target) -> Publisher:
    made = (
        await asyncio.get_running_loop().create_connection(Publisher, "127.0.0.1", target.publish_port)
    )[1]
    if target.greeting:
        made.transport.write(target.greeting)
        await asyncio.sleep(0.2)
    return made


def frame_like(number: int) -> bytes:
    """A position frame as the gateway writes it, for peers that pass on what they are given."""
    return (
        b'{"type":"position","DeviceToken":"bench-%06d","Lat":52.%06d,"Lng":13.000001,"Speed":8.4,"Heading":12.5,'
        b'"Accuracy":4.7,"TrackToken":"0b7a3a0e-6a55-4a3d-9f0c-1d2f9c6f2f10","DisplayIdentifier":"bench-%06d",'
        b'"Timestamp":1700000000}' % (number % 100, number % 1_000_000, number % 100)
    )


async def saturate(
    target: peers.Target, positions: Positions | None, count: int, start: int, viewers: int, window: int = WINDOW
) -> Work:
    """`count` positions to all viewers as fast as they take them, `window` on the way. Counts frames."""
    tally = Tally(MARK)
    crowd = await open_viewers(
        target.viewer_port, viewers, tally, target.upgrade, target.hello, target.ready_mark
    )
    try:
        await asyncio.sleep(1.0)  # snapshots go out before the clock starts
        made = await publisher(target)
        bodies = [frame_like(n) for n in range(count)] if positions is None else positions.singles(start, count)
        frames = [target.publication(body) for body in bodies]
        begun = tally.frames
        with Watch(target.pids) as watch:
            for number, frame in enumerate(frames, start=1):
                made.transport.write(frame)
                tally.want(begun + max(0, number - window) * viewers)
                async with asyncio.timeout(30):
                    await tally.enough.wait()
            tally.want(begun + count * viewers)
            async with asyncio.timeout(30):
                await tally.enough.wait()
        made.transport.abort()
        if made.refused is not None:
            raise RuntimeError(made.refused[:300].decode(errors="replace"))
        return watch.work(tally.frames - begun)
    finally:
        close_viewers(crowd)
        await asyncio.sleep(0.3)


async def fanout(report: Report, folder: Path, others: peers.Peers, *, quick: bool) -> None:
    """P6, P7, P8, P11 and P12."""
    rounds, count = (2, 60) if quick else (4, 400)
    found: dict[str, list[Work]] = {}
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(running(folder / "gateway"))
        positions = Positions(100)
        await seed_devices(gateway, positions)
        targets = [peers.gateway_realtime(gateway)]
        for name in others.names:
            peer = await stack.enter_async_context(others.running(name, folder / name.replace(" ", "-")))
            if peer is not None:
                targets.append(peer)
        few: dict[str, list[Work]] = {}
        start = 0
        for _ in range(rounds):
            for target in targets:
                own = positions if target.name == "Waybridge" else None
                found.setdefault(target.name, []).append(await saturate(target, own, count, start, VIEWERS))
                start += count
            for target in targets:
                if target.name in ("Waybridge", "bare writes", "Nchan"):
                    own = positions if target.name == "Waybridge" else None
                    few.setdefault(target.name, []).append(await saturate(target, own, count, start, VIEWERS, FEW))
                    start += count
        works = {name: total(each) for name, each in found.items()}
        for name, work in works.items():
            report.figure("fanout", f"{name}, {VIEWERS} viewers", "frames", work)
        for name, each in few.items():
            report.figure("fanout", f"{name}, {VIEWERS} viewers, {FEW} positions on the way", "frames", total(each))
        _against(report, works)
        await fleet(report, gateway, seconds=5.0 if quick else 20.0)
    await memory(report, folder)
    async with running(folder / "slow") as gateway:
        await slow(report, gateway, seconds=18.0 if quick else 40.0)


def _against(report: Report, works: dict[str, Work]) -> None:
    ours = works["Waybridge"].per_cpu_second
    bare = ours / works["bare writes"].per_cpu_second
    report.number("fanout", "against the bare cost of writing the same frames", ratio=bare)
    if "Nchan" in works:
        ratio = ours / works["Nchan"].per_cpu_second
        report.row("P6", f"{ratio:.2f}x / {1 / ratio:.2f}x", "CPU at a rate from CPU a frame", reached=ratio >= 1.0)
    else:
        report.row("P6", NOT_RUN, "Nchan is not installed", reached=False)
    parts, good = [], True
    for name, least in (("Node ws", 1.7), ("websockets", 1.6), ("mosquitto", 1.3)):
        if name in works:
            ratio = ours / works[name].per_cpu_second
            good = good and ratio >= least
            parts.append(f"{ratio:.2f}x {name}")
        else:
            good = False
            parts.append(f"{name} {NOT_RUN}")
    report.row("P7", ", ".join(parts), reached=good)


async def fleet(report: Report, gateway: Gateway, *, seconds: float) -> None:
    """P8: 1,000 positions a second in batches of 100 to 200 viewers of the whole fleet, by the clock."""
    target, tally = peers.gateway_realtime(gateway), Tally(MARK)
    positions = Positions(1000, "fleet")
    await seed_devices(gateway, positions)
    crowd = await open_viewers(target.viewer_port, 200, tally, target.upgrade, target.hello, target.ready_mark)
    await asyncio.sleep(2.0)
    made, begun, batches = await publisher(target), tally.frames, int(seconds * 10)
    loop = asyncio.get_running_loop()
    with Watch(target.pids) as watch:
        start = loop.time()
        for number in range(batches):
            await asyncio.sleep(max(0.0, start + number / 10 - loop.time()))
            made.transport.write(target.publication(positions.batches(number * 100, 1)[0]))
        await asyncio.sleep(max(0.0, start + seconds - loop.time()))
    work = watch.work(tally.frames - begun)
    close_viewers(crowd)
    made.transport.abort()
    report.figure("fanout", "fleet of 1,000 to 200 viewers at 1,000 positions/s", "frames", work)
    share = work.server_cpu / work.seconds
    delivered = work.amount / (batches * 100 * 200)
    report.row(
        "P8", f"{100 * share:.0f} % of a core", f"{work.per_second:,.0f} delivered/s, {100 * delivered:.0f} % of all",
        reached=share < 0.25 and delivered > 0.95 and work.per_second > 190_000,
    )  # fmt: skip


async def share_of(gateway: Gateway, device: str) -> str:
    """A share session of a device, moving each second; returns the path of its live socket."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {gateway.token()}"}) as http:
        body = {
            "instance_id": "default", "device_token": device, "expires_in_hours": 1,
            "share_config": {"update_interval_seconds": 1},
        }  # fmt: skip
        async with http.post(f"http://127.0.0.1:{gateway.port}/api/v1/sharing/sessions", json=body) as answer:
            told = await answer.json()
            if answer.status not in (200, 201):
                raise RuntimeError(json.dumps(told))
    share_token = told.get("share_token") or told["links"]["api_url"].rpartition("/")[2]
    return f"/api/v1/share/{share_token}/live"


async def streams_of(gateway: Gateway, count: int) -> list[str]:
    """The paths of new stream sessions of the whole instance."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {gateway.token()}"}) as http:
        paths = []
        for _ in range(count):
            body = {"instance_id": "default"}
            async with http.post(f"http://127.0.0.1:{gateway.port}/api/v1/streams", json=body) as answer:
                told = await answer.json()
                if answer.status != 201:
                    raise RuntimeError(json.dumps(told))
            paths.append("/" + told["websocket_url"].split("/", 3)[3])
        return paths


async def memory(report: Report, folder: Path) -> None:
    """P11: memory of viewers of one share session, of the realtime socket and of streams; a share's cost per frame.

    Each in a gateway of its own: what others left free would be used again, and hide what a viewer takes.
    """
    found, many = {}, 1000
    for name in ("share", "realtime", "stream"):
        async with running(folder / f"memory-{name}") as gateway:
            positions, tally = Positions(100), Tally(MARK)
            await seed_devices(gateway, positions)
            greetings, hello, ready = await _greetings(gateway, name, positions, many + 50)
            warm = await open_each(gateway.port, greetings[:50], tally, hello, ready)
            await asyncio.sleep(0.5)
            before = memory_bytes(gateway.pid)
            crowd = await open_each(gateway.port, greetings[50:], tally, hello, ready)
            await asyncio.sleep(1.0)
            found[name] = (memory_bytes(gateway.pid) - before) / many
            report.number("fanout", f"memory a viewer, {name}, {many:,} viewers, 100 devices", kB=found[name] / 1000)
            if name == "share":
                await _share_frames(report, gateway, positions, tally, len(crowd) + len(warm))
            close_viewers([*crowd, *warm])
    told = ", ".join(f"{name} {each / 1000:.1f}" for name, each in found.items())
    report.row(
        "P11", f"{max(found.values()) / 1000:.1f} kB", f"the dearest of {told}; a stream keeps what each device was told",
        reached=max(found.values()) <= 18_000,
    )  # fmt: skip


async def _greetings(
    gateway: Gateway, kind: str, positions: Positions, count: int
) -> tuple[list[bytes], Sequence[bytes], bytes]:
    """(a handshake for each viewer, what it says then, what it waits for)."""
    match kind:
        case "share":
            return [upgrade(await share_of(gateway, positions.token(0)))] * count, (), MARK
        case "realtime":
            target = peers.gateway_realtime(gateway)
            return [target.upgrade] * count, target.hello, target.ready_mark
        case _:
            return [upgrade(each) for each in await streams_of(gateway, count)], (), b'"connected"'


async def _share_frames(report: Report, gateway: Gateway, positions: Positions, tally: Tally, viewers: int) -> None:
    """A share session that moves once a second, told to all its viewers."""
    made, target = await publisher(peers.gateway_realtime(gateway)), peers.gateway_realtime(gateway)
    begun, seconds = tally.frames, 8
    with Watch([gateway.pid]) as watch:
        for number in range(seconds):
            made.transport.write(target.publication(positions.singles(number * 100, 1)[0]))
            await asyncio.sleep(1.05)
    made.transport.abort()
    report.figure("fanout", f"one share session, {viewers:,} viewers, a move a second", "frames", watch.work(tally.frames - begun))


async def slow(report: Report, gateway: Gateway, *, seconds: float) -> None:
    """P12: 1,000 viewers; in every other turn 100 of them do not read. The others' latencies, what waits for the slow.

    A turn is short enough that nobody is cut. 100 positions a second in ten writes fill a small socket in a moment.
    """
    positions = Positions(10)
    await seed_devices(gateway, positions)
    target, tally = peers.gateway_realtime(gateway), Tally(MARK)
    shake = (target.upgrade, target.hello, target.ready_mark)
    crowd = await open_viewers(target.viewer_port, 100, tally, *shake, receive_bytes=4096)
    crowd += await open_viewers(target.viewer_port, 900, tally, *shake)
    await asyncio.sleep(1.0)
    made, number = await publisher(target), 0
    for viewer in crowd[900:]:
        viewer.timed = True
    late: dict[bool, list[float]] = {False: [], True: []}
    backlog, stuck, before, turns = 0, 0, memory_bytes(gateway.pid), 6
    rate, batch = 10, 10
    for turn in range(turns):
        stopped = turn % 2 == 1
        for viewer in crowd[:100]:
            viewer.transport.pause_reading() if stopped else viewer.transport.resume_reading()
        tally.latencies = []
        start = time.perf_counter()
        for moment in range(int(seconds / turns * rate)):
            await asyncio.sleep(max(0.0, start + moment / rate - time.perf_counter()))
            for each in range(number, number + batch):
                tally.scheduled[each % 1_000_000] = start + moment / rate
            made.transport.write(target.publication(positions.batches(number, 1, batch)[0]))
            number += batch
        await asyncio.sleep(0.5)
        late[stopped] += tally.latencies
        if stopped:
            waiting = [each for each in unsent_bytes(gateway.port) if each]
            backlog, stuck = max(backlog, *waiting, 0), max(stuck, len(waiting))
    kept = max(0, memory_bytes(gateway.pid) - before) / 100
    close_viewers(crowd)
    made.transport.abort()
    tails = [percentiles(late[stopped])[1] * 1000 for stopped in (False, True)]
    report.number(
        "fanout", "1,000 viewers, p99 ms", all_read=tails[0], tenth_stopped=tails[1], stuck=stuck,
        kernel_bytes=backlog, gateway_bytes=kept,
    )  # fmt: skip
    change = tails[1] / tails[0] - 1
    report.row(
        "P12", f"{100 * change:+.0f} %, {(backlog + kept) / 1000:.0f} kB",
        f"p99 {tails[0]:.1f} -> {tails[1]:.1f} ms with {stuck} viewers stuck; kernel and gateway together",
        reached=change <= 0.2 and backlog + kept <= 64_000 and stuck >= 100,
    )  # fmt: skip
