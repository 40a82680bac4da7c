"""Train what was prepared: which rows each table learns, how they are trained, and what tables predict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoremux_engine.model.backbone import head_inputs
from scoremux_evidence.sampling import derived_key
from scoremux_train.progress import Progress
from scoremux_train.recipe import Plan
from scoremux_train.training.batches import StepRow, TrainingSet
from scoremux_train.training.checkpoint import Checkpoint, TrainingState
from scoremux_train.training.preparation import WHOLE, Prepared, PreparedTask
from scoremux_train.training.trainer import Probabilities, Trainer

CHECKPOINTS = ".training"
_NOTHING = np.empty(0, np.float32)
_EVENED, _LEAST_SHARE = 0.35, 0.01
"""Of `_even`: the power of levels' shares, and the least share."""

_Table = tuple[PreparedTask, int]
"""A task, and the fold whose rows a table of it does not learn."""


@dataclass(frozen=True)
class TrainedTask:
    """A task with its trained table.

    Attributes:
        predicted: The prediction for each row by the table that learned the rows outside of the row's fold; an empty
            array where there is no such table.
        table: The last table of the task, trained on all rows unless the run has only some of the folds.
    """

    prepared: PreparedTask
    predicted: Sequence[Probabilities]
    table: Tensor

    @property
    def log_loss(self) -> float:
        """The mean log loss of rows that were held out; NaN without any."""
        pairs = zip(self.predicted, self.prepared.human, strict=True)
        losses = [-math.log(max(shares[level], 1e-9)) for shares, level in pairs if len(shares)]
        return sum(losses) / len(losses) if losses else math.nan

    def by_trait(self) -> "list[TrainedTask]":
        """Return each trait of an item as a task with its rows and predictions; a task is returned as it is."""
        traits, first = [], 0
        for prepared, places in self.prepared.traits:
            part = slice(first, first + prepared.levels)
            predicted = [self.predicted[place][part] for place in places]
            traits.append(TrainedTask(prepared, predicted, self.table))
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
    tables = [(task, fold) for task in prepared.tasks for fold in prepared.folds if fold in (WHOLE, *task.fold_of)]
    sets = [_training_set(plan, task, fold) for task, fold in tables]
    checkpoint = Checkpoint(out / CHECKPOINTS, prepared.fingerprint, checkpoint_s)
    values = _train_tables(prepared, sets, checkpoint, progress)
    _even(prepared, tables, sets, values)
    predicted = _predict(prepared.trainer, tables, sets, values)
    last = {task.name: table for (task, _), table in zip(tables, values, strict=True)}
    return [
        TrainedTask(task, [predicted.get(row.key, _NOTHING) for row in task.examples], last[task.name])
        for task in prepared.tasks
    ]


def better(trained: Sequence[TrainedTask]) -> tuple[list[TrainedTask], list[str]]:
    """Return an adapter for each task, and sentences about tasks with two of them.

    The taught one is kept unless the plain one has a lower log loss of rows that were held out.
    """
    kept, said = dict[str, TrainedTask](), []
    for task in trained:
        name = task.prepared.task.id
        plain = kept.setdefault(name, task)
        if plain is task:
            continue
        if not plain.log_loss < task.log_loss:
            kept[name] = task
        said.append(
            f"{name}: out-of-fold log loss {plain.log_loss:.4f}, taught by the comparison {task.log_loss:.4f}: the "
            f"{'plain' if kept[name] is plain else 'taught'} adapter is kept"
        )
    return [*kept.values()], said


def _train_tables(
    prepared: Prepared, sets: Sequence[TrainingSet], checkpoint: Checkpoint, progress: Progress
) -> Tensor:
    """Train a table for each set, from nothing or the checkpoint; return float32 [T, width]."""
    state = checkpoint.load()
    if state is None:
        seeds = [derived_key(one.seed, one.name, "start") >> 1 for one in sets]
        fresh = [
            prepared.fresh(one.recipe.rank, one.levels, seed, one.traits) for one, seed in zip(sets, seeds, strict=True)
        ]
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


def _even(prepared: Prepared, tables: Sequence[_Table], sets: Sequence[TrainingSet], values: Tensor) -> None:
    """bias[l] −= 0.35 · log(share[l]) in taught tables, in place, with the share of level l in the unlabelled answers.

    Targets that are sharper than what is known make the most frequent levels too frequent. values: float32 [T, width].
    """
    last = prepared.layout.head[-1]
    answers = {
        place: [StepRow(place, sets[place], example) for example in task.taught[fold][: len(task.unlabelled)]]
        for place, (task, fold) in enumerate(tables)
        if task.unlabelled is not None and last.bias
    }
    rows = [row for of_table in answers.values() for row in of_table]
    shares = {(row.table, row.example.key): own for row, own in prepared.trainer.predict(rows, values)}
    for place, of_table in answers.items():
        share = np.mean([shares[place, row.example.key] for row in of_table], axis=0)
        bias = prepared.layout.views(values[place])[head_inputs(last.name)[1]]
        bias[: len(share)] -= _EVENED * torch.from_numpy(np.log(np.maximum(share, _LEAST_SHARE)))


def _predict(
    trainer: Trainer, tables: Sequence[_Table], sets: Sequence[TrainingSet], values: Tensor
) -> dict[int, Probabilities]:
    """Predict the rows that are held out in each table's fold; return probabilities by row's key."""
    rows = [
        StepRow(place, sets[place], example)
        for place, (task, fold) in enumerate(tables)
        for example, own_fold in zip(task.examples, task.fold_of, strict=True)
        if own_fold == fold
    ]
    return {row.example.key: probabilities for row, probabilities in trainer.predict(rows, values)}


def _training_set(plan: Plan, task: PreparedTask, fold: int) -> TrainingSet:
    """Return the rows outside of a fold, for a task's table to learn."""
    rows = [example for example, own_fold in zip(task.examples, task.fold_of, strict=True) if own_fold != fold]
    rows += task.taught.get(fold, ())
    traits = [own.levels for own, _ in task.traits]
    return TrainingSet(f"{task.name}/{fold}", task.levels, task.recipe, rows, plan.seed, traits=traits)
