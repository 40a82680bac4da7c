"""Train what was prepared: which rows each table learns, the stages of training, and what tables predict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

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


@dataclass(frozen=True)
class CurvePoint:
    """Predictions of tables that learned a part of the rows outside of their fold.

    Attributes:
        rows: The mean number of rows that the tables learned.
        predicted: As in `TrainedTask`; empty for rows of folds without such a table.
    """

    rows: float
    predicted: Sequence[Probabilities]


@dataclass(frozen=True)
class TrainedTask:
    """A task with its trained table.

    Attributes:
        predicted: The prediction for each row by a table that had not learned it; empty arrays without folds.
        table: The last table of the task, trained on all rows unless the run has only some of the folds.
        curve: The points of the learning curve, by the number of quarters; empty where none was trained.
    """

    prepared: PreparedTask
    predicted: Sequence[Probabilities]
    table: torch.Tensor
    curve: Mapping[int, CurvePoint] = field(default_factory=dict)


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
    keys = [(task, part) for task in prepared.tasks for part in folds]
    keys += [(task, part) for part in parts for task in prepared.tasks if not task.seen_by_start]
    starts: dict[_Part, torch.Tensor] = {}
    if start is not None:
        starts = dict.fromkeys([*folds, *parts], start.table)
    elif plan.shared.epochs:
        starts = stages.train_starts([*folds, *parts])
        start = Start(_description(prepared), starts[_Part(WHOLE)]) if WHOLE in prepared.folds else None
    tables = _Tables.train(stages, keys, starts)
    predicted = tables.predict(prepared.trainer)
    tasks = []
    for task in prepared.tasks:
        of_rows = [predicted.get((ALL, example.key), _NOTHING) for example in task.examples]
        table = tables.values[tables.places[task.task.id, folds[-1]]]
        curve = tables.curve(task, curve_folds, predicted) if curve_folds and not task.seen_by_start else {}
        tasks.append(TrainedTask(task, of_rows, table, curve))
    return Trained(tasks, start)


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

    def train_starts(self, parts: Sequence[_Part]) -> dict[_Part, torch.Tensor]:
        """Return a start for each part of the rows, trained on the rows of all tables that begin from it."""
        sets = [_start_set(self.prepared, part) for part in parts]
        return dict(zip(parts, self.train("start", sets, [None] * len(sets)), strict=True))

    def train(
        self,
        stage: str,
        sets: Sequence[TrainingSet],
        starts: Sequence[torch.Tensor | None],
    ) -> torch.Tensor:
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
        before = state.step
        done = sum(s.rows_before(before) for s in sets)
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


@dataclass(frozen=True)
class _Tables:
    """The trained tables of tasks, each with the rows that it learned; values float32 [T, width]."""

    keys: Sequence[tuple[PreparedTask, _Part]]
    sets: Sequence[TrainingSet]
    values: torch.Tensor

    @classmethod
    def train(
        cls,
        stages: _Stages,
        keys: Sequence[tuple[PreparedTask, _Part]],
        starts: Mapping[_Part, torch.Tensor],
    ) -> "_Tables":
        """Train a table for each key, from the shared start of its part where there is one."""
        prepared = stages.prepared
        sets = [_training_set(prepared.plan, task, part) for task, part in keys]
        at_scale = [prepared.layout.at_scale(starts[part], task.task.levels) if starts else None for task, part in keys]
        return cls(keys, sets, stages.train("tasks", sets, at_scale))

    @cached_property
    def places(self) -> dict[tuple[str, _Part], int]:
        """The place of each table, by its task's id and part."""
        return {(task.task.id, part): place for place, (task, part) in enumerate(self.keys)}

    def predict(self, trainer: Trainer) -> dict[tuple[int, int], Probabilities]:
        """Predict the rows that are held out in each table's fold; return probabilities by quarters and row's key."""
        rows = [
            StepRow(place, self.sets[place], example)
            for place, (task, part) in enumerate(self.keys)
            for example, fold in zip(task.examples, task.fold_of, strict=True)
            if fold == part.fold
        ]
        answers = trainer.predict(rows, self.values)
        return {(self.keys[row.table][1].quarters, row.example.key): p for row, p in answers}

    def curve(
        self, task: PreparedTask, folds: Sequence[int], predicted: Mapping[tuple[int, int], Probabilities]
    ) -> dict[int, CurvePoint]:
        """Return the learning curve of a task, from tables of some folds."""
        points = {}
        for quarters in QUARTERS:
            places = [self.places[task.task.id, _Part(fold, quarters)] for fold in folds]
            mean = float(np.mean([len(self.sets[place].rows) for place in places]))
            answers = [
                predicted[quarters, row.key] if fold in folds else _NOTHING
                for row, fold in zip(task.examples, task.fold_of, strict=True)
            ]
            points[quarters] = CurvePoint(mean, answers)
        return points


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
