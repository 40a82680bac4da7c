"""What trained tables say of rows that they have not seen: figures and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from scoremux_train.tables.table_rows import QUARTERS
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
    """The tables that were trained.

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

    def curve(self, task: PreparedTask, folds: Sequence[int], predicted: _Predicted) -> dict[int, CurvePoint]:
        """Return a task's learning curve, of tables of some folds."""
        points, nothing = {}, np.empty(0, np.float32)
        for quarters in QUARTERS:
            rows = [len(self.sets[self.places[task.task.id, fold, quarters]].rows) for fold in folds]
            held = zip(task.examples, task.fold_of, strict=True)
            answers = [predicted[quarters, example.key] if fold in folds else nothing for example, fold in held]
            points[quarters] = CurvePoint(float(np.mean(rows)), answers)
        return points
