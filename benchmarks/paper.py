"""The comparison of arXiv 2412.21065, on SAF: a fully fine-tuned model for each of 27 tasks against one backbone.

    python -m benchmarks.paper --data ../shared/data/saf --models FOLDER

FOLDER holds the 27 models; those that are missing are trained first. Every setting runs in a process of its own:
all 680 test responses for the QWK, then single responses whose task changes every time (and the same ones in the order
of their tasks), then mixed batches of 64, settings in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import full_models
from benchmarks.paper_run import PaperRun
from benchmarks.peers.peer import PeerSpec
from benchmarks.provenance import record
from benchmarks.saf import read_rows

COMMAND = "python -m benchmarks.paper --data SAF --models FOLDER"
PAPER = {"memory": -0.60, "latency": -0.40, "qwk": {"lora": 0.848, "full": 0.888}}
"""The paper's own headlines."""
DEFAULT, BEST, OURS = "27 models, torch, on demand", "27 models, OpenVINO bfloat16, resident", "scoremux bfloat16"


def settings(models: Path, onnx: Path) -> list[PeerSpec]:
    """Return the settings compared: 27 models in what users run by default and in faster libraries, and ours."""
    made = []
    for library, shown in (("torch", "torch"), ("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO bfloat16")):
        for resident, how in ((False, "on demand"), (True, "resident")):
            if library == "openvino" and not resident:
                continue  # it compiles a model for longer than any other library loads one
            options = {"models": str(models), "onnx": str(onnx), "library": library, "resident": resident}
            made.append(PeerSpec(f"27 models, {shown}, {how}", "full:FullModels", options))
    for precision in ("float32", "bfloat16", "int8"):
        made.append(PeerSpec(f"scoremux {precision}", "scoremux:ScoremuxEngine", {"precision": precision}, ours=True))
    alone = {"precision": "float32", "one_at_a_time": True}
    made.append(PeerSpec("scoremux float32, one adapter at a time", "scoremux:ScoremuxEngine", alone, ours=True))
    return made


def reductions(figures: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return how ours changes memory and latency against every other setting: −0.9 is ninety percent less."""
    keys = ("rss_bytes", "weights_bytes", "switching_ms", "mixed_ms")
    ours = figures[OURS]
    return {name: {key: ours[key] / row[key] - 1 for key in keys} for name, row in figures.items() if "models" in name}


def table(figures: dict[str, dict[str, Any]]) -> Table:
    """Return the figures for people."""
    made = Table(
        "", "mean QWK", "pooled QWK", "RSS MB", "weights MB", "ms, task changes", "p99", "ms, mixed 64", "switch ms"
    )
    for name, row in figures.items():
        switch = row["switch"]
        made.add_row(
            name,
            f"{row['mean_qwk']:.3f}",
            f"{row['pooled_qwk']:.3f}",
            *(f"{row[key] / 1e6:,.0f}" for key in ("rss_bytes", "weights_bytes")),
            *(f"{row[key]:.1f}" for key in ("switching_ms", "switching_p99_ms", "mixed_ms")),
            f"{switch['median_ms']:.2f} [{switch['low_ms']:.2f}, {switch['high_ms']:.2f}]",
        )
    return made


def kappas(figures: dict[str, dict[str, Any]]) -> Table:
    """Return each task's QWK, fully fine-tuned and ours."""
    made = Table("task", "27 models", OURS)
    full, ours = figures[DEFAULT]["qwk"], figures[OURS]["qwk"]
    for task in full:
        made.add_row(task, *("–" if math.isnan(q[task]) else f"{q[task]:.3f}" for q in (full, ours)))
    made.add_row("mean", *(f"{figures[name]['mean_qwk']:.3f}" for name in (DEFAULT, OURS)))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--models", type=Path, required=True, help="folder of the 27 models (2.4 GB)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", type=int, default=3, help="single responses of every task in a round")
    parser.add_argument("--scratch", type=Path, help="a folder to keep converted models in")
    args = parser.parse_args()
    rows = read_rows(args.data)
    models = full_models.make(args.models.absolute(), args.data)
    with contextlib.ExitStack() as held:
        scratch = (args.scratch or Path(held.enter_context(tempfile.TemporaryDirectory()))).absolute()
        files = full_models.onnx_files(models, scratch / "full")
        run = PaperRun(rows, scratch)
        held.callback(run.close)
        run.load(settings(args.models.absolute(), next(iter(files.values())).parent))
        run.quality()
        run.rounds(args.rounds, args.each)
        figures = run.figures()
    console = Console()
    console.print(kappas(figures))
    console.print(table(figures))
    less = reductions(figures)
    for name in (DEFAULT, BEST):
        shown = ", ".join(f"{key.rpartition('_')[0]} {value:+.0%}" for key, value in less[name].items())
        console.print(f"{OURS} against {name}: {shown}")
    record("paper", COMMAND, {"rounds": args.rounds, "paper": PAPER, "settings": figures, "reductions": less})


if __name__ == "__main__":
    main()
