"""Where the time of a served batch goes, from the matmul peak upwards, at each precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import pyplot

from benchmarks.drawings.colours import BLUE, GREY, ORANGE
from benchmarks.provenance import newest


def draw(results: Path) -> Any:
    """Return the figure of the rows in `results`, or None without any."""
    rows = newest("limit", "runner", results=results)
    if not rows:
        return None
    figure, axes = pyplot.subplots(1, len(rows), figsize=(9.5, 4.0), sharey=True, squeeze=False)
    for axis, row in zip(axes.flat, rows, strict=True):
        _waterfall(axis, row)
    return figure


def _waterfall(axis: Any, row: dict[str, Any]) -> None:
    parts, whole = list(row["waterfall_s"]), sum(row["waterfall_s"].values())
    reached, behind = 0.0, {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    for place, seconds in enumerate(row["waterfall_s"].values()):
        share = 100 * seconds / whole
        axis.barh(place, share, left=reached, color=BLUE if place == 0 else ORANGE, height=0.7)
        reached += share
        axis.text(max(reached, reached - share) + 1, place, f"{share:.1f} %", va="center", fontsize=8, bbox=behind)
    axis.axvline(100, color=GREY, linewidth=1)
    axis.set_yticks(range(len(parts)), parts)
    axis.invert_yaxis()
    axis.set_xlim(0, 128)
    axis.set_xlabel("share of a served batch's time, %")
    axis.set_title(f"{row['runner']}: peak {row['peak_per_s'] / 1e9:,.0f} Gop/s", fontsize=10)
