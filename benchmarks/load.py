"""Serving under load with perf_analyzer: closed loop and Poisson arrivals, one row and 64 a request, gRPC and HTTP.

    python -m benchmarks load --data SAF --batch 1
    python -m benchmarks load_input responses.jsonl load.json

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

from benchmarks import data
from benchmarks.case import ONE_PROFILE, case, data_folder
from benchmarks.perf_analyzer import Load, find_program, write_input
from benchmarks.rows import Row
from benchmarks.serving import serving
from benchmarks.stores import make_store

CONCURRENCY = {1: (1, 4, 16, 64, 128), 64: (1, 2, 4, 8)}
"""Rows a request → requests in flight."""
SHARES = (0.3, 0.6, 0.8, 0.95, 1.1)
"""Arrivals as shares of the most that the closed loop reached."""
FEWEST_REQUESTS, FIRST_GUESS_ROWS_PER_S = 8, 100.0

POPULARITY: dict[str, Any] = {"choices": data.POPULARITIES, "default": "zipf", "help": "of tasks"}
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
        sent = Load(protocol, batch, mode, level, max(fewest, round(self.seconds * rate)))
        figures = sent.measure(self.program, self.ports, self.input, self.input.with_name("measured.csv"))
        print(f"{protocol} {batch} {mode} {level:g}: {figures['rows_per_s']:,.0f} rows/s", file=sys.stderr)
        levels.setdefault(level, []).append(figures)

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


@case(
    columns=(
        "data; profile; protocol; rows a request = batch; mode; level = knee.level:g; "
        "rows/s = knee.rows_per_s:,.0f; spread = knee.spread:.2f; p50 ms = knee.p50_ms:,.0f; "
        "p99 ms = knee.p99_ms:,.0f; queue ms = knee.queue_ms:,.1f; compute ms = knee.compute_ms:,.0f"
    ),
    keys="data profile protocol batch mode",
    options={
        **ONE_PROFILE,
        "--batch": {"type": int, "nargs": "*", "choices": CONCURRENCY, "default": list(CONCURRENCY)},
        "--protocols": {"nargs": "*", "choices": ("grpc", "http"), "default": ["grpc", "http"]},
        "--popularity": POPULARITY,
        "--seconds": {"type": float, "default": 1.0, "help": "how long each load lasts, about"},
    },
    defaults={"rounds": 3},
)
def load(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Where more load begins to buy more waiting than work: the knee of latency over throughput."""
    repository = make_store(work, arguments.data)
    pool = [(row.task, row.text) for row in data.read_rows(data_folder(arguments.data), "train")]
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


def write_load(words: list[str]) -> None:
    """Write what perf_analyzer sends from responses of the user's own, and measure nothing."""
    parser = argparse.ArgumentParser("python -m benchmarks load_input")
    parser.add_argument("responses", type=Path, help="JSONL with task and text")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=512, help="how many (default: %(default)s)")
    parser.add_argument("--popularity", **POPULARITY)
    arguments = parser.parse_args(words)
    lines = arguments.responses.read_text(encoding="utf-8").splitlines()
    pool = [(row["task"], row["text"]) for row in map(json.loads, lines)]
    write_input(traffic(pool, arguments.rows, arguments.popularity), arguments.out)
