"""Latency against throughput under load, and where the time of a request goes in the server."""

from __future__ import annotations

from typing import Any

from matplotlib import pyplot

from benchmarks.drawings.colours import BLUE, GREEN, ORANGE, VERMILION
from benchmarks.provenance import newest

_COLOURS = {("grpc", 1): BLUE, ("http", 1): ORANGE, ("grpc", 64): GREEN, ("http", 64): VERMILION}
_MARKERS = {"grpc": "o", "http": "s"}
_NAMES = {"grpc": "gRPC", "http": "HTTP"}


def draw() -> Any:
    """Return the figure, or None without rows."""
    rows = newest("perf", "protocol", "batch", "mode")
    if not rows:
        return None
    figure, axes = pyplot.subplots(1, 3, figsize=(12.5, 4.2))
    for row in sorted(rows, key=lambda row: (row["batch"], row["protocol"])):
        _curve(axes[0 if row["mode"] == "concurrency" else 1], row)
    axes[0].set_title("Closed loop: a fixed number under way")
    axes[1].set_title("Open loop: Poisson arrivals")
    for axis in axes[:2]:
        axis.set_yscale("log")
        axis.set_xlabel("throughput, rows/s")
        axis.set_ylabel("latency of a request, ms (line p50, dots p99)")
        axis.set_xlim(left=0)
    axes[0].legend(loc="upper left", fontsize=8)
    _split(axes[2], next(row for row in rows if (row["protocol"], row["batch"], row["mode"]) == ("grpc", 1, "rate")))
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


def _split(axis: Any, row: dict[str, Any]) -> None:
    points = row["points"]
    names = {"network_ms": "network, gRPC", "queue_ms": "queue", "compute_ms": "compute", "copies_ms": "copies"}
    bottom = [0.0] * len(points)
    for (key, name), colour in zip(names.items(), (ORANGE, VERMILION, BLUE, GREEN), strict=True):
        heights = [point[key] for point in points]
        axis.bar(range(len(points)), heights, 0.7, bottom=bottom, color=colour, label=name)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axis.set_xticks(range(len(points)), [f"{point['level']:,.0f}" for point in points])
    axis.set_xlabel("arrivals, requests/s of one row, gRPC")
    axis.set_ylabel("mean time of a request, ms")
    axis.set_title("Where a request's time goes")
    axis.legend(fontsize=8)
