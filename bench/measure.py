"""What is measured: CPU and memory of processes from the kernel, percentiles, and the machine they belong to."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """CPU that a process took so far, user and system, all its threads.

    The kernel's CPU clock of the process (nanoseconds); where it has none, utime + stime of /proc/PID/stat.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def children(pid: int) -> list[int]:
    """A process's children, and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def unsent_bytes(port: int) -> list[int]:
    """What the kernel holds unsent for each connection of a local port (tx_queue of /proc/net/tcp)."""
    mark = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = (line.split() for line in lines)
    return [int(row[4].partition(":")[0], 16) for row in rows if row[1].endswith(mark) and row[3] == "01"]


@dataclass(slots=True)
class Work:
    """A piece of work that was measured: what it took the server and the load generator."""

    amount: int
    seconds: float
    server_cpu: float
    generator_cpu: float

    @property
    def per_cpu_second(self) -> float:
        return self.amount / max(self.server_cpu, 1e-9)

    @property
    def per_second(self) -> float:
        return self.amount / max(self.seconds, 1e-9)

    def told(self) -> dict[str, float]:
        return {
            "amount": self.amount,
            "seconds": round(self.seconds, 3),
            "server_cpu_seconds": round(self.server_cpu, 3),
            "generator_cpu_seconds": round(self.generator_cpu, 3),
            "per_cpu_second": round(self.per_cpu_second, 1),
            "per_second": round(self.per_second, 1),
        }


class Watch:
    """Measures processes over a block: `with Watch(pids) as watch: ...`, then `watch.work(amount)`.

    The block's own process is the load generator; helpers of it (`generators`) are counted with it.
    """

    def __init__(self, servers: Sequence[int], generators: Sequence[int] = ()) -> None:
        self._servers = servers
        self._generators = generators
        self.seconds = self.server_cpu = self.generator_cpu = 0.0

    def __enter__(self) -> Watch:
        self._marks = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        began, now = self._marks, self._now()
        self.seconds, self.server_cpu, self.generator_cpu = (b - a for a, b in zip(began, now, strict=True))

    def work(self, amount: int) -> Work:
        return Work(amount, self.seconds, self.server_cpu, self.generator_cpu)

    def _now(self) -> tuple[float, float, float]:
        return (
            time.perf_counter(),
            sum(map(cpu_seconds, self._servers)),
            time.process_time() + sum(map(cpu_seconds, self._generators)),
        )


def total(works: Sequence[Work]) -> Work:
    """Several rounds of the same work as one."""
    return Work(
        sum(each.amount for each in works),
        sum(each.seconds for each in works),
        sum(each.server_cpu for each in works),
        sum(each.generator_cpu for each in works),
    )


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """(p50, p99)."""
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]


def machine() -> dict[str, object]:
    """Where and with what the numbers were made."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    versions = {"python": platform.python_version()}
    for name in ("waybridge", "aiohttp", "uvloop", "msgspec", "SQLAlchemy", "asyncpg", "websockets"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": model,
        "cores": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
        "revision": _revision(),
    }


def _revision() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"
