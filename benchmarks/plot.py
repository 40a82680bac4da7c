"""Plots of the newest rows: the same rows give the same files, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from benchmarks.rows import RESULTS, ROOT, newest

FOLDER = ROOT / "benchmarks" / "plots"
BLUE, VERMILION, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#999999"
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, GREY)
"""Colours that stay apart for colour-blind readers (Okabe and Ito)."""
STYLE = {
    "svg.hashsalt": "scoremux",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
}
DARK = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), "#e6edf3"),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "#0d1117"),
    "grid.color": "#30363d",
}
CORPORA = {"SCIENTSBANK": "short answers (mean 14 tokens)", "SAF": "SAF (mean 61 tokens)"}
Rows = list[dict[str, Any]]


def latest(name: str, keys: tuple[str, ...], results: Path) -> Rows:
    """Return the newest rows of a case that the newest row's machine took."""
    rows = newest(name, keys, results)
    machine = [(row["processor"], row["cores"]) for row in rows][-1:]
    return [row for row in rows if (row["processor"], row["cores"]) in machine]


def load(rows: Rows) -> Any:
    """Latency against throughput."""
    colours = {"grpc": BLUE, "http": ORANGE}
    figure, axes = pyplot.subplots(1, 2, figsize=(9.5, 4.4), sharex=True, sharey=True)
    for row in sorted(rows, key=lambda row: str(row["protocol"])):
        axis, colour = axes[int(row["mode"] == "rate")], colours[row["protocol"]]
        across, p50_ms = ([point[name] for point in row["points"]] for name in ("rows_per_s", "p50_ms"))
        axis.plot(across, p50_ms, "o-", color=colour, markersize=4, label=row["protocol"])
        axis.plot(across, [point["p99_ms"] for point in row["points"]], ":", color=colour, linewidth=1)
        axis.plot(row["knee"]["rows_per_s"], row["knee"]["p50_ms"], "o", markersize=11, fillstyle="none", color=colour)
    axes[0].set_title("Closed loop: a fixed number in flight")
    axes[1].set_title("Open loop: Poisson arrivals")
    for axis in axes:
        axis.set_yscale("log")
        axis.set_xlabel("throughput, rows/s")
        axis.set_xlim(left=0)
    axes[0].set_ylabel("latency of a request, ms (line p50, dots p99, ring: knee)")
    axes[0].legend(loc="upper left", fontsize=8)
    return figure


def peers(rows: Rows) -> Any:
    """Rows a second of every peer and of ours, in one run of the benchmark."""
    rows = [row for row in rows if row["command"] == rows[-1]["command"] and "rows_per_s" in row]
    rows.sort(key=lambda row: float(row["rows_per_s"]))
    figure, axis = pyplot.subplots(figsize=(9, 0.36 * len(rows) + 1))
    axis.barh(range(len(rows)), [row["rows_per_s"] for row in rows], color=[_colour(row["peer"]) for row in rows])
    for place, row in enumerate(rows):
        axis.text(row["rows_per_s"], place, f"  {row['rows_per_s']:,.0f}", va="center")
    axis.set_yticks(range(len(rows)), [row["peer"] for row in rows])
    axis.grid(visible=False, axis="y")
    processor = f"{rows[0]['cores']} cores of an {rows[0]['processor']}"
    axis.set_xlabel(f"responses a second, 27 tasks mixed, {CORPORA[rows[0]['data']]}\n{processor}")
    return figure


def _colour(peer: str) -> str:
    return BLUE if peer.startswith("scoremux") else ORANGE if peer.startswith("PEFT") else GREY


DRAWINGS: dict[str, tuple[Callable[[Rows], Any], tuple[str, ...]]] = {
    "load": (load, ("protocol", "mode")),
    "peers": (peers, ("data", "peer")),
}
"""Case → what draws it, and the keys of its rows."""
IN_DARK_TOO = ("peers",)
"""Pictures of README, which readers see in the light or the dark scheme."""


def draw_all(folder: Path = FOLDER, results: Path = RESULTS) -> list[Path]:
    """Draw every case there are rows for into `folder`; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    schemes = [(name, name, STYLE) for name in DRAWINGS]
    schemes += [(name, f"{name}-dark", {**STYLE, **DARK}) for name in IN_DARK_TOO]
    for name, file, style in schemes:
        draw, keys = DRAWINGS[name]
        if rows := latest(name, keys, results):
            with matplotlib.rc_context(style):
                figure = draw(rows)
                drawn.append(folder / f"{file}.svg")
                # No date: two drawings of the same rows are the same file.
                figure.savefig(drawn[-1], metadata={"Date": None})
                pyplot.close(figure)
    return drawn
