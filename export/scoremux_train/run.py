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
    stages = Stages(prepared, out / CHECKPOINTS, checkpoint_s, progress)
    plan, start, layout = prepared.plan, prepared.start, prepared.layout
    curve_folds = range(min(plan.curve_folds, plan.folds)) if WHOLE in prepared.folds else range(0)
    parts = [(fold, quarters) for quarters in QUARTERS[:-1] for fold in curve_folds]
    keys = [(task, fold, QUARTERS[-1]) for task in prepared.tasks for fold in prepared.folds]
    # A start of an earlier run has seen all rows of its tasks: no table that begins from it knows less.
    keys += [(task, *part) for part in parts for task in prepared.tasks if not task.seen_by_start]
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
    values = stages.train("tasks", sets, [begun(*key) for key in keys]).values
    tables = TrainedTables(
        prepared, {(t.task.id, fold, part): n for n, (t, fold, part) in enumerate(keys)}, sets, values
    )
    predicted = tables.predict(prepared.tasks)
    final = {name: values[place] for (name, fold, _), place in tables.places.items() if fold == prepared.folds[-1]}
    tasks, nothing = [], np.empty(0, np.float32)
    for task in prepared.tasks:
        of_task = [predicted.get((QUARTERS[-1], example.key), nothing) for example in task.examples]
        curve = tables.curve(task, curve_folds, predicted) if curve_folds and not task.seen_by_start else {}
        tasks.append(TrainedTask(task, of_task, final[task.task.id], curve))
    return Trained(tasks, start)


def train_start(prepared: Prepared, out: Path, progress: Progress, checkpoint_s: float = 60.0) -> Start:
    """Train a shared start on all rows, and nothing else; see `train`."""
    key = (WHOLE, QUARTERS[-1])
    table = Stages(prepared, out / CHECKPOINTS, checkpoint_s, progress).shared_starts([key])[key]
    return Start(_description(prepared), table)


def _description(prepared: Prepared) -> StartDescription:
    """Return what is to be known of the start that a run trains."""
    return StartDescription(
        backbone=prepared.weights,
        recipe=start_recipe(prepared.plan),
        tasks=tuple(task.task.id for task in prepared.tasks),
        rows=sum(len(task.rows) for task in prepared.tasks),
    )
