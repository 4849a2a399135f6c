"""What a run found: the rows P1 to P15 and W1 to W3 with their goals, every figure behind them, as a table and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import Work, machine

GOALS = {
    "P1": ("single positions, SQLite NORMAL, against OwnTracks with 1 / 1,000 devices", "2.5x / 60x"),
    "P2": ("the same with FULL, acknowledged after commit, against 1 device", "1.8x"),
    "P3": ("batches of 100 against our own single positions", "6x SQLite, 12x PostgreSQL"),
    "P4": ("live WebSocket against HTTP, singles / batches", "3x / 1.3x"),
    "P5": ("batch ingest on SQLite against raw executemany", "0.6x"),
    "P6": ("fan-out to 500 viewers against Nchan: per CPU-second / CPU at 100 k/s", "0.8x / at most 1.0x"),
    "P7": ("fan-out against Node ws, websockets, mosquitto", "1.7x, 1.6x, 1.3x"),
    "P8": ("200 k positions/s delivered to 200 fleet viewers", "under 25 % of a core"),
    "P9": ("POST to viewer at 1,000 positions/s, FULL", "p50 <= 0.6 ms, p99 <= 4 ms"),
    "P10": ("last position by REST against OwnTracks (100 devices)", "20x"),
    "P11": ("memory a viewer, session state included", "<= 18 kB"),
    "P12": ("10 % of 1,000 viewers stop reading", "others' p99 within 20 %, <= 64 kB each"),
    "P13": ("cost per position as devices and viewers grow", "flat, and linear"),
    "P14": ("memory for 100,000 known devices", "<= 1 kB a device"),
    "P15": ("added by a hop over NATS", "<= 0.5 ms p50, <= 60 us CPU"),
    "W1": ("commit of an event to the first attempt of its webhook", "p95 < 200 ms"),
    "W2": ("drain of 100,000 webhooks to one fast target", "measured"),
    "W3": ("webhooks to 49 targets while a 50th hangs, by the clock and by CPU", "lose < 10 %"),
}
NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Row:
    """One goal: what was found, and whether that reaches it."""

    found: str
    note: str
    reached: bool


class Report:
    """Filled by the benches, printed and written at the end."""

    def __init__(self) -> None:
        self.machine = machine()
        self.rows: dict[str, Row] = {}
        self.figures: list[dict[str, Any]] = []
        self.series: dict[str, list[tuple[float, float]]] = {}

    def row(self, name: str, found: str, note: str = "", *, reached: bool) -> None:
        self.rows[name] = Row(found, note, reached and found != NOT_RUN)
        print(f"{name:4} {found}  [goal: {GOALS[name][1]}]  {note}", flush=True)

    def figure(self, bench: str, name: str, unit: str, work: Work) -> None:
        """Work that was measured."""
        self.figures.append({"bench": bench, "name": name, "unit": unit, **work.told()})
        print(
            f"     {name}: {work.per_cpu_second:,.0f} {unit} a CPU-second, {work.per_second:,.0f}/s "
            f"(server {work.server_cpu:.2f} s, generator {work.generator_cpu:.2f} s of CPU in {work.seconds:.2f} s)",
            flush=True,
        )

    def number(self, bench: str, name: str, **values: float) -> None:
        """Other numbers: latencies in ms, bytes."""
        self.figures.append({"bench": bench, "name": name, **{key: round(value, 4) for key, value in values.items()}})
        print(f"     {name}: " + ", ".join(f"{key} {value:,.3g}" for key, value in values.items()), flush=True)

    def point(self, series: str, x: float, y: float) -> None:
        """A point of the plot."""
        self.series.setdefault(series, []).append((x, y))

    def table(self) -> str:
        lines = ["| # | what | goal | found | reached | |", "|---|---|---|---|---|---|"]
        for name, (what, goal) in GOALS.items():
            row = self.rows.get(name, Row(NOT_RUN, "", reached=False))
            lines.append(f"| {name} | {what} | {goal} | {row.found} | {'yes' if row.reached else 'no'} | {row.note} |")
        return "\n".join(lines)

    def as_json(self) -> str:
        rows = {
            name: {"what": what, "goal": goal, **_told(self.rows.get(name))} for name, (what, goal) in GOALS.items()
        }
        return json.dumps(
            {"machine": self.machine, "rows": rows, "figures": self.figures, "series": self.series}, indent=1
        )

    def write(self, folder: Path) -> Path:
        """Writes table, JSON and plot into a folder; returns the table's place."""
        from bench.plot import plot  # noqa: PLC0415 - only where there is something to draw

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.json").write_text(self.as_json())
        place = folder / "bench.md"
        heading = ", ".join(f"{key} {value}" for key, value in self.machine.items() if key != "versions")
        place.write_text(f"{heading}\n\n{self.table()}\n")
        if self.series:
            (folder / "cost.svg").write_text(plot(self.series))
        return place


def _told(row: Row | None) -> dict[str, Any]:
    if row is None:
        return {"found": NOT_RUN, "note": "", "reached": False}
    return {"found": row.found, "note": row.note, "reached": row.reached}
