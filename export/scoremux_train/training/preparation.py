"""Rows as the model sees them, the opened backbone, and the start of an earlier run: all that training needs."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoremux_assess.labels.labelled_row import LabelledRow
from scoremux_engine.model.tokens import Tokenizer
from scoremux_engine.packages.package import LEAST_ROOM_TOKENS
from scoremux_engine.packages.task import Task
from scoremux_export.opening.base import weights_digest
from scoremux_export.opening.classifier import Classifier
from scoremux_export.opening.openable import Opening
from scoremux_export.opening.opened import OpenedModel
from scoremux_train.data import Data, training_rows
from scoremux_train.errors import DataError, RecipeError
from scoremux_train.recipe import Plan, Recipe, derived_key
from scoremux_train.training.adapter_files import START, Start, read_start
from scoremux_train.training.batches import Example
from scoremux_train.training.folds import assign, related
from scoremux_train.training.table_layout import TableLayout
from scoremux_train.training.trainer import Trainer

WHOLE = -1
"""Stands for the fold of the final table, which is trained on all rows."""


@dataclass(frozen=True)
class PreparedTask:
    """A task's rows to train on.

    Attributes:
        recipe: How its tables are trained.
        examples: The rows as the model sees them.
        groups: A number for each row, equal for those that are held out together.
        fold_of: The fold that each row is held out in; none of them without folds.
        seen_by_start: Whether the start of an earlier run, from which its tables begin, was trained on the task.
    """

    task: Task
    recipe: Recipe
    rows: Sequence[LabelledRow]
    examples: Sequence[Example]
    groups: Sequence[int]
    fold_of: Sequence[int]
    seen_by_start: bool = False

    @property
    def levels(self) -> int:
        return len(self.task.levels)

    @property
    def human(self) -> list[int]:
        """The level that a human gave each row."""
        return [int(row.level) for row in self.rows]

    def without(self, fold: int) -> list[int]:
        """Return the places of the rows that are not held out in a fold."""
        return [place for place, held_out_in in enumerate(self.fold_of) if held_out_in != fold]


@dataclass(frozen=True)
class Prepared:
    """All that training needs.

    Attributes:
        folds: For each, the folds to train a table without; `WHOLE` for the final table.
        fresh: fresh(recipe, levels, seed) returns a table before training.
        fingerprint: A digest of all that decides the tables.
        weights: The digest of the backbone's weights.
        start: Of an earlier run, from which tables begin.
    """

    plan: Plan
    tasks: Sequence[PreparedTask]
    folds: Sequence[int]
    trainer: Trainer
    fresh: Callable[[Recipe, int, int], torch.Tensor]
    fingerprint: str
    weights: str
    start: Start | None = None

    @property
    def layout(self) -> TableLayout:
        return self.trainer.layout


def prepare(
    data: Data,
    chosen: Sequence[str],
    plan: Plan,
    source: str,
    device: str = "cpu",
    folds: Sequence[int] | None = None,
    cores: int = 0,
    *,
    start: Path | None = None,
) -> Prepared:
    """Turn rows into what the model sees, and open the backbone.

    Args:
        chosen: Ids of the tasks to train.
        source: The backbone's folder or hub id.
        device: `cpu`, `cuda` or `cuda:N`.
        folds: The folds to train, for comparisons of recipes; by default all, and then the final tables.
        cores: How many to use; 0: all.
        start: Folder of a shared start that is used in place of one of this run's own.

    Raises:
        TrainError: A task's input leaves no room to a response or lacks a text, the start does not fit, or the recipe
            is wrong.
    """
    torch.manual_seed(plan.seed)  # for Linears of the head that transformers starts at random
    classifier = Classifier.open(source)
    tasks, recipes = [data.tasks[name] for name in chosen], [plan.of(name) for name in chosen]
    sites, head = Opening(plan.sites, plan.modules_to_save).describe(classifier.model)
    layout = TableLayout(sites, head, max(recipe.rank for recipe in recipes), max(len(task.levels) for task in tasks))
    weights = weights_digest(source)
    earlier = None if start is None else read_start(start / START, layout, plan, weights)
    if earlier is not None or plan.shared.epochs:
        for name, recipe in zip(chosen, recipes, strict=True):
            if (recipe.rank, recipe.alpha, recipe.rslora) != (plan.recipe.rank, plan.recipe.alpha, plan.recipe.rslora):
                raise RecipeError(f"[tasks.{name}]: rank, alpha and rslora must be those of the shared start")
    tokenizer = Tokenizer.of(classifier.words(), classifier.max_tokens)
    prepared = []
    for task, recipe in zip(tasks, recipes, strict=True):
        rows = training_rows(data.rows[task.id])
        groups, fold_of = related(rows), [WHOLE - 1] * len(rows)
        if plan.folds:
            fold_of = assign([int(row.level) for row in rows], groups, plan.folds, plan.seed, task.id, "folds")
        examples = _examples(task, rows, tokenizer, classifier)
        learned = earlier is not None and task.id in earlier.description.tasks
        prepared.append(PreparedTask(task, recipe, rows, examples, groups, fold_of, learned))
    digest = _fingerprint(plan, prepared, classifier.model, device, earlier)
    linears = {linear.name: classifier.model.get_submodule(linear.name) for linear in head}
    config = classifier.model.config
    opened = OpenedModel(classifier.model, sites, head, classifier.pad_id)
    return Prepared(
        plan,
        prepared,
        [*range(plan.folds), WHOLE] if folds is None else folds,
        Trainer(opened, layout, classifier.pad_id, device, cores=cores, threads=plan.threads),
        lambda recipe, levels, seed: layout.start(linears, config, recipe.rank, levels, seed),
        digest,
        weights,
        earlier,
    )


def _examples(task: Task, rows: Sequence[LabelledRow], tokenizer: Tokenizer, classifier: Classifier) -> list[Example]:
    """Return rows as the model sees them. Raises DataError where the task's input leaves no room to them."""
    if task.layout is not None and (room := tokenizer.room(task.layout.render(""))) < LEAST_ROOM_TOKENS:
        raise DataError(
            f"task {task.id}: its input leaves {room} of {tokenizer.max_tokens} tokens to the response; leave "
            f"{LEAST_ROOM_TOKENS}"
        )
    times = Counter(row.id for row in rows)
    return [
        Example(
            derived_key(task.id, row.id, *([row.administration] if times[row.id] > 1 else [])),
            int(row.level),
            tokens.ids or [classifier.pad_id],  # as in serving
            (tokens.types or [0]) if classifier.token_types else (),
            0.0 if math.isnan(row.weight) else row.weight,
        )
        for row, tokens in zip(rows, tokenizer.encode([task.render(row.response) for row in rows]), strict=True)
    ]


def _fingerprint(plan: Plan, tasks: Sequence[PreparedTask], model: Any, device: str, start: Start | None) -> str:
    """Return a digest of all that decides the tables."""
    digest = hashlib.sha256(plan.model_dump_json().encode())
    for task in tasks:
        digest.update(task.task.model_dump_json().encode())
        for row, example, *held_out in zip(task.rows, task.examples, task.groups, task.fold_of, strict=True):
            tokens = list(example.tokens), list(example.token_types)
            digest.update(repr((row.id, row.level, *tokens, example.weight, *held_out)).encode())
    for name, parameter in sorted(model.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(parameter.cpu().numpy()).tobytes())
    if start is not None:
        digest.update(start.table.numpy().tobytes())
    digest.update(device.partition(":")[0].encode())
    return digest.hexdigest()
