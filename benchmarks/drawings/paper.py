"""Memory, latency and QWK of 27 models against one backbone with 27 adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import pyplot

from benchmarks.drawings.colours import BLUE, ORANGE
from benchmarks.provenance import newest

PANELS = (
    ("rss_bytes", 1e6, "memory of the process, MB", "{:,.0f}"),
    ("switching_ms", 1.0, "ms a response, task changes every time", "{:,.1f}"),
    ("mixed_ms", 1.0, "ms a response, mixed batches of 64", "{:,.1f}"),
    ("mean_qwk", 1.0, "mean QWK of 27 tasks", "{:.3f}"),
)


def draw(results: Path) -> Any:
    """Return the figure of the rows in `results`, or None without any."""
    rows = newest("paper", results=results)
    if not rows:
        return None
    settings = rows[0]["settings"]
    names = list(reversed(settings))
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(14, 0.3 * len(names) + 1.2), sharey=True)
    colours = [ORANGE if "models" in name else BLUE for name in names]
    for axis, (key, unit, title, shown) in zip(axes, PANELS, strict=True):
        values = [settings[name][key] / unit for name in names]
        axis.barh(range(len(names)), values, color=colours)
        for place, value in enumerate(values):
            axis.text(value, place, f" {shown.format(value)}", va="center", fontsize=8)
        axis.set_xlabel(title)
        axis.set_xlim(right=max(values) * 1.3)
    axes[0].set_yticks(range(len(names)), names)
    return figure
