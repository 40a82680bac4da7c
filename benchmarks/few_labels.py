"""Tasks with few labels or none: what the comparison with references gives without training.

    python -m benchmarks reference --data SAF

Rows of `--folds` of four folds get levels from so many labels outside of the fold. The labels are drawn at random (8
times), or chosen to cover: one after the other, the answer that leaves the least variance of all answers under the
kernel. The head is learned on the tasks of the other two thirds. Differences are cover minus random, with intervals by
resampling of tasks.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.case import QWK, case, data_folder
from benchmarks.data import Labelled
from benchmarks.quality import overall
from benchmarks.rows import Row
from benchmarks.screening import FOLDS, THIRDS, Predicted, Recipes, minus

DRAWS = 8
_PENALTY = 1.0
"""Added to the variance of an answer when the next one to label is chosen."""

Floats = npt.NDArray[np.float64]
Choose = Callable[["_Task", Sequence[int], int], list[int]]


class _Task:
    """The training rows of a task with what compares them with its reference."""

    def __init__(self, task: Any, training: Any, comparison: Any) -> None:
        from scoremux_train.recipe import Plan
        from scoremux_train.training.preparation import assign

        self.task, self.rows = task, training.rows
        self.levels: list[int] = training.rows.level.astype(int).tolist()
        self.fold_of = assign(self.levels, training.groups, FOLDS, Plan().seed, task.id, "folds")
        self.comparison = comparison
        self.compared = comparison.compare(task, [*training.rows.text])

    def outside(self, fold: int) -> list[int]:
        """Return the places of the rows that are not in a fold."""
        return [place for place, own in enumerate(self.fold_of) if own != fold]

    def predict(self, fold: int, chosen: Sequence[int], predicted: Predicted) -> None:
        """Add the rows of a fold, compared and corrected by the labels of the chosen rows."""
        shares = self.compared.corrected(chosen, [self.levels[place] for place in chosen]) if chosen else None
        for place, own in enumerate(self.fold_of):
            if own == fold:
                row = Labelled(str(self.rows.id[place]), self.task.id, self.rows.text[place], self.levels[place])
                predicted.rows.append(row)
                predicted.probabilities.append((self.compared.prior if shares is None else shares)[place])


def _tasks(folder: Path) -> list[_Task]:
    """Return the tasks of a corpus, each with a comparison learned on the tasks of the other two thirds."""
    from scoremux_train.reference_comparison import ReferenceComparison

    known = Recipes(folder, 10**6, Path()).read([])
    names, tasks = sorted(known.tasks), []
    for third in range(THIRDS):
        new = names[third::THIRDS]
        others = [(known.tasks[name], known.training[name].rows) for name in names if name not in new]
        comparison = ReferenceComparison.learn(others)
        tasks += [_Task(known.tasks[name], known.training[name], comparison) for name in new]
    return tasks


def at_random(draw: int) -> Choose:
    """Return a choice of rows to label by chance."""

    def choose(task: _Task, places: Sequence[int], count: int) -> list[int]:
        return random.Random(f"{task.task.id} {draw}").sample(places, min(count, len(places)))

    return choose


def to_cover(task: _Task, places: Sequence[int], count: int) -> list[int]:
    """Choose rows to label: each leaves the least variance of all rows, where similar rows have similar levels."""
    left = task.compared.kernel(places)[places]
    chosen: list[int] = []
    for _ in range(min(count, len(places))):
        gain = (left**2).sum(1) / (left.diagonal() + _PENALTY)
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        left = left - np.outer(left[:, best], left[best]) / (left[best, best] + _PENALTY)
    return [places[place] for place in chosen]


@case(
    columns=(
        f"data; labels; chosen; folds; rows; {QWK}; log loss = log_loss:.3f; "
        "cover minus random: mean QWK = shown_mean; pooled QWK = shown_pooled; exact = shown_exact"
    ),
    keys="data labels chosen folds",
    options={
        "--labels": {"type": int, "nargs": "+", "default": [0, 8, 16, 32], "help": "labels of a task"},
        "--folds": {"type": int, "default": FOLDS, "help": "how many of four folds are predicted"},
    },
)
def reference(arguments: argparse.Namespace, _work: Path) -> Iterator[Row]:
    """What a comparison with references gives answers, without training: labels drawn at random, or chosen to cover."""
    tasks = _tasks(data_folder(arguments.data))
    for labels in arguments.labels:
        setting = {"data": arguments.data, "labels": labels, "folds": arguments.folds}
        drawn = _predicted(tasks, arguments.folds, labels, [at_random(draw) for draw in range(DRAWS if labels else 1)])
        yield {**setting, "chosen": "random", **_figures(drawn)}
        if labels:
            covered = _predicted(tasks, arguments.folds, labels, [to_cover])
            again = Predicted(covered.rows * DRAWS, covered.probabilities * DRAWS)
            yield {**setting, "chosen": "cover", **_figures(covered), **minus(again, drawn)}


def _predicted(tasks: Sequence[_Task], folds: int, labels: int, choices: Sequence[Choose]) -> Predicted:
    predicted = Predicted([], [])
    for choose in choices:
        for task in tasks:
            for fold in range(folds):
                task.predict(fold, choose(task, task.outside(fold), labels), predicted)
    return predicted


def _figures(predicted: Predicted) -> dict[str, Any]:
    return {**overall(predicted.rows, predicted.levels), "log_loss": predicted.log_loss, "rows": len(predicted.rows)}
