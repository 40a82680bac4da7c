"""Quality, and what it costs: LoRA on a shared backbone against one fully fine-tuned model a task.

    python -m benchmarks.quality --case quality
    python -m benchmarks.quality --case paper --models FOLDER

`quality` compares with the committed predictions of fully fine-tuned models. `paper` is the comparison of
arXiv 2412.21065 on SAF; FOLDER holds the 27 models (2.4 GB), and those that are missing are trained first, about a
minute each. Every setting of it runs in a process of its own: all test responses, then single ones whose task changes
every time, then mixed batches of 64, settings in turn.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import case, data
from benchmarks.case import Case, Column
from benchmarks.child import write_rows
from benchmarks.data import Labelled
from benchmarks.peers import full_models, scoremux
from benchmarks.peers.base import load
from benchmarks.rows import ROOT, Row
from scoremux_assess.agreement.statistics import qwk

FULL = ROOT / "examples" / "saf" / "full_finetuning_predictions.jsonl"
BATCH, BATCHES = 64, 2


def kappas(rows: Sequence[Labelled], levels: Sequence[int]) -> dict[str, Any]:
    """Return QWK by task, its mean over the tasks that have one, and QWK over all rows."""
    by_task = {}
    for task in sorted({row.task for row in rows}):
        pairs = [(row.level, level) for row, level in zip(rows, levels, strict=True) if row.task == task]
        by_task[task] = qwk([truth for truth, _ in pairs], [level for _, level in pairs])
    known = [value for value in by_task.values() if not math.isnan(value)]
    exact = float(np.mean([row.level == level for row, level in zip(rows, levels, strict=True)]))
    pooled = qwk([row.level for row in rows], levels)
    return {"tasks": by_task, "mean_qwk": sum(known) / len(known), "pooled_qwk": pooled, "exact": exact}


def qualities(_arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Yield a row for LoRA and one for full fine-tuning."""
    rows = data.read_rows(case.data_folder("SAF"))
    file = write_rows(rows, work / "rows.jsonl")
    with load(scoremux.IN_PROCESS[0], work, file) as child:
        child.ask("logits", numbers=list(range(len(rows))), out=str(work / "logits.npy"))
    lora = np.load(work / "logits.npy").argmax(axis=1).tolist()
    predictions = map(json.loads, FULL.read_text(encoding="utf-8").splitlines())
    full = {prediction["id"]: prediction["level"] for prediction in predictions}
    yield {"models": "one backbone, 27 adapters", **kappas(rows, lora)}
    yield {"models": "27 fully fine-tuned models", **kappas(rows, [full[row.id] for row in rows])}


def in_turn(rows: Sequence[Labelled], each: int) -> list[int]:
    """Return row numbers, `each` of every task, such that no two neighbours are of one task."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        found.setdefault(row.task, []).append(number)
    return [numbers[turn % len(numbers)] for turn in range(each) for numbers in found.values()]


def paper(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Yield a row for each setting."""
    if not arguments.models:
        raise SystemExit("the case paper wants --models FOLDER")
    folder = case.data_folder("SAF")
    full_models.train_missing(arguments.models, folder)
    rows = data.read_rows(folder)
    file, switching = write_rows(rows, work / "rows.jsonl"), in_turn(rows, each=3)
    mixed = random.Random(64).sample(range(len(rows)), BATCH * BATCHES)
    figures: dict[str, dict[str, Any]] = {}
    with ExitStack() as held:
        children = {}
        for peer in (*full_models.peers(arguments.models), *scoremux.IN_PROCESS):
            child = children[peer.name] = held.enter_context(load(peer, work, file))
            child.ask("logits", numbers=list(range(len(rows))), out=str(work / "logits.npy"))
            agreed = kappas(rows, np.load(work / "logits.npy").argmax(axis=1).tolist())
            figures[peer.name] = {**agreed, **child.ask("memory")}
        alone: dict[str, list[list[float]]] = {name: [] for name in children}
        together: dict[str, list[float]] = {name: [] for name in children}
        for _ in range(arguments.rounds):
            for name, child in children.items():
                alone[name].append(child.ask("singly", numbers=switching)["seconds"])
                for start in range(0, len(mixed), BATCH):
                    took_s = child.ask("logits", numbers=mixed[start : start + BATCH])["took_s"]
                    together[name].append(took_s / BATCH)
    for name, row in figures.items():
        p50, p99 = np.percentile(alone[name], [50, 99]) * 1e3
        latency = {"switching_ms": float(p50), "switching_p99_ms": float(p99)}
        yield {"models": name, **row, **latency, "mixed_ms": float(np.median(together[name])) * 1e3}


QWK = (
    Column("", "models"),
    Column("mean QWK of 27 tasks", "mean_qwk", "{:.3f}"),
    Column("pooled QWK", "pooled_qwk", "{:.3f}"),
    Column("exact", "exact", "{:.3f}"),
)
CASES = (
    Case("quality", "Agreement with humans on the 680 SAF test responses", QWK, ("models",), qualities),
    Case(
        "paper",
        "The comparison of arXiv 2412.21065 on SAF: a model for each of 27 tasks against one backbone",
        (
            *QWK,
            Column("RSS, MB", "rss_bytes", "{:,.0f}", unit=1e6),
            Column("weights, MB", "weights_bytes", "{:,.0f}", unit=1e6),
            Column("ms, the task changes every time: p50", "switching_ms", "{:.1f}"),
            Column("p99", "switching_p99_ms", "{:.1f}"),
            Column("ms a response, mixed batches of 64", "mixed_ms", "{:.1f}"),
        ),
        ("models",),
        paper,
    ),
)


def main() -> None:
    parser = case.parser(CASES, __doc__, rounds=3)
    parser.add_argument("--models", type=Path, help="folder of the 27 fully fine-tuned models")
    case.main(CASES, parser.parse_args())


if __name__ == "__main__":
    main()
