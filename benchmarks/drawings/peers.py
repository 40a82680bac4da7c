"""Rows a second of every peer and of ours, on a logarithmic axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import pyplot, ticker

from benchmarks.drawings.colours import BLUE, GREY, ORANGE
from benchmarks.provenance import newest


def draw(results: Path) -> Any:
    """Return the figure of the rows in `results`, or None without any."""
    rows = [row for row in newest("peers", "peer", results=results) if "rows_per_s" in row]
    if not rows:
        return None
    measured = {row["peer"]: row for row in rows}
    order = sorted(measured, key=lambda name: measured[name]["rows_per_s"])
    figure, axis = pyplot.subplots(figsize=(9, 0.32 * len(order) + 1))
    rates = [measured[name]["rows_per_s"] for name in order]
    axis.barh(range(len(order)), rates, color=[_colour(measured[name]) for name in order])
    for place, rate in enumerate(rates):
        axis.text(rate * 1.03, place, f"{rate:,.0f}", va="center", fontsize=8)
    axis.set_yticks(range(len(order)), [_label(name, measured[name]) for name in order])
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.set_xlim(right=max(rates) * 1.6)
    axis.set_xlabel(f"rows/s, {rows[0]['rows']:,} SAF responses to 27 tasks, mixed ({rows[0]['cores']} cores)")
    return figure


def _colour(run: dict[str, Any]) -> str:
    if run["ours"]:
        return BLUE
    return GREY if run["default"] else ORANGE


def _label(name: str, run: dict[str, Any]) -> str:
    return f"{name} (default)" if run["default"] else name
