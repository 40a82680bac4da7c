"""Serving under load with perf_analyzer: closed loop and Poisson arrivals, one row and 64 a request, gRPC and HTTP.

    python -m benchmarks.load --data SAF --batch 1
    python -m benchmarks.load --responses responses.jsonl --write-input load.json

The second writes what perf_analyzer sends to a server of your own (columns `task` and `text`). Loads take turns,
`--rounds` times. After every load Triton's own counters must have grown by what was sent, and the canary.
perf_analyzer runs on the server's own cores.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import case, data
from benchmarks.case import Case, Column
from benchmarks.perf_analyzer import Load, find_program, write_input
from benchmarks.rows import ROOT, Row
from benchmarks.serving import serving
from benchmarks.speed import UNIFORM, make_store

CONCURRENCY = {1: (1, 4, 16, 64, 128), 64: (1, 2, 4, 8)}
"""Rows a request → requests in flight."""
SHARES = (0.3, 0.6, 0.8, 0.95, 1.1)
"""Arrivals as shares of the most that the closed loop reached."""
FEWEST_REQUESTS, FIRST_GUESS_ROWS_PER_S = 8, 100.0

Series = tuple[str, int, str]
"""Protocol, rows a request, mode."""


def traffic(pool: Sequence[tuple[str, str]], rows: int, popularity: str, seed: int = 6) -> list[tuple[str, str]]:
    """Return rows, (task, text): tasks by popularity, each with texts of its own."""
    draw = random.Random(seed)
    texts: dict[str, list[str]] = {}
    for task, text in pool:
        texts.setdefault(task, []).append(text)
    names = draw.sample(sorted(texts), len(texts))
    return [(task, draw.choice(texts[task])) for task in data.popular(popularity, names, rows, draw)]


@dataclass
class Sweep:
    """Runs loads, and keeps every round's figures by series and level."""

    program: str
    ports: tuple[int, int]
    input: Path
    seconds: float
    measured: dict[Series, dict[float, list[dict[str, Any]]]] = field(default_factory=dict)

    def run(self, series: Series, level: float) -> None:
        """Measure one load for about `seconds`."""
        protocol, batch, mode = series
        levels = self.measured.setdefault(series, {})
        last = next((runs[-1]["rows_per_s"] for runs in reversed(levels.values())), FIRST_GUESS_ROWS_PER_S)
        rate = level if mode == "rate" else last / batch
        # In a closed loop the first and last requests meet an emptier server: they must be few.
        fewest = max(FEWEST_REQUESTS, round(level)) if mode == "rate" else 3 * int(level)
        load = Load(protocol, batch, mode, level, max(fewest, round(self.seconds * rate)))
        found = load.measure(self.program, self.ports, self.input, self.input.with_name("measured.csv"))
        print(f"{protocol} {batch} {mode} {level:g}: {found['rows_per_s']:,.0f} rows/s", file=sys.stderr)
        levels.setdefault(level, []).append(found)

    def most_rows_per_s(self, batch: int) -> float:
        """Return the best that any protocol's closed loop reached."""
        closed = [levels for (_, rows, mode), levels in self.measured.items() if (rows, mode) == (batch, "concurrency")]
        return max(float(run["rows_per_s"]) for levels in closed for runs in levels.values() for run in runs)

    def points(self, series: Series) -> list[dict[str, float]]:
        """Return the medians over the rounds by level, lowest level first, with the spread of rows/s."""
        found = []
        for _, runs in sorted(self.measured[series].items()):
            point = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
            rates = [run["rows_per_s"] for run in runs]
            found.append({**point, "spread": (max(rates) - min(rates)) / point["rows_per_s"]})
        return found


def knee(points: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return where more load begins to buy more waiting than work.

    argmax of t − l, with throughput t and median latency l each scaled to 0…1 over the curve (Kneedle).
    """

    def scaled(name: str) -> Any:
        values = np.array([point[name] for point in points])
        return (values - values.min()) / ((values.max() - values.min()) or 1.0)

    return points[int(np.argmax(scaled("rows_per_s") - scaled("p50_ms")))]


def load(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Yield a row for each protocol, rows a request, and mode."""
    repository = make_store(ROOT, arguments.data, UNIFORM, ["plain"], work)
    pool = [(row.task, row.text) for row in data.read_rows(case.data_folder(arguments.data), "train")]
    write_input(traffic(pool, 1024, arguments.popularity), work / "load.json")
    with serving(repository, work / "serve.log", "--profile", arguments.profile) as server:
        sweep = Sweep(find_program(), (server.grpc, server.http), work / "load.json", arguments.seconds)
        for mode in ("concurrency", "rate"):
            for _ in range(arguments.rounds):
                for batch in arguments.batch:
                    most = sweep.most_rows_per_s(batch) / batch if mode == "rate" else 0.0
                    levels = [round(share * most, 2) for share in SHARES] if most else CONCURRENCY[batch]
                    for level in levels:
                        for protocol in arguments.protocols:
                            sweep.run((protocol, batch, mode), level)
    setting = {"data": arguments.data, "profile": arguments.profile, "popularity": arguments.popularity}
    for series in sweep.measured:
        named = dict(zip(("protocol", "batch", "mode"), series, strict=True))
        points = sweep.points(series)
        yield {**setting, **named, "rounds": arguments.rounds, "points": points, "knee": knee(points)}


CASES = (
    Case(
        "load",
        "Where more load begins to buy more waiting than work: the knee of latency over throughput",
        (
            Column("data", "data"),
            Column("profile", "profile"),
            Column("protocol", "protocol"),
            Column("rows a request", "batch"),
            Column("mode", "mode"),
            Column("level", "knee.level", "{:g}"),
            Column("rows/s", "knee.rows_per_s", "{:,.0f}"),
            Column("spread", "knee.spread", "{:.2f}"),
            Column("p50 ms", "knee.p50_ms", "{:,.0f}"),
            Column("p99 ms", "knee.p99_ms", "{:,.0f}"),
            Column("queue ms", "knee.queue_ms", "{:,.1f}"),
            Column("compute ms", "knee.compute_ms", "{:,.0f}"),
        ),
        ("data", "profile", "protocol", "batch", "mode"),
        load,
    ),
)


def main() -> None:
    parser = case.parser(CASES, __doc__, rounds=3)
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--batch", type=int, nargs="*", choices=CONCURRENCY, default=list(CONCURRENCY))
    parser.add_argument("--protocols", nargs="*", choices=("grpc", "http"), default=["grpc", "http"])
    parser.add_argument("--popularity", choices=data.POPULARITIES, default="zipf", help="of tasks")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each load lasts, about")
    parser.add_argument("--responses", type=Path, help="with --write-input: JSONL of your own responses")
    parser.add_argument("--write-input", type=Path, help="write what perf_analyzer sends, and measure nothing")
    arguments = parser.parse_args()
    if arguments.write_input:
        source = arguments.responses or ROOT / "examples" / "saf" / "responses.jsonl"
        pool = [(row["task"], row["text"]) for row in map(json.loads, source.read_text(encoding="utf-8").splitlines())]
        write_input(traffic(pool, arguments.rows, arguments.popularity), arguments.write_input)
        return
    case.main(CASES, arguments)


if __name__ == "__main__":
    main()
