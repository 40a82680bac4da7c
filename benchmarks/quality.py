"""Agreement with humans: adapters on a shared backbone, whole models, and recipes of training.

    python -m benchmarks trained --full examples/saf/full_finetuning_predictions.jsonl
    python -m benchmarks trained --data SCIENTSBANK --adapters FOLDER --full PREDICTIONS
    python -m benchmarks recipes --data SCIENTSBANK --recipe lr=0.004 epochs=10 --recipe class_weights=0

`trained` scores the test split with adapters that `scoremux train` wrote (by default the example adapters) and compares
them with the predictions of `python -m benchmarks full_finetuning`; intervals are of a paired bootstrap of rows within
tasks.

`recipes` compares by cross-validation on the training split; test rows are never read. Each `--recipe` changes the
defaults of `train.toml`: keys of [recipe], `sites`, `seed`, `backbone` (a folder), and `input`
(`response`, `question`, `reference`, `both`: what stands before the response as the first text of a pair). One of four
folds is held out (`--folds 4` trains all four), with equal texts on one side. With `--labels 10 20` every third task is
new (`--folds 3`: each third in turn): it has so many labels, and one of four folds is predicted; with `taught=1` in the
recipe its other training rows are learned without their labels (`scoremux train --unlabelled`), by a head of the other
tasks, or with `taught=SAF` by one of that corpus; `draw=2` changes the
order of rows, dropout and the start of A, but not the folds. Differences are to the first recipe; their intervals are
by resampling of tasks. What is in the file `--predictions` is not trained again; with `--work FOLDER` a command that
was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import data
from benchmarks.case import QWK, case, data_folder
from benchmarks.data import Labelled
from benchmarks.rows import Row
from benchmarks.screening import Predicted, Recipes, minus, read_predicted
from scoremux_evidence.figures.agreement import qwk

Levels = npt.NDArray[np.int64]


def overall(rows: Sequence[Labelled], levels: Sequence[int] | Levels) -> dict[str, float]:
    """Return the mean QWK of the tasks that have one, and QWK and exact agreement over all rows."""
    of_tasks = []
    for task in {row.task for row in rows}:
        pairs = [(row.level, int(level)) for row, level in zip(rows, levels, strict=True) if row.task == task]
        of_tasks.append(qwk([truth for truth, _ in pairs], [level for _, level in pairs]))
    exact = float(np.mean([row.level == level for row, level in zip(rows, levels, strict=True)]))
    pooled = qwk([row.level for row in rows], list(map(int, levels)))
    return {"mean_qwk": float(np.nanmean(of_tasks)), "pooled_qwk": pooled, "exact": exact}


def compared(name: str, adapters: Path, full: Path | None, work: Path) -> Iterator[tuple[str, list[Labelled], Levels]]:
    """Yield the adapters' levels of a test split and, if there are any, those of whole models."""
    from scoremux_engine import Engine
    from scoremux_engine.packages.adapter_folders import Adapter
    from scoremux_engine.store.store import Store
    from scoremux_export.export_graph import export_backbone

    rows = data.read_rows(data_folder(name))
    folders = sorted(path for path in adapters.iterdir() if (path / "task.json").exists())
    backbone = export_backbone(str(data.minilm()), [Adapter.read(folder) for folder in folders], work / "repository")
    Store(work / "repository" / "store").add(folders, backbone)
    logits = Engine.open(work / "repository").logits([row.text for row in rows], [row.task for row in rows])
    whose = "example adapters" if adapters == data.ADAPTERS else "adapters"
    yield f"one backbone, {len(folders)} {whose}", rows, np.nanargmax(logits, axis=1)
    if full:
        lines = map(json.loads, full.read_text(encoding="utf-8").splitlines())
        level_of = {line["id"]: line["level"] for line in lines}
        yield f"{len(folders)} fully fine-tuned models", rows, np.array([level_of[row.id] for row in rows])


@case(
    columns=(
        f"data;  = models; {QWK}; adapters minus whole models: mean QWK (95 % interval) = shown_mean; "
        "pooled QWK = shown_pooled"
    ),
    keys="data models",
    options={
        "--adapters": {"type": Path, "default": data.ADAPTERS, "help": "folder of adapter folders"},
        "--full": {"type": Path, "help": "predictions of full_finetuning"},
    },
)
def trained(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Agreement with humans on test responses: adapters of `scoremux train` and whole models."""
    ours: Levels | None = None
    for models, rows, levels in compared(arguments.data, arguments.adapters, arguments.full, work):
        differences = {} if ours is None else _differences(rows, ours, levels)
        ours = levels if ours is None else ours
        yield {"data": arguments.data, "models": models, **overall(rows, levels), **differences}


def _differences(rows: Sequence[Labelled], ours: Levels, full: Levels, draws: int = 1000) -> dict[str, str]:
    """Return adapters minus whole models, with 95 % intervals."""
    draw, tasks = np.random.default_rng(12), np.array([row.task for row in rows])
    places = [np.flatnonzero(tasks == task) for task in sorted(set(tasks))]
    differences: dict[str, list[float]] = {"mean_qwk": [], "pooled_qwk": []}
    for turn in range(draws + 1):
        drawn = np.concatenate([place if turn == 0 else draw.choice(place, len(place)) for place in places])
        picked = [rows[i] for i in drawn]
        left, right = (overall(picked, levels[drawn]) for levels in (ours, full))
        for name, values in differences.items():
            values.append(left[name] - right[name])
    shown = {}
    for name, (value, *resampled) in differences.items():
        low, high = np.quantile(resampled, [0.025, 0.975])
        shown[f"shown_{name.removesuffix('_qwk')}"] = f"{value:+.3f} ({low:+.3f} – {high:+.3f})"
    return shown


@case(
    columns=(
        f"data; recipe; folds; tasks; only; labels; rows; {QWK}; log loss = log_loss:.3f; minus the first recipe: "
        "mean QWK = shown_mean; pooled QWK = shown_pooled; exact = shown_exact; CPU s = cpu_seconds:.0f"
    ),
    keys="data recipe folds tasks only labels",
    options={
        "--recipe": {"nargs": "+", "action": "append", "metavar": "KEY=VALUE", "help": "one recipe; repeatable"},
        "--folds": {
            "type": int,
            "default": 1,
            "help": "how many of the four folds are trained; of three thirds are new",
        },
        "--tasks": {"type": int, "default": 27, "help": "at most so many (default: %(default)s)"},
        "--only": {"nargs": "+", "metavar": "TASK", "default": [], "help": "these tasks"},
        "--labels": {"type": int, "nargs": "+", "help": "labels of new tasks, every third: 10 20 50"},
        "--predictions": {"type": Path, "help": "file that probabilities are added to, as JSON lines"},
    },
)
def recipes(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Recipes of `scoremux train`, cross-validated on training splits."""
    measured = Recipes(data_folder(arguments.data), arguments.tasks, work, arguments.only)
    tasks, only = len(arguments.only) or arguments.tasks, " ".join(sorted(arguments.only)) or None
    of_all = {"data": arguments.data, "tasks": tasks, "only": only, "folds": arguments.folds}
    kept = read_predicted(arguments.predictions, of_all) if arguments.predictions else {}
    first: dict[int | None, Predicted] = {}
    for changes in arguments.recipe or [[]]:
        recipe = " ".join(changes) or "the defaults"
        asked = arguments.labels or [None]
        missing = [labels for labels in asked if (recipe, labels) not in kept]
        began_s, cpu_s = time.perf_counter(), time.process_time()
        runs: Iterable[tuple[int | None, Predicted]] = (
            measured.few_labels(changes, missing, arguments.folds)
            if arguments.labels
            else ((labels, measured.folds(changes, arguments.folds)) for labels in missing)
        )
        earlier = ((labels, kept[recipe, labels]) for labels in asked if (recipe, labels) in kept)
        for labels, predicted in chain(earlier, runs):
            setting = {**of_all, "recipe": recipe, **({"labels": labels} if arguments.labels else {})}
            took = {}
            if labels in missing and not measured.goes_on:
                took = {"seconds": time.perf_counter() - began_s, "cpu_seconds": time.process_time() - cpu_s}
            if labels in missing and arguments.predictions:
                predicted.add_to(arguments.predictions, setting)
            differences = minus(predicted, first[labels]) if labels in first else {}
            first.setdefault(labels, predicted)
            yield {**setting, **_figures(predicted), **differences, **took}


def _figures(predicted: Predicted) -> dict[str, Any]:
    rows = predicted.rows
    return {**overall(rows, predicted.levels), "log_loss": predicted.log_loss, "rows": len(rows)}
