"""Train what `preparation.prepare` made ready: the shared start, all tasks and folds. `output.write` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from scoremux_train.tables.stages import Stages
from scoremux_train.tables.table_predictions import CurvePoint, TrainedTables
from scoremux_train.tables.table_rows import QUARTERS, start_recipe, training_set
from scoremux_train.training.adapter_files import Start, StartDescription
from scoremux_train.training.preparation import WHOLE, Prepared, PreparedTask
from scoremux_train.training.progress import Progress
from scoremux_train.training.trainer import Probabilities

CHECKPOINTS = ".training"


@dataclass(frozen=True)
class TrainedTask:
    """A task with what was trained.

    Attributes:
        prepared: The task.
        predicted: What was predicted of each row by a table that had not seen it; empty arrays without folds.
        table: The last that was trained, on all rows unless the run has only some of the folds.
        curve: The points of the learning curve, by the number of quarters; empty where none was trained. 0: an earlier
            run's start as it is.
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
    stages = Stages(prepared, out / CHECKPOINTS, checkpoint_s, progress)
    plan, start, layout = prepared.plan, prepared.start, prepared.layout
    labelled = [task for task in prepared.tasks if task.rows]
    curve_folds = range(min(plan.curve_folds, plan.folds)) if WHOLE in prepared.folds else range(0)
    parts = [(fold, quarters) for quarters in QUARTERS[:-1] for fold in curve_folds]
    keys = [(t, fold, QUARTERS[-1]) for t in labelled for fold in prepared.folds if not (t.taught and fold == WHOLE)]
    # A start of an earlier run has seen all rows of its tasks: no table that begins from it knows less.
    keys += [(task, *part) for part in parts for task in labelled if not task.seen_by_start]
    begins = [(fold, QUARTERS[-1]) for fold in prepared.folds] + parts
    starts: dict[tuple[int, int], torch.Tensor] = {}
    if start is not None:
        starts = dict.fromkeys(begins, start.table)
    elif plan.shared.epochs:
        starts = stages.shared_starts(begins)
        if WHOLE in prepared.folds:
            start = Start(_description(prepared), starts[WHOLE, QUARTERS[-1]])

    def begun(task: PreparedTask, fold: int, quarters: int) -> torch.Tensor | None:
        return layout.at_scale(starts[fold, quarters], task.task.levels) if starts else None

    sets = [training_set(plan, *key) for key in keys]
    values = stages.train("tasks", sets, [begun(*key) for key in keys]).values if sets else torch.empty(0)
    tables = TrainedTables(
        prepared, {(t.task.id, fold, part): n for n, (t, fold, part) in enumerate(keys)}, sets, values
    )
    predicted = tables.predict(labelled)
    if prepared.start is not None and curve_folds:
        predicted |= tables.predict_by_start(
            prepared.start.table, [task for task in labelled if not task.seen_by_start], curve_folds
        )
    final = {name: values[place] for (name, fold, _), place in tables.places.items() if fold == prepared.folds[-1]}
    if taught := [task for task in labelled if task.taught and WHOLE in prepared.folds]:
        pupils = [tables.pupil(task, predicted) for task in taught]
        state = stages.train("taught", pupils, [begun(task, WHOLE, QUARTERS[-1]) for task in taught])
        final |= {task.task.id: table for task, table in zip(taught, state.values, strict=True)}
    tasks, nothing = [], np.empty(0, np.float32)
    for task in prepared.tasks:
        name = task.task.id
        if not task.rows:
            tasks.append(TrainedTask(task, (), layout.at_scale(starts[WHOLE, QUARTERS[-1]], task.task.levels)))
            continue
        of_task = [predicted.get((QUARTERS[-1], example.key), nothing) for example in task.examples]
        curve = tables.curve(task, curve_folds, predicted) if curve_folds and not task.seen_by_start else {}
        tasks.append(TrainedTask(task, of_task, final[name], curve))
    return Trained(tasks, start)


def train_start(prepared: Prepared, out: Path, progress: Progress, checkpoint_s: float = 60.0) -> Start:
    """Train a shared start on all rows, and nothing else; see `train`."""
    key = (WHOLE, QUARTERS[-1])
    table = Stages(prepared, out / CHECKPOINTS, checkpoint_s, progress).shared_starts([key])[key]
    return Start(_description(prepared), table)


def _description(prepared: Prepared) -> StartDescription:
    """Return what is to be known of the start that a run trains."""
    plan, tasks = prepared.plan, [task for task in prepared.tasks if task.rows]
    return StartDescription(
        backbone=prepared.weights,
        recipe=start_recipe(plan),
        input=plan.shared.input,
        tasks=tuple(task.task.id for task in tasks),
        rows=sum(len(task.rows) for task in tasks),
    )
