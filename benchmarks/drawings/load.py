"""Latency against throughput under load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import pyplot

from benchmarks.drawings.colours import BLUE, GREEN, GREY, ORANGE, VERMILION
from benchmarks.provenance import newest

_COLOURS = {("grpc", 1): BLUE, ("http", 1): ORANGE, ("grpc", 64): GREEN, ("http", 64): VERMILION}
_MARKERS = {"grpc": "o", "http": "s"}
_NAMES = {"grpc": "gRPC", "http": "HTTP"}


def draw(results: Path) -> Any:
    """Return the figure of the rows in `results`, or None without any."""
    rows = newest("perf", "protocol", "batch", "mode", results=results)
    if not rows:
        return None
    figure, axes = pyplot.subplots(1, 2, figsize=(9.5, 4.4), sharex=True, sharey=True)
    for row in sorted(rows, key=lambda row: (row["batch"], row["protocol"])):
        _curve(axes[0 if row["mode"] == "concurrency" else 1], row)
    axes[0].set_title("Closed loop: a fixed number under way")
    axes[1].set_title("Open loop: Poisson arrivals")
    for axis in axes:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:,g}")
        axis.set_xlabel("throughput, rows/s")
        axis.set_xlim(left=0)
    axes[0].set_ylabel("latency of a request, ms")
    axes[0].plot([], [], color=GREY, label="line p50, dots p99")
    axes[0].plot([], [], "o", markersize=9, fillstyle="none", color=GREY, label="ring: knee")
    axes[0].legend(loc="upper left", fontsize=8)
    return figure


def _curve(axis: Any, row: dict[str, Any]) -> None:
    points, colour = row["points"], _COLOURS[row["protocol"], row["batch"]]
    across = [point["rows_per_s"] for point in points]
    name = f"{_NAMES[row['protocol']]}, {row['batch']} row{'s' if row['batch'] > 1 else ''} a request"
    marker = _MARKERS[row["protocol"]]
    axis.plot(across, [point["p50_ms"] for point in points], color=colour, marker=marker, markersize=4, label=name)
    axis.plot(across, [point["p99_ms"] for point in points], color=colour, linestyle=":", linewidth=1)
    bend = next(point for point in points if point["level"] == row["knee"])
    axis.plot(bend["rows_per_s"], bend["p50_ms"], "o", markersize=11, fillstyle="none", color=colour)
