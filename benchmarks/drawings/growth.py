"""Throughput along each axis of growth, and memory over the number of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import pyplot

from benchmarks.drawings.colours import BLUE, GREY, VERMILION
from benchmarks.provenance import newest

_LABELS = {
    "tasks": "resident tasks",
    "rank": "LoRA rank",
    "rows": "rows a batch",
    "length": "tokens a row",
    "threads": "threads",
}


def draw(results: Path) -> Any:
    """Return the figure of the rows in `results`, or None without any."""
    rows = {row["axis"]: row for row in newest("growth", "axis", "runner", results=results)}
    if not rows:
        return None
    figure, grid = pyplot.subplots(3, 2, figsize=(9.5, 9.6))
    axes = list(grid.flat)
    for name, label in _LABELS.items():
        if name in rows:
            _throughput(axes.pop(0), rows[name], label)
    if "tasks" in rows:
        _memory(axes.pop(0), rows["tasks"])
    for left in axes:
        left.set_visible(False)
    return figure


def _throughput(axis: Any, row: dict[str, Any], label: str) -> None:
    values = [point["value"] for point in row["points"]]
    rates = [point["per_s"] for point in row["points"]]
    half = [point["per_s"] * point["spread"] / 2 for point in row["points"]]
    axis.errorbar(values, rates, yerr=half, color=BLUE, marker="o", markersize=4, capsize=2, elinewidth=1)
    axis.set_xscale("log", base=3 if row["axis"] == "tasks" else 2)
    axis.set_xticks(values, [f"{value:,}" for value in values], fontsize=8)
    axis.minorticks_off()
    axis.set_ylim(0, max(rates) * 1.25)
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlabel(label)
    axis.set_ylabel(f"{row['unit']}/s")
    grown = row["growth"]
    title = f"{row['unit']}/s ∝ {row['axis']}$^{{{grown['slope']:.2f}}}$"
    if grown["bend"] is not None and abs(grown["before"] - grown["after"]) > 0.1:
        axis.axvline(grown["bend"], color=GREY, linestyle="--", linewidth=1)
        powers = f"$^{{{grown['before']:.2f}}}$ up to {grown['bend']:g}, then $^{{{grown['after']:.2f}}}$"
        title = f"{row['unit']}/s ∝ {row['axis']}{powers}"
    axis.set_title(title, fontsize=10)


def _memory(axis: Any, row: dict[str, Any]) -> None:
    values = [point["value"] for point in row["points"]]
    axis.plot(values, [p["memory_bytes"] / 1e6 for p in row["points"]], color=VERMILION, marker="s", markersize=4)
    axis.set_xlabel("resident tasks")
    axis.set_ylabel("memory on top of the backbone, MB")
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_title(f"{row['bytes_each'] / 1e3:,.0f} kB a task", fontsize=10)
