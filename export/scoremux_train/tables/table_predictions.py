"""What trained tables say of rows that they have not seen: figures, learning curves, and soft targets for pupils."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np
import torch

from scoremux_train.tables.table_rows import QUARTERS, training_set
from scoremux_train.training.batches import StepRow, TrainingSet
from scoremux_train.training.preparation import WHOLE, Prepared, PreparedTask
from scoremux_train.training.trainer import Probabilities


@dataclass(frozen=True)
class CurvePoint:
    """Predictions of tables that were trained on a part of the rows outside of their fold.

    Attributes:
        rows: How many rows they were trained on, as a mean.
        predicted: As in `TrainedTask`; empty for rows of folds that have no such table.
    """

    rows: float
    predicted: Sequence[Probabilities]


_Predicted = Mapping[tuple[int, int], Probabilities]
"""Probabilities by quarters and key of a row, of the table that had not seen it."""


@dataclass(frozen=True)
class TrainedTables:
    """What the first stage of tasks trained.

    Attributes:
        prepared: The run.
        places: Of each table, by task, fold and quarters.
        sets: What each was trained on.
        values: float32 [T, width].
    """

    prepared: Prepared
    places: Mapping[tuple[str, int, int], int]
    sets: Sequence[TrainingSet]
    values: torch.Tensor

    def predict(self, tasks: Sequence[PreparedTask]) -> dict[tuple[int, int], Probabilities]:
        """Predict the rows that are held out in each table's fold."""
        folds, of_id = {}, {task.task.id: task for task in tasks}
        for (name, fold, quarters), place in self.places.items():
            if fold != WHOLE:
                folds[place] = of_id[name], fold, quarters
        held = [
            StepRow(place, self.sets[place], example)
            for place, (task, fold, _) in folds.items()
            for example, held_out_in in zip(task.examples, task.fold_of, strict=True)
            if held_out_in == fold
        ]
        answers = self.prepared.trainer.predict(held, self.values)
        return {(folds[row.table][2], row.example.key): p for row, p in answers}

    def predict_by_start(
        self, start: torch.Tensor, tasks: Sequence[PreparedTask], folds: Sequence[int]
    ) -> dict[tuple[int, int], Probabilities]:
        """Predict rows of folds by an earlier run's start as it is, which has seen none of a task's rows."""
        rows, keys = [], {}
        for place, task in enumerate(tasks):
            of_start = TrainingSet(task.task.id, task.levels, task.recipe, ())
            for example, seen, fold in zip(task.examples, task.start_examples, task.fold_of, strict=False):
                if fold in folds:
                    keys[seen.key] = example.key
                    rows.append(StepRow(place, of_start, seen))
        values = [self.prepared.layout.at_scale(start, task.task.levels) for task in tasks]
        answers = self.prepared.trainer.predict(rows, torch.stack(values)) if rows else ()
        return {(0, keys[row.example.key]): p for row, p in answers}

    def curve(self, task: PreparedTask, folds: Sequence[int], predicted: _Predicted) -> dict[int, CurvePoint]:
        """Return a task's learning curve, of tables of some folds and of a start as it is."""
        points, nothing = {}, np.empty(0, np.float32)
        by_start = any((0, example.key) in predicted for example in task.examples)
        for quarters in (0, *QUARTERS) if by_start else QUARTERS:
            rows = [len(self.sets[self.places[task.task.id, f, quarters]].rows) if quarters else 0 for f in folds]
            held = zip(task.examples, task.fold_of, strict=True)
            answers = [predicted[quarters, example.key] if fold in folds else nothing for example, fold in held]
            points[quarters] = CurvePoint(float(np.mean(rows)), answers)
        return points

    def pupil(self, task: PreparedTask, predicted: _Predicted) -> TrainingSet:
        """Return what a task's final table learns: labelled rows, each with what the table that had not seen it says of
        it, and responses without a label of which all folds' tables say the same level, with the mean of what they say.
        """
        of_task = training_set(self.prepared.plan, task, WHOLE, QUARTERS[-1])
        rows = [replace(row, taught=_floats(predicted[QUARTERS[-1], row.key])) for row in of_task.rows]
        folds = [self.places[task.task.id, fold, QUARTERS[-1]] for fold in self.prepared.folds if fold != WHOLE]
        unlabelled = [StepRow(place, self.sets[place], example) for place in folds for example in task.unlabelled]
        answers: dict[int, list[tuple[int, Probabilities]]] = {example.key: [] for example in task.unlabelled}
        for row, p in self.prepared.trainer.predict(unlabelled, self.values):
            answers[row.example.key].append((row.table, p))
        for example in task.unlabelled:
            probabilities = [p for _, p in sorted(answers[example.key], key=itemgetter(0))]
            if len({int(np.argmax(p)) for p in probabilities}) == 1:
                rows.append(replace(example, taught=_floats(np.mean(probabilities, axis=0))))
        return replace(of_task, rows=rows)


def _floats(probabilities: Probabilities) -> tuple[float, ...]:
    return tuple(map(float, probabilities))
