"""Recipes over several corpora, from the predictions that `recipes` kept: nothing is trained.

    python -m benchmarks corpora --predictions FILE --recipe class_weights=0 --recipe class_weights=0.5

Of each corpus in the file the runs with most rows count that all recipes have, with all labels.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.calibration import calibration_error
from benchmarks.case import QWK, case
from benchmarks.quality import overall
from benchmarks.rows import Row
from benchmarks.screening import Predicted, minus, read_predicted

_RARE = 0.1
"""A level is rare in a task of whose rows a smaller share have it."""


@case(
    columns=(
        f"data; recipe; tasks; rows; {QWK}; log loss = log_loss:.3f; calibration error = calibration_error:.3f; "
        "rare levels found = rare_found:.2f; minus the first recipe: mean QWK = shown_mean; "
        "pooled QWK = shown_pooled; exact = shown_exact"
    ),
    keys="data recipe",
    options={
        "--recipe": {"nargs": "+", "action": "append", "required": True, "metavar": "KEY=VALUE", "help": "repeatable"},
        "--predictions": {"type": Path, "required": True, "help": "file that `recipes` wrote"},
    },
)
def corpora(arguments: argparse.Namespace, _work: Path) -> Iterator[Row]:
    """Recipes over several corpora; rare: levels of under a tenth of a task's rows."""
    recipes = [" ".join(changes) for changes in arguments.recipe]
    of_corpora = _most_rows(arguments.predictions, recipes)
    if not of_corpora:
        sys.exit(f"{arguments.predictions} has no corpus with all of these recipes")
    of_corpora[" + ".join(of_corpora)] = [_together(alike) for alike in zip(*of_corpora.values(), strict=True)]
    for name, runs in of_corpora.items():
        for recipe, run in zip(recipes, runs, strict=True):
            yield {
                **{"data": name, "recipe": recipe, "rows": len(run.rows), "tasks": len({row.task for row in run.rows})},
                **{**overall(run.rows, run.levels), "log_loss": run.log_loss},
                **{"calibration_error": _calibration_error(run), "rare_found": _rare_found(run)},
                **(minus(run, runs[0]) if run is not runs[0] else {}),
            }


def _most_rows(file: Path, recipes: Sequence[str]) -> dict[str, list[Predicted]]:
    """Return each corpus's predictions by all of the recipes, of the setting that has most rows."""
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    settings = {(of["data"], of["folds"], of["tasks"], of["only"]) for of in (line["of"] for line in lines)}
    found: dict[str, list[Predicted]] = {}
    for data, folds, tasks, only in sorted(settings, key=str):
        kept = read_predicted(file, {"data": data, "folds": folds, "tasks": tasks, "only": only, "labels": None})
        runs = [kept[recipe, None] for recipe in recipes if (recipe, None) in kept]
        if len(runs) == len(recipes) and len(runs[0].rows) > len(found.get(data, [Predicted([], [])])[0].rows):
            found[data] = runs
    return found


def _together(runs: Sequence[Predicted]) -> Predicted:
    """Return the rows of several corpora as one; tasks of different corpora have different ids."""
    widest = max(len(p) for run in runs for p in run.probabilities)
    probabilities = [np.pad(p, (0, widest - len(p))) for run in runs for p in run.probabilities]
    return Predicted([row for run in runs for row in run.rows], probabilities)


def _calibration_error(run: Predicted) -> float:
    """Return the expected calibration error of the likeliest levels, in ten bins."""
    stated = np.array([p.max() for p in run.probabilities])
    right = np.array([row.level == level for row, level in zip(run.rows, run.levels, strict=True)])
    return calibration_error(stated, right)


def _rare_found(run: Predicted) -> float:
    """Return the share of rows with a rare level to which the machine gives that level."""
    found: list[bool] = []
    tasks = np.array([row.task for row in run.rows])
    human, machine = np.array([row.level for row in run.rows]), np.array(run.levels)
    for task in np.unique(tasks):
        of_task = human[tasks == task]
        rare = np.bincount(of_task)[of_task] < _RARE * len(of_task)
        found += (machine[tasks == task] == of_task)[rare].tolist()
    return float(np.mean(found)) if found else float("nan")
