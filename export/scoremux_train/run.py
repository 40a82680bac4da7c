"""Train what `preparation.prepare` made ready: the shared start, all tasks and folds. `output.write` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch

from scoremux_train.recipe import Plan, Recipe, derived_key
from scoremux_train.training.adapter_files import START, Start, StartDescription
from scoremux_train.training.batches import StepRow, TrainingSet
from scoremux_train.training.checkpoint import Checkpoint, TrainingState
from scoremux_train.training.folds import assign
from scoremux_train.training.preparation import WHOLE, Prepared, PreparedTask
from scoremux_train.training.progress import Progress
from scoremux_train.training.table_layout import START_OUTPUTS
from scoremux_train.training.trainer import Probabilities

CHECKPOINTS = ".training"
QUARTERS = (1, 2, 4)
"""How many quarters of the rows outside of a fold the tables of a learning curve are trained on."""


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
    stages = _Stages(prepared, out / CHECKPOINTS, checkpoint_s, progress)
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

    sets = [_training_set(plan, *key) for key in keys]
    values = stages.train("tasks", sets, [begun(*key) for key in keys]).values if sets else torch.empty(0)
    tables = _Tables(prepared, {(t.task.id, fold, part): n for n, (t, fold, part) in enumerate(keys)}, sets, values)
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
    table = _Stages(prepared, out / CHECKPOINTS, checkpoint_s, progress).shared_starts([key])[key]
    return Start(_description(prepared), table)


_Predicted = Mapping[tuple[int, int], Probabilities]
"""Probabilities by quarters and key of a row, of the table that had not seen it."""


@dataclass(frozen=True)
class _Tables:
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
        of_task = _training_set(self.prepared.plan, task, WHOLE, QUARTERS[-1])
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
