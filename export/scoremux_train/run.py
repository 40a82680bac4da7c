"""`scoremux train` in two steps: prepare the tables, train them. `output.write` writes them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoremux_engine.model.tokens import Tokenizer
from scoremux_engine.packages.package import LEAST_ROOM_TOKENS
from scoremux_engine.packages.task import Task
from scoremux_export.opening.classifier import Classifier
from scoremux_export.opening.openable import Opening
from scoremux_export.opening.opened import OpenedModel
from scoremux_train.data import Data, LabelledResponse, training_rows
from scoremux_train.errors import DataError
from scoremux_train.recipe import Plan, Recipe, derived_key
from scoremux_train.training.adapter_files import read_start
from scoremux_train.training.batches import Example, StepRow, TrainingSet
from scoremux_train.training.checkpoint import Checkpoint, TrainingState
from scoremux_train.training.folds import assign, related
from scoremux_train.training.table_layout import TableLayout
from scoremux_train.training.trainer import Probabilities, Trainer

CHECKPOINTS = ".training"
START = ".start"
WHOLE = -1
"""Stands for the fold of the final table, which is trained on all rows."""

QUARTERS = (1, 2, 4)
"""How many quarters of the rows outside of a fold the tables of a learning curve are trained on."""

Progress = Callable[[str, int, int], None]
"""Called with what is going on, and how many rows are done of how many."""


@dataclass(frozen=True)
class PreparedTask:
    """A task's rows to train on.

    Attributes:
        task: What `task.json` will say.
        recipe: How its tables are trained.
        rows: As they were read.
        examples: The rows as the model sees them.
        groups: A number for each row, equal for those that are held out together.
        fold_of: The fold that each row is held out in; none of them without folds.
    """

    task: Task
    recipe: Recipe
    rows: Sequence[LabelledResponse]
    examples: Sequence[Example]
    groups: Sequence[int]
    fold_of: Sequence[int]

    @property
    def levels(self) -> int:
        return len(self.task.levels)

    @property
    def human(self) -> list[int]:
        """The level that a human gave each row."""
        return [row.level for row in self.rows]

    def without(self, fold: int) -> list[int]:
        """Return the places of the rows that are not held out in a fold."""
        return [place for place, held_out_in in enumerate(self.fold_of) if held_out_in != fold]


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
class Prepared:
    """All that training needs.

    Attributes:
        plan: How to train.
        tasks: What to train.
        folds: For each, the folds to train a table without; `WHOLE` for the final table.
        trainer: Holds the backbone.
        fresh: fresh(recipe, levels, seed) returns a table before training.
        fingerprint: A digest of all that decides the tables.
    """

    plan: Plan
    tasks: Sequence[PreparedTask]
    folds: Sequence[int]
    trainer: Trainer
    fresh: Callable[[Recipe, int, int], torch.Tensor]
    fingerprint: str

    @property
    def layout(self) -> TableLayout:
        return self.trainer.layout


@dataclass(frozen=True)
class Trained:
    """What was trained: the tasks, and the shared start by number of levels, if this run trained one."""

    tasks: Sequence[TrainedTask]
    starts: Mapping[int, torch.Tensor] = field(default_factory=dict)


def prepare(
    data: Data,
    chosen: Sequence[str],
    plan: Plan,
    source: str,
    device: str = "cpu",
    folds: Sequence[int] | None = None,
    cores: int = 0,
) -> Prepared:
    """Turn rows into what the model sees, and open the backbone.

    Args:
        data: What was read.
        chosen: Ids of the tasks to train.
        plan: How to train.
        source: The backbone's folder or hub id.
        device: `cpu`, `cuda` or `cuda:N`.
        folds: The folds to train, for comparisons of recipes; by default all, and then the final tables.
        cores: How many to use; 0: all.

    Raises:
        TrainError: A task's input leaves no room to a response, or the recipe is wrong.
    """
    torch.manual_seed(plan.seed)  # for Linears of the head that transformers starts at random
    classifier = Classifier.open(source)
    tokenizer = Tokenizer.of(classifier.tokenizer.backend_tokenizer, classifier.max_tokens)
    tasks = []
    for task, rows in ((data.tasks[name], training_rows(data.rows[name])) for name in chosen):
        if task.layout is not None and (room := tokenizer.room(task.layout.render(""))) < LEAST_ROOM_TOKENS:
            raise DataError(
                f"task {task.id}: its input leaves {room} of {tokenizer.max_tokens} tokens to the response; "
                f"leave {LEAST_ROOM_TOKENS}"
            )
        tokens = tokenizer.encode([task.render(row.text) for row in rows])
        examples = [
            Example(
                derived_key(task.id, row.id),
                row.level,
                seen.ids,
                seen.types if classifier.token_types else (),
                0.0 if math.isnan(row.weight) else row.weight,
            )
            for row, seen in zip(rows, tokens, strict=True)
        ]
        groups, fold_of = related(rows), [WHOLE - 1] * len(rows)
        if plan.folds:
            fold_of = assign([row.level for row in rows], groups, plan.folds, plan.seed, task.id, "folds")
        tasks.append(PreparedTask(task, plan.of(task.id), rows, examples, groups, fold_of))
    digest = _fingerprint(plan, tasks, classifier.model, device)
    sites, head = Opening(plan.sites, plan.modules_to_save).describe(classifier.model)
    layout = TableLayout(sites, head, max(task.recipe.rank for task in tasks), max(task.levels for task in tasks))
    linears = {linear.name: classifier.model.get_submodule(linear.name) for linear in head}
    config = classifier.model.config
    opened = OpenedModel(classifier.model, sites, head, classifier.pad_id)
    return Prepared(
        plan,
        tasks,
        [*range(plan.folds), WHOLE] if folds is None else folds,
        Trainer(opened, layout, classifier.pad_id, device, cores=cores, threads=plan.threads),
        lambda recipe, levels, seed: layout.start(linears, config, recipe.rank, levels, seed),
        digest,
    )


def train(
    prepared: Prepared, out: Path, progress: Progress, checkpoint_s: float = 60.0, start: Path | None = None
) -> Trained:
    """Train the shared start, if the plan has one, then every task and fold; then predict the rows held out.

    Args:
        prepared: From `prepare`.
        out: Where checkpoints go.
        progress: Told after each step.
        checkpoint_s: Seconds between checkpoints.
        start: Output of another run whose shared start is used in place of one of this run's own.

    Raises:
        TrainError: The start does not fit, or a checkpoint is of another version.
    """
    stages = _Stages(prepared, out / CHECKPOINTS, f"{prepared.fingerprint} {start}", checkpoint_s, progress)
    counts = sorted({task.levels for task in prepared.tasks})
    starts: dict[tuple[int, int], torch.Tensor] = {}
    if start is not None:
        tables = {levels: read_start(start / START / f"levels-{levels}", prepared.layout) for levels in counts}
        starts = {(levels, fold): tables[levels] for levels in counts for fold in prepared.folds}
    elif prepared.plan.shared.epochs:
        starts = stages.shared_start(counts)
    keys = [(task, fold, QUARTERS[-1]) for task in prepared.tasks for fold in prepared.folds]
    # A start was trained on all rows: no table that begins from it knows less.
    folds = range(min(prepared.plan.curve_folds, prepared.plan.folds)) if WHOLE in prepared.folds and not starts else ()
    keys += [(task, fold, quarters) for quarters in QUARTERS[:-1] for task in prepared.tasks for fold in folds]
    sets = [_training_set(prepared.plan, *key) for key in keys]
    state = stages.train("tasks", sets, [starts.get((task.levels, fold)) for task, fold, _ in keys])
    held = [
        StepRow(table, sets[table], example)
        for table, (task, fold, _) in enumerate(keys)
        for example, held_out_in in zip(task.examples, task.fold_of, strict=True)
        if fold != WHOLE and held_out_in == fold
    ]
    predicted = {(keys[row.table][2], row.example.key): p for row, p in prepared.trainer.predict(held, state.values)}
    nothing = np.empty(0, np.float32)
    last = range(len(prepared.folds) - 1, len(keys), len(prepared.folds))
    sizes = {(task.task.id, fold, quarters): len(s.rows) for (task, fold, quarters), s in zip(keys, sets, strict=True)}
    tasks = []
    for task, table in zip(prepared.tasks, last, strict=False):
        of_task = [predicted.get((QUARTERS[-1], example.key), nothing) for example in task.examples]
        curve = {
            quarters: CurvePoint(
                float(np.mean([sizes[task.task.id, fold, quarters] for fold in folds])),
                [
                    predicted[quarters, example.key] if fold in folds else nothing
                    for example, fold in zip(task.examples, task.fold_of, strict=True)
                ],
            )
            for quarters in QUARTERS
            if folds
        }
        tasks.append(TrainedTask(task, of_task, state.values[table], curve))
    trained_here = start is None and WHOLE in prepared.folds
    return Trained(tasks, {n: starts[n, WHOLE] for n in counts if trained_here and (n, WHOLE) in starts})


class _Stages:
    """Trains one stage after the other, each with a checkpoint of its own."""

    def __init__(
        self, prepared: Prepared, folder: Path, fingerprint: str, checkpoint_s: float, progress: Progress
    ) -> None:
        self._prepared, self._folder, self._progress = prepared, folder, progress
        self._fingerprint, self._checkpoint_s = fingerprint, checkpoint_s

    def shared_start(self, counts: Sequence[int]) -> dict[tuple[int, int], torch.Tensor]:
        """Return the shared start by number of levels and fold: trained on the rows of all tasks that are not in it."""
        plan, tasks = self._prepared.plan, self._prepared.tasks
        shared = plan.shared
        changes = {"epochs": shared.epochs, "batch": shared.batch, "lr": shared.lr, "head_lr": shared.lr, "patience": 0}
        recipe = plan.recipe.model_copy(update=changes)
        keys = [(levels, fold) for levels in counts for fold in self._prepared.folds]
        sets = []
        for levels, fold in keys:
            rows = [t.examples[place] for t in tasks if t.levels == levels for place in t.without(fold)]
            sets.append(TrainingSet(f"{START}/{levels}/{fold}", levels, recipe, rows, seed=plan.seed))
        return dict(zip(keys, self.train("start", sets, [None] * len(sets)).values, strict=True))

    def train(self, stage: str, sets: Sequence[TrainingSet], starts: Sequence[torch.Tensor | None]) -> TrainingState:
        """Train a table for each set, from its start or from nothing, or from where a run was stopped."""
        checkpoint = Checkpoint(self._folder, stage, self._fingerprint, self._checkpoint_s)
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


def _training_set(plan: Plan, task: PreparedTask, fold: int, quarters: int) -> TrainingSet:
    """Return what a task's table is trained on that never sees the rows of `fold`, or so many quarters of it."""
    name, places = f"{task.task.id}/{fold}", task.without(fold)
    if quarters < QUARTERS[-1]:
        levels, groups = ([column[place] for place in places] for column in (task.human, task.groups))
        parts = assign(levels, groups, QUARTERS[-1], plan.seed, name, "curve")
        places = [place for place, part in zip(places, parts, strict=True) if part < quarters]
        name = f"{name}/{quarters}"
    held: list[int] = []
    if task.recipe.patience:
        levels, groups = ([column[place] for place in places] for column in (task.human, task.groups))
        parts = assign(levels, groups, round(1 / task.recipe.validation), plan.seed, name, "validation")
        held = [place for place, part in zip(places, parts, strict=True) if part == 0]
        places = [place for place, part in zip(places, parts, strict=True) if part != 0]
    kept, held_back = ([task.examples[place] for place in part] for part in (places, held))
    return TrainingSet(name, task.levels, task.recipe, kept, held_back, plan.seed)


def _fingerprint(plan: Plan, tasks: Sequence[PreparedTask], model: Any, device: str) -> str:
    """Return a digest of all that decides the tables, besides the start."""
    digest = hashlib.sha256(plan.model_dump_json().encode())
    for task in tasks:
        digest.update(task.task.model_dump_json().encode())
        for row, example, *held_out in zip(task.rows, task.examples, task.groups, task.fold_of, strict=True):
            seen = row.level, list(example.tokens), list(example.token_types)
            digest.update(repr((row.id, *seen, example.weight, *held_out)).encode())
    for name, parameter in sorted(model.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(parameter.cpu().numpy()).tobytes())
    digest.update(device.partition(":")[0].encode())
    return digest.hexdigest()
