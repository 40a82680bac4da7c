"""Train what was prepared: which rows each table learns, how they are trained, and what tables predict."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scoremux_train.progress import Progress
from scoremux_train.recipe import Plan, derived_key
from scoremux_train.training.batches import StepRow, TrainingSet
from scoremux_train.training.checkpoint import Checkpoint, TrainingState
from scoremux_train.training.preparation import WHOLE, Prepared, PreparedTask, assign
from scoremux_train.training.trainer import Probabilities, Trainer

CHECKPOINTS = ".training"
QUARTERS = (1, 2, 4)
"""How many quarters of the rows outside of a fold the tables of a learning curve learn; the last are all rows."""

ALL = QUARTERS[-1]
_NOTHING = np.empty(0, np.float32)


class _Part(NamedTuple):
    """The rows that a table learns: a number of quarters of those outside of a fold."""

    fold: int
    quarters: int = ALL


_Table = tuple[PreparedTask, _Part]


@dataclass(frozen=True)
class TrainedTask:
    """A task with its trained table.

    Attributes:
        predicted: By the number of quarters, the prediction for each row by a table that learned so many of those
            outside of the row's fold; an empty array where there is no such table.
        table: The last table of the task, trained on all rows unless the run has only some of the folds.
        learned: How many rows the tables of the learning curve learned, by the number of quarters.
    """

    prepared: PreparedTask
    predicted: Mapping[int, Sequence[Probabilities]]
    table: Tensor
    learned: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def by_trait(self) -> "list[TrainedTask]":
        """Return each trait of an item as a task with its rows and predictions; a task is returned as it is."""
        traits, first = [], 0
        for prepared, places in self.prepared.traits:
            part = slice(first, first + prepared.levels)
            predicted = {n: [column[place][part] for place in places] for n, column in self.predicted.items()}
            traits.append(TrainedTask(prepared, predicted, self.table, self.learned))
            first += prepared.levels
        return traits or [self]


def train(prepared: Prepared, out: Path, progress: Progress, checkpoint_s: float = 60.0) -> list[TrainedTask]:
    """Train every task and fold; then predict the rows held out.

    Args:
        out: The folder in which checkpoints are kept until the run ends.

    Raises:
        TrainError: A checkpoint is of another version.
    """
    plan = prepared.plan
    folds = [_Part(fold) for fold in prepared.folds]
    curve_folds = range(min(plan.curve_folds, plan.folds)) if WHOLE in prepared.folds else range(0)
    parts = [_Part(fold, quarters) for quarters in QUARTERS[:-1] for fold in curve_folds]
    tables = [(task, part) for task in prepared.tasks for part in folds]
    tables += [(task, part) for part in parts for task in prepared.tasks]
    sets = [_training_set(plan, task, part) for task, part in tables]
    checkpoint = Checkpoint(out / CHECKPOINTS, prepared.fingerprint, checkpoint_s)
    values = _train_tables(prepared, sets, checkpoint, progress)
    predicted = _predict(prepared.trainer, tables, sets, values)
    learned, last = defaultdict[tuple[str, int], list[int]](list), dict[str, Tensor]()
    for (task, part), one, table in zip(tables, sets, values, strict=True):
        if part.fold in curve_folds:
            learned[task.task.id, part.quarters].append(len(one.rows))
        if part == folds[-1]:
            last[task.task.id] = table
    return [
        TrainedTask(
            task,
            {n: [predicted.get((n, row.key), _NOTHING) for row in task.examples] for n in QUARTERS},
            last[task.task.id],
            {n: learned[task.task.id, n] for n in QUARTERS},
        )
        for task in prepared.tasks
    ]


def _train_tables(
    prepared: Prepared, sets: Sequence[TrainingSet], checkpoint: Checkpoint, progress: Progress
) -> Tensor:
    """Train a table for each set, from nothing or the checkpoint; return float32 [T, width]."""
    state = checkpoint.load()
    if state is None:
        seeds = [derived_key(one.seed, one.name, "start") >> 1 for one in sets]
        fresh = [prepared.fresh(one.recipe.rank, one.levels, seed) for one, seed in zip(sets, seeds, strict=True)]
        state = TrainingState.begin(torch.stack(fresh))
    before, done = state.step, 0
    for one in sets:
        epochs, more = divmod(min(before, one.steps), max(1, one.epoch_steps))
        done += epochs * len(one.rows) + min(more * one.recipe.batch, len(one.rows))
    in_all = sum(s.recipe.epochs * len(s.rows) for s in sets)

    def after_step(state: TrainingState, rows: int) -> None:
        nonlocal done
        done += rows
        checkpoint.save_if_due(state)
        progress(done, in_all)

    progress(done, in_all)
    prepared.trainer.run(sets, state, after_step)
    if state.step > before:
        checkpoint.save(state)
    return state.values


def _predict(
    trainer: Trainer, tables: Sequence[_Table], sets: Sequence[TrainingSet], values: Tensor
) -> dict[tuple[int, int], Probabilities]:
    """Predict the rows that are held out in each table's fold; return probabilities by quarters and row's key."""
    rows = [
        StepRow(place, sets[place], example)
        for place, (task, part) in enumerate(tables)
        for example, fold in zip(task.examples, task.fold_of, strict=True)
        if fold == part.fold
    ]
    predictions = trainer.predict(rows, values)
    return {(tables[row.table][1].quarters, row.example.key): p for row, p in predictions}


def _training_set(plan: Plan, task: PreparedTask, part: _Part) -> TrainingSet:
    """Return the rows of `part`, for a task's table to learn."""
    rows = [task.examples[place] for place in _places(plan, task, part)]
    traits = [own.levels for own, _ in task.traits]
    return TrainingSet(_table_name(task, part), task.levels, task.recipe, rows, plan.seed, traits=traits)


def _places(plan: Plan, task: PreparedTask, part: _Part) -> list[int]:
    """Return the places of a part's rows among those of the task."""
    places = [place for place, held_out_in in enumerate(task.fold_of) if held_out_in != part.fold]
    if part.quarters == ALL:
        return places
    levels, groups = ([column[place] for place in places] for column in (task.human, task.groups))
    quarter_of = assign(levels, groups, ALL, plan.seed, _table_name(task, _Part(part.fold)), "curve")
    return [place for place, quarter in zip(places, quarter_of, strict=True) if quarter < part.quarters]


def _table_name(task: PreparedTask, part: _Part) -> str:
    return f"{task.task.id}/{part.fold}" + ("" if part.quarters == ALL else f"/{part.quarters}")
