"""Read what perf_analyzer exported: its CSV (`-f FILE --verbose-csv`) or its JSON (`--profile-export-file`).

    python -m benchmarks.perf_report closed-1.csv closed-2.csv closed-4.csv

Prints the latency-throughput curve, the server's queue and compute, and the knee.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

_MS = {
    "p50_ms": "p50 latency",
    "p90_ms": "p90 latency",
    "p99_ms": "p99 latency",
    "queue_ms": "Server Queue",
    "compute_ms": "Server Compute Infer",
    "copies_ms": "",
    "network_ms": "Network+Server Send/Recv",
}
_COPIES = ("Server Compute Input", "Server Compute Output")


@dataclass(frozen=True)
class Point:
    """One load: so many requests under way (mode `concurrency`), or sent each second (mode `rate`).

    Client: rows/s and request latencies in ms. Server, mean ms of a request: waiting in the queue, in the model, in
    copies to and from it; `network_ms` is the rest. Server's are NaN where the export does not tell them.
    """

    mode: str
    level: float
    rows_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    queue_ms: float = float("nan")
    compute_ms: float = float("nan")
    copies_ms: float = float("nan")
    network_ms: float = float("nan")


def read_csv(path: Path) -> list[Point]:
    """Return the points of a CSV, lowest level first. Raises ValueError naming the column that is missing."""
    points = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                mode = "concurrency" if "Concurrency" in row else "rate"
                level = float(row["Concurrency" if mode == "concurrency" else "Request Rate"])
                times = {name: float(row[column]) / 1000 for name, column in _MS.items() if column}
                times["copies_ms"] = sum(float(row[column]) for column in _COPIES) / 1000
                points.append(Point(mode=mode, level=level, rows_per_s=float(row["Inferences/Second"]), **times))
            except KeyError as error:
                raise ValueError(f"{path} has no column {error}; is it perf_analyzer's CSV?") from error
    if not points:
        raise ValueError(f"{path} holds no measurement: perf_analyzer did not reach a stable one")
    return sorted(points, key=lambda point: point.level)


def read_json(path: Path, batch: int = 1) -> list[Point]:
    """Return the points of a profile export; requests of `batch` rows. Raises ValueError for an empty one."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.strip():
        # Its JSON writer stops at a NaN, which a row without a score has.
        raise ValueError(f"{path} is empty: perf_analyzer writes no JSON where some output is NaN; use its CSV")
    points = []
    for entry in json.loads(text)["experiments"]:
        starts = np.array([request["timestamp"] for request in entry["requests"]], dtype=np.int64)
        ends = np.array([request["response_timestamps"][-1] for request in entry["requests"]], dtype=np.int64)
        took = np.percentile((ends - starts) / 1e6, (50, 90, 99)).tolist()
        rate = batch * len(starts) / ((ends.max() - starts.min()) / 1e9)
        mode = "concurrency" if entry["experiment"]["mode"] == "concurrency" else "rate"
        points.append(Point(mode, float(entry["experiment"]["value"]), float(rate), *took))
    return sorted(points, key=lambda point: point.level)


def knee(points: Sequence[Point]) -> Point:
    """Return where more load begins to buy more waiting than work.

    argmax of t − l, with throughput t and median latency l each scaled to 0…1 over the curve (Kneedle).
    """
    return points[int(np.argmax(_scaled([p.rows_per_s for p in points]) - _scaled([p.p50_ms for p in points])))]


def _scaled(values: Sequence[float]) -> Any:
    array = np.array(values, dtype=np.float64)
    span = array.max() - array.min()
    return (array - array.min()) / (span or 1.0)


def table(title: str, points: Sequence[Point]) -> Table:
    """Return the curve as a table, the knee marked."""
    numbers, bend = [field.name for field in fields(Point) if field.name != "mode"], knee(points)
    shown = Table(*(name.replace("_", " ") for name in numbers), "", title=title)
    for point in points:
        mark = "knee" if point is bend and len(points) > 2 else ""
        shown.add_row(*(f"{getattr(point, name):,.1f}" for name in numbers), mark)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exports", type=Path, nargs="+", help="CSV or JSON; loads of one mode make one curve")
    parser.add_argument("--batch", type=int, default=1, help="rows a request, for JSON")
    args = parser.parse_args()
    try:
        points = [
            point
            for path in args.exports
            for point in (read_json(path, args.batch) if path.suffix == ".json" else read_csv(path))
        ]
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for mode in sorted({point.mode for point in points}):
        curve = sorted((point for point in points if point.mode == mode), key=lambda point: point.level)
        Console().print(table(f"level: {mode}", curve))


if __name__ == "__main__":
    main()
