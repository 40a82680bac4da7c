"""Where the time of a request goes in the server, as arrivals grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import pyplot

from benchmarks.drawings.colours import BLUE, GREEN, ORANGE, VERMILION
from benchmarks.provenance import newest

_PARTS = {"compute_ms": "compute", "queue_ms": "queue", "network_ms": "network", "copies_ms": "copies"}


def draw(results: Path) -> Any:
    """Return the figure of the rows in `results`, or None without any."""
    rows = [row for row in newest("perf", "protocol", "batch", "mode", results=results) if row["mode"] == "rate"]
    rows = sorted((row for row in rows if row["protocol"] == "grpc"), key=lambda row: int(row["batch"]))
    if not rows:
        return None
    figure, axes = pyplot.subplots(1, len(rows), figsize=(9.5, 3.8), squeeze=False)
    for axis, row in zip(axes.flat, rows, strict=True):
        _bars(axis, row["points"])
        axis.set_xlabel("Poisson arrivals, requests/s")
        axis.set_title(f"gRPC, {row['batch']} row{'s' if row['batch'] > 1 else ''} a request", fontsize=10)
    axes.flat[0].set_ylabel("mean time of a request, ms")
    axes.flat[0].legend(fontsize=8)
    return figure


def _bars(axis: Any, points: list[dict[str, Any]]) -> None:
    bottom = [0.0] * len(points)
    for (key, name), colour in zip(_PARTS.items(), (BLUE, VERMILION, ORANGE, GREEN), strict=True):
        heights = [point[key] for point in points]
        axis.bar(range(len(points)), heights, 0.7, bottom=bottom, color=colour, label=name)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axis.set_xticks(range(len(points)), [f"{point['level']:,.3g}" for point in points])
