"""Train what was prepared: which rows each table learns, the stages of training, and what tables predict."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scoremux_train.progress import Progress
from scoremux_train.recipe import Plan, Recipe, derived_key
from scoremux_train.training.adapter_files import START, Start, StartDescription
from scoremux_train.training.batches import StepRow, TrainingSet
from scoremux_train.training.checkpoint import Checkpoint, TrainingState
from scoremux_train.training.preparation import WHOLE, Prepared, PreparedTask, assign
from scoremux_train.training.table_layout import START_OUTPUTS
from scoremux_train.training.trainer import Probabilities, Trainer

CHECKPOINTS = ".training"
QUARTERS = (1, 2, 4)
"""How many quarters of the rows outside of a fold the tables of a learning curve learn; the last are all rows."""

ALL = QUARTERS[-1]
_NOTHING = np.empty(0, np.float32)
_START_RATE = 1e-3
"""The largest learning rate of a shared start, its head included."""


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


@dataclass(frozen=True)
class Trained:
    """The result of training: the tasks, and the shared start of their tables, of this run or an earlier one."""

    tasks: Sequence[TrainedTask]
    start: Start | None = None


def train(
    prepared: Prepared,
    out: Path,
    progress: Progress,
    checkpoint_s: float = 60.0,
) -> Trained:
    """Train the shared start, if the plan has one, then every task and fold; then predict the rows held out.

    Args:
        out: The folder in which checkpoints are kept until the run ends.

    Raises:
        TrainError: A checkpoint is of another version.
    """
    stages = _Stages(prepared, out / CHECKPOINTS, checkpoint_s, progress)
    plan, start = prepared.plan, prepared.start
    folds = [_Part(fold) for fold in prepared.folds]
    curve_folds = range(min(plan.curve_folds, plan.folds)) if WHOLE in prepared.folds else range(0)
    parts = [_Part(fold, quarters) for quarters in QUARTERS[:-1] for fold in curve_folds]
    # The start of an earlier run has learned all rows of its tasks: no table that begins from it has learned fewer.
    tables = [(task, part) for task in prepared.tasks for part in folds]
    tables += [(task, part) for part in parts for task in prepared.tasks if not task.seen_by_start]
    starts: dict[_Part, Tensor] = {}
    if start is not None:
        starts = dict.fromkeys([*folds, *parts], start.table)
    elif plan.shared.epochs:
        starts = stages.train_starts([*folds, *parts])
        start = Start(_description(prepared), starts[_Part(WHOLE)]) if WHOLE in prepared.folds else None
    sets = [_training_set(plan, task, part) for task, part in tables]
    values = stages.train_tasks(tables, sets, starts)
    predicted = _predict(prepared.trainer, tables, sets, values)
    learned, last = defaultdict[tuple[str, int], list[int]](list), dict[str, Tensor]()
    for (task, part), one, table in zip(tables, sets, values, strict=True):
        if part.fold in curve_folds:
            learned[task.task.id, part.quarters].append(len(one.rows))
        if part == folds[-1]:
            last[task.task.id] = table
    return Trained(
        [
            TrainedTask(
                task,
                {n: [predicted.get((n, row.key), _NOTHING) for row in task.examples] for n in QUARTERS},
                last[task.task.id],
                {n: learned[task.task.id, n] for n in QUARTERS},
            )
            for task in prepared.tasks
        ],
        start,
    )


def train_start(
    prepared: Prepared,
    out: Path,
    progress: Progress,
    checkpoint_s: float = 60.0,
) -> Start:
    """Train a shared start on all rows, and nothing else; see `train`."""
    stages, whole = _Stages(prepared, out / CHECKPOINTS, checkpoint_s, progress), _Part(WHOLE)
    return Start(_description(prepared), stages.train_starts([whole])[whole])


def _description(prepared: Prepared) -> StartDescription:
    """Return the description of the start that a run trains."""
    return StartDescription(
        backbone=prepared.weights,
        recipe=_start_recipe(prepared.plan),
        tasks=tuple(task.task.id for task in prepared.tasks),
        rows=sum(len(task.rows) for task in prepared.tasks),
    )


@dataclass(frozen=True)
class _Stages:
    """Trains one stage after the other, each with a checkpoint in `folder`."""

    prepared: Prepared
    folder: Path
    checkpoint_s: float
    progress: Progress

    def train_starts(self, parts: Sequence[_Part]) -> dict[_Part, Tensor]:
        """Return a start for each part of the rows, trained on the rows of all tables that begin from it."""
        sets = [_start_set(self.prepared, part) for part in parts]
        return dict(zip(parts, self.train("start", sets, [None] * len(sets)), strict=True))

    def train_tasks(
        self, tables: Sequence[_Table], sets: Sequence[TrainingSet], starts: Mapping[_Part, Tensor]
    ) -> Tensor:
        """Train a table for each set, from the shared start of its part where there is one."""
        layout = self.prepared.layout
        at_scale = [layout.at_scale(starts[part], task.task.levels) if starts else None for task, part in tables]
        return self.train("tasks", sets, at_scale)

    def train(
        self,
        stage: str,
        sets: Sequence[TrainingSet],
        starts: Sequence[Tensor | None],
    ) -> Tensor:
        """Train a table for each set, from its start, nothing or a checkpoint; return float32 [T, width]."""
        checkpoint = Checkpoint(self.folder, stage, self.prepared.fingerprint, self.checkpoint_s)
        state = checkpoint.load()
        if state is None:
            tables = []
            for one, start in zip(sets, starts, strict=True):
                if start is None:
                    seed = derived_key(one.seed, one.name, "start") >> 1
                    tables.append(self.prepared.fresh(one.recipe.rank, one.levels, seed))
                else:
                    tables.append(start)
            state = TrainingState.begin(torch.stack(tables))
        before, done = state.step, 0
        for one in sets:
            epochs, more = divmod(min(before, one.steps), max(1, one.epoch_steps))
            done += epochs * len(one.rows) + min(more * one.recipe.batch, len(one.rows))
        in_all = sum(s.recipe.epochs * len(s.rows) for s in sets)

        def after_step(state: TrainingState, rows: int) -> None:
            nonlocal done
            done += rows
            checkpoint.save_if_due(state)
            self.progress(stage, done, in_all)

        self.progress(stage, done, in_all)
        self.prepared.trainer.run(sets, state, after_step)
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
    return TrainingSet(
        _table_name(task, part),
        task.levels,
        task.recipe,
        rows,
        plan.seed,
    )


def _start_set(prepared: Prepared, part: _Part) -> TrainingSet:
    """Return the rows of all tables of a part, for their start to learn."""
    plan = prepared.plan
    rows = [
        replace(task.examples[place], scale=task.task.levels)
        for task in prepared.tasks
        for place in _places(plan, task, part)
    ]
    name = f"{START}/{part.fold}/{part.quarters}"
    return TrainingSet(name, START_OUTPUTS, _start_recipe(plan), rows, plan.seed, _START_RATE)


def _start_recipe(plan: Plan) -> Recipe:
    """Return the recipe of a shared start: a level's rarity means nothing over tasks of different scales."""
    changes = {
        "epochs": plan.shared.epochs,
        "batch": 32,
        "lr": _START_RATE,
        "class_weights": 0.0,
    }
    return plan.recipe.model_copy(update=changes)


def _places(plan: Plan, task: PreparedTask, part: _Part) -> list[int]:
    """Return the places of a part's rows among those of the task."""
    places = [place for place, held_out_in in enumerate(task.fold_of) if held_out_in != part.fold]
    if part.quarters == ALL:
        return places
    levels, groups = ([column[place] for place in places] for column in (task.human, task.groups))
    quarter_of = assign(
        levels,
        groups,
        ALL,
        plan.seed,
        _table_name(task, _Part(part.fold)),
        "curve",
    )
    return [place for place, quarter in zip(places, quarter_of, strict=True) if quarter < part.quarters]


def _table_name(task: PreparedTask, part: _Part) -> str:
    return f"{task.task.id}/{part.fold}" + ("" if part.quarters == ALL else f"/{part.quarters}")
