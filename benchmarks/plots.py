"""Draw the newest result rows for README and benchmarks/README.md: `python -m benchmarks.plots`.

The same rows give the same files, byte for byte.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from benchmarks.drawings import growth, limit, load, paper, peers, split
from benchmarks.provenance import RESULTS, ROOT

FOLDER = ROOT / "benchmarks" / "plots"
DRAWINGS: dict[str, Callable[[Path], Any]] = {
    "load": load.draw,
    "split": split.draw,
    "growth": growth.draw,
    "limit": limit.draw,
    "paper": paper.draw,
    "peers": peers.draw,
}
"""File name → what draws it from a folder of rows: a figure, or None where there are none yet."""

STYLE = {
    "svg.hashsalt": "scoremux",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
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


def draw_all(folder: Path, kind: str = "svg", results: Path = RESULTS) -> list[Path]:
    """Draw everything there are rows for in `results`, into `folder`; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with matplotlib.rc_context(STYLE):
        for name, draw in DRAWINGS.items():
            figure = draw(results)
            if figure is None:
                continue
            drawn.append(folder / f"{name}.{kind}")
            # No date: two drawings of the same rows are the same file.
            figure.savefig(drawn[-1], dpi=110, metadata={"Date": None} if kind == "svg" else None)
            pyplot.close(figure)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--kind", choices=("svg", "png"), default="svg")
    args = parser.parse_args()
    for path in draw_all(args.out, args.kind):
        print(path)


if __name__ == "__main__":
    main()
