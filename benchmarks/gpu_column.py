"""README's column of figures on a GPU, from the newest rows of `benchmarks.gpu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.provenance import newest

NOT_MEASURED = "not measured: no GPU"
Row = dict[str, Any]


def gpu_figure(what: str) -> str:
    """Return what a GPU gave for a line of README; a dash where no GPU is asked for."""
    for beginning, (part, shown) in _FIGURES.items():
        if what.startswith(beginning):
            rows = newest("gpu", "card", "part")
            found = [f"{shown(row)} ({row['card']})" for row in rows if row["part"] == part]
            return "; ".join(found) or NOT_MEASURED
    return "–"


def _rates(row: Row) -> str:
    return ", ".join(f"{name} {rate:,.0f} rows/s" for name, rate in row["rows_per_s"].items())


def _resident(row: Row) -> str:
    points = {point["value"]: point["per_s"] for point in row["points"]["tasks"]}
    return f"{points[2187] / points[27]:.3f} of the throughput, 2,187 against 27"


def _shares(row: Row) -> str:
    return ", ".join(f"{name} {share:.2f}" for name, share in row["share_of_float32_peak"].items())


_FIGURES: dict[str, tuple[str, Callable[[Row], str]]] = {
    "512 SAF rows, 27 tasks mixed": ("peers", _rates),
    "2,048 SAF rows, 27 tasks mixed": ("peers", _rates),
    "rows/s over tasks": ("growth", _resident),
    "1,000 resident tasks": ("growth", _resident),
    "share of the matmul peak": ("limit", _shares),
}
"""How a line begins → the part of `benchmarks.gpu` that measures it, and how it reads."""
