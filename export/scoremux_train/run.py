"""Train what `preparation.prepare` made ready: the shared start, all tasks and folds. `output.write` writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from scoremux_train.recipe import Plan, Recipe, derived_key
from scoremux_train.training.adapter_files import Start, StartDescription
from scoremux_train.training.batches import StepRow, TrainingSet
from scoremux_train.training.checkpoint import Checkpoint, TrainingState
from scoremux_train.training.folds import assign
from scoremux_train.training.preparation import WHOLE, Prepared, PreparedTask
from scoremux_train.training.table_layout import START_OUTPUTS
from scoremux_train.training.trainer import Probabilities

CHECKPOINTS = ".training"
START = ".start"
QUARTERS = (1, 2, 4)
"""How many quarters of the rows outside of a fold the tables of a learning curve are trained on."""

Progress = Callable[[str, int, int], None]
"""Called with what is going on, and how many rows are done of how many."""


@dataclass(frozen=True)
class CurvePoint:
    """Predictions of tables that were trained on a part of the rows outside of their fold.

    Attributes:
        rows: How many rows they were trained on, as a mean.
        predicted: As in `TrainedTask`; empty for rows of folds that have no such table.
    """

    rows: float
    predicted: Sequence[Probabilities]


@dataclass(frozen=True)
class TrainedTask:
    """A task with what was trained.

    Attributes:
        prepared: The task.
        predicted: What was predicted of each row by a table that had not seen it; empty arrays without folds.
        table: The last that was trained, on all rows unless the run has only some of the folds.
        curve: The points of the learning curve, by the number of quarters; empty where none was trained.
    """

    prepared: PreparedTask
    predicted: Sequence[Probabilities]
    table: torch.Tensor
    curve: Mapping[int, CurvePoint] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What was trained: the tasks, and the shared start that they began from, of this run or an earlier one."""

    tasks: Sequence[TrainedTask]
    start: Start | None = None


def train(prepared: Prepared, out: Path, progress: Progress, checkpoint_s: float = 60.0) -> Trained:
    """Train the shared start, if the plan has one, then every task and fold; then predict the rows held out.

    Args:
        prepared: From `prepare`.
        out: Where checkpoints go.
        progress: Told after each step.
        checkpoint_s: Seconds between checkpoints.

    Raises:
        TrainError: A checkpoint is of another version.
    """
    stages = _Stages(prepared, out / CHECKPOINTS, checkpoint_s, progress)
    plan, start, layout = prepared.plan, prepared.start, prepared.layout
    labelled = [task for task in prepared.tasks if task.rows]
    curve_folds = range(min(plan.curve_folds, plan.folds)) if WHOLE in prepared.folds else range(0)
    parts = [(fold, quarters) for quarters in QUARTERS[:-1] for fold in curve_folds]
    keys = [(task, fold, QUARTERS[-1]) for task in labelled for fold in prepared.folds]
    # A start of an earlier run has seen all rows of its tasks: no table that begins from it knows less.
    seen = () if start is None else start.description.tasks
    keys += [(task, *part) for part in parts for task in labelled if task.task.id not in seen]
    starts: dict[tuple[int, int], torch.Tensor] = {}
    if start is not None:
        starts = dict.fromkeys([*((fold, QUARTERS[-1]) for fold in prepared.folds), *parts], start.table)
    elif plan.shared.epochs:
        starts = stages.shared_starts([*((fold, QUARTERS[-1]) for fold in prepared.folds), *parts])
        if WHOLE in prepared.folds:
            start = Start(_description(prepared), starts[WHOLE, QUARTERS[-1]])
    sets = [_training_set(plan, *key) for key in keys]
    begun = [layout.at_scale(starts[fold, part], t.task.levels) if starts else None for t, fold, part in keys]
    tables = stages.train("tasks", sets, begun).values if sets else torch.empty(0)
    held = [
        StepRow(table, sets[table], example)
        for table, (task, fold, _) in enumerate(keys)
        for example, held_out_in in zip(task.examples, task.fold_of, strict=True)
        if fold != WHOLE and held_out_in == fold
    ]
    predicted = {(keys[row.table][2], row.example.key): p for row, p in prepared.trainer.predict(held, tables)}
    nothing = np.empty(0, np.float32)
    place_of = {(task.task.id, fold, quarters): place for place, (task, fold, quarters) in enumerate(keys)}
    tasks = []
    for task in prepared.tasks:
        name = task.task.id
        if not task.rows:
            tasks.append(TrainedTask(task, (), layout.at_scale(starts[WHOLE, QUARTERS[-1]], task.task.levels)))
            continue
        curve = {
            quarters: CurvePoint(
                float(np.mean([len(sets[place_of[name, fold, quarters]].rows) for fold in curve_folds])),
                [
                    predicted[quarters, example.key] if fold in curve_folds else nothing
                    for example, fold in zip(task.examples, task.fold_of, strict=True)
                ],
            )
            for quarters in (QUARTERS if curve_folds and name not in seen else ())
        }
        of_task = [predicted.get((QUARTERS[-1], example.key), nothing) for example in task.examples]
        tasks.append(TrainedTask(task, of_task, tables[place_of[name, prepared.folds[-1], QUARTERS[-1]]], curve))
    return Trained(tasks, start)


def _start_recipe(plan: Plan) -> Recipe:
    shared = plan.shared
    changes = {"epochs": shared.epochs, "batch": shared.batch, "lr": shared.lr, "head_lr": shared.lr, "patience": 0}
    return plan.recipe.model_copy(update=changes)


def _description(prepared: Prepared) -> StartDescription:
    """Return what is to be known of the start that a run trains."""
    plan, tasks = prepared.plan, [task for task in prepared.tasks if task.rows]
    return StartDescription(
        backbone=prepared.weights,
        recipe=_start_recipe(plan),
        input=plan.shared.input,
        tasks=tuple(task.task.id for task in tasks),
        rows=sum(len(task.rows) for task in tasks),
    )


class _Stages:
    """Trains one stage after the other, each with a checkpoint of its own."""

    def __init__(self, prepared: Prepared, folder: Path, checkpoint_s: float, progress: Progress) -> None:
        self._prepared, self._folder, self._progress, self._checkpoint_s = prepared, folder, progress, checkpoint_s

    def shared_starts(self, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], torch.Tensor]:
        """Return the start of each fold and quarters, trained on what the tables that begin from it are trained on."""
        plan = self._prepared.plan
        recipe, sets = _start_recipe(plan), []
        for fold, quarters in keys:
            rows = [
                task.start_examples[place]
                for task in self._prepared.tasks
                for place in _places(plan, task, fold, quarters)
            ]
            sets.append(TrainingSet(f"{START}/{fold}/{quarters}", START_OUTPUTS, recipe, rows, seed=plan.seed))
        return dict(zip(keys, self.train("start", sets, [None] * len(sets)).values, strict=True))

    def train(self, stage: str, sets: Sequence[TrainingSet], starts: Sequence[torch.Tensor | None]) -> TrainingState:
        """Train a table for each set, from its start or from nothing, or from where a run was stopped."""
        checkpoint = Checkpoint(self._folder, stage, self._prepared.fingerprint, self._checkpoint_s)
        state = checkpoint.load()
        if state is None:
            tables = [
                self._prepared.fresh(s.recipe, s.levels, derived_key(s.seed, s.name, "start") >> 1)
                if start is None
                else start
                for s, start in zip(sets, starts, strict=True)
            ]
            state = TrainingState.begin(torch.stack(tables), any(s.recipe.patience for s in sets))
        in_all = sum(s.recipe.epochs * len(s.rows) for s in sets)
        before, done = state.step, sum(s.rows_before(state.step) for s in sets)

        def after_step(state: TrainingState, rows: int) -> None:
            nonlocal done
            done += rows
            checkpoint.save_if_due(state)
            self._progress(stage, done, in_all)

        self._progress(stage, done, in_all)
        self._prepared.trainer.run(sets, state, after_step)
        if state.step > before:
            checkpoint.save(state)
        return state


def _table_name(task: PreparedTask, fold: int, quarters: int) -> str:
    return f"{task.task.id}/{fold}" if quarters == QUARTERS[-1] else f"{task.task.id}/{fold}/{quarters}"


def _places(plan: Plan, task: PreparedTask, fold: int, quarters: int) -> list[int]:
    """Return the places of the rows that a table is trained on that never sees those of `fold`."""
    places = task.without(fold)
    if quarters == QUARTERS[-1]:
        return places
    levels, groups = ([column[place] for place in places] for column in (task.human, task.groups))
    parts = assign(levels, groups, QUARTERS[-1], plan.seed, _table_name(task, fold, QUARTERS[-1]), "curve")
    return [place for place, part in zip(places, parts, strict=True) if part < quarters]


def _training_set(plan: Plan, task: PreparedTask, fold: int, quarters: int) -> TrainingSet:
    """Return what a task's table is trained on that never sees the rows of `fold`, or so many quarters of it."""
    name, places = _table_name(task, fold, quarters), _places(plan, task, fold, quarters)
    held: list[int] = []
    if task.recipe.patience:
        levels, groups = ([column[place] for place in places] for column in (task.human, task.groups))
        parts = assign(levels, groups, round(1 / task.recipe.validation), plan.seed, name, "validation")
        held = [place for place, part in zip(places, parts, strict=True) if part == 0]
        places = [place for place, part in zip(places, parts, strict=True) if part != 0]
    kept, held_back = ([task.examples[place] for place in part] for part in (places, held))
    return TrainingSet(name, task.levels, task.recipe, kept, held_back, plan.seed)
