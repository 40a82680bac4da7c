"""Rows as the model sees them and the opened backbone: all that training needs."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoremux_engine.model.backbone import HeadLinear, Site
from scoremux_engine.model.tokens import Tokenizer
from scoremux_engine.packages.package import check_room
from scoremux_engine.packages.task import Task
from scoremux_evidence.rows.table import Rows
from scoremux_export.opening.base import weights_digest
from scoremux_export.opening.classifier import Classifier
from scoremux_export.opening.openable import Opening
from scoremux_export.opening.opened import OpenedModel
from scoremux_train.data import Data, TrainingRows
from scoremux_train.errors import DataError
from scoremux_train.recipe import Plan, Recipe, derived_key, generator
from scoremux_train.training.batches import Example
from scoremux_train.training.table_layout import TableLayout
from scoremux_train.training.trainer import Trainer

WHOLE = -1
"""Stands for the fold of the final table, which is trained on all rows."""


@dataclass(frozen=True)
class PreparedTask:
    """A task's rows to train on.

    Attributes:
        examples: The rows as the model sees them.
        groups: The number of each row's group; rows of one group are held out together.
        fold_of: The fold in which each row is held out; a number of none of them without folds.
    """

    task: Task
    recipe: Recipe
    rows: Rows
    examples: Sequence[Example]
    groups: Sequence[int]
    fold_of: Sequence[int]

    @property
    def levels(self) -> int:
        return len(self.task.levels)

    @property
    def human(self) -> list[int]:
        """The level that a human gave each row."""
        levels: list[int] = self.rows.level.astype(int).tolist()
        return levels


@dataclass(frozen=True)
class Prepared:
    """All that training needs.

    Attributes:
        folds: The folds; each task gets a table that is trained without it. `WHOLE` stands for the final table.
        fresh: Returns a table before training for a rank, a number of levels and a seed.
        fingerprint: The digest of everything that decides the tables.
        weights: The digest of the backbone's weights.
    """

    plan: Plan
    tasks: Sequence[PreparedTask]
    folds: Sequence[int]
    trainer: Trainer
    fresh: Callable[[int, int, int], Tensor]
    fingerprint: str
    weights: str

    @property
    def layout(self) -> TableLayout:
        return self.trainer.layout


def prepare(
    data: Data, chosen: Sequence[str], plan: Plan, source: str, device: str = "cpu", cores: int = 0
) -> Prepared:
    """Turn rows into what the model sees, and open the backbone.

    Args:
        chosen: The ids of the tasks to train.
        source: The backbone's folder or hub id.
        cores: The number of cores to use; 0 uses all.

    Raises:
        TrainError: A task's input leaves no room to a response or lacks a text, or the recipe is wrong.
    """
    torch.manual_seed(plan.seed)  # for Linears of the head that transformers starts at random
    backbone = _Backbone.open(source, plan)
    tasks = [_prepare_task(data.tasks[name], data.training[name], plan, backbone) for name in chosen]
    rank = max(task.recipe.rank for task in tasks)
    levels = max(task.levels for task in tasks)
    layout = TableLayout(backbone.sites, backbone.head, rank, levels)
    model = backbone.classifier.model
    linears = {linear.name: model.get_submodule(linear.name) for linear in backbone.head}  # which opening replaces
    fresh = partial(layout.start, linears, model.config)
    digest = _fingerprint(plan, tasks, model, device)
    trainer = _open_trainer(backbone, layout, device, cores)
    return Prepared(plan, tasks, [*range(plan.folds), WHOLE], trainer, fresh, digest, backbone.weights)


@dataclass(frozen=True)
class _Backbone:
    """A backbone before it is opened, with its tokenizer, the digest of its weights, and the parts to open."""

    classifier: Classifier
    tokenizer: Tokenizer
    weights: str
    sites: tuple[Site, ...]
    head: tuple[HeadLinear, ...]

    @classmethod
    def open(cls, source: str, plan: Plan) -> "_Backbone":
        classifier = Classifier.open(source)
        sites, head = Opening(plan.sites, plan.modules_to_save).describe(classifier.model)
        classifier.refuse_random(head)
        tokenizer = Tokenizer.of(classifier.words(), classifier.max_tokens)
        return cls(classifier, tokenizer, weights_digest(source), sites, head)


def _prepare_task(task: Task, training: TrainingRows, plan: Plan, backbone: _Backbone) -> PreparedTask:
    """Assign the rows of a task to folds, and turn them into what the model sees.

    Raises DataError where the task's input leaves no room to responses.
    """
    rows, groups = training
    tokenizer, classifier = backbone.tokenizer, backbone.classifier
    levels = rows.level.astype(int).tolist()
    fold_of = [WHOLE - 1] * len(rows)
    if plan.folds:
        fold_of = assign(levels, groups, plan.folds, plan.seed, task.id, "folds")
    recipe = plan.of(task.id)
    try:
        if task.layout is not None:
            check_room(task.layout, tokenizer)
    except ValueError as error:
        raise DataError(f"task {task.id}: input: {error}") from error
    if task.layout is not None and task.layout.windows:
        raise DataError(f"task {task.id}: `scoremux train` does not train with windows yet; train with PEFT")
    times = Counter(rows.id)
    examples = []
    tokenized = tokenizer.encode([task.render(text or "") for text in rows.text])
    for (_, name, administration), level, tokens in zip(rows.response_keys(), levels, tokenized, strict=True):
        more = [administration] if times[name] > 1 else []
        ids = tokens.ids or [classifier.pad_id]  # as in serving
        types = (tokens.types or [0]) if classifier.token_types else ()
        examples.append(Example(derived_key(task.id, name, *more), level, ids, types))
    return PreparedTask(task, recipe, rows, examples, groups, fold_of)


def assign(levels: Sequence[int], groups: Sequence[int], folds: int, *seed: object) -> list[int]:
    """Return the fold of each row, 0 … folds − 1, drawn from `seed` alone, such that every level is in each.

    Groups are dealt in random order, those of rare levels first, each to the fold with the fewest rows of its level.

    Args:
        groups: The number of each row's group (`TrainingRows`); rows of one group are in one fold.
    """
    members = defaultdict[int, list[int]](list)
    for row, group in enumerate(groups):
        members[group].append(row)
    in_order = list(members.values())
    order = generator(*seed).permutation(len(in_order))
    dealt = [in_order[place] for place in order]
    level_of = [Counter(levels[row] for row in rows).most_common(1)[0][0] for rows in dealt]
    common = Counter(levels)
    pairs = sorted(zip(dealt, level_of, strict=True), key=lambda pair: (common[pair[1]], -len(pair[0])))
    counts, sizes = Counter[tuple[int, int]](), Counter[int]()
    fold_of = [0] * len(levels)
    for rows, level in pairs:
        fold = min(range(folds), key=lambda f: (counts[f, level], sizes[f]))
        counts[fold, level] += len(rows)
        sizes[fold] += len(rows)
        for row in rows:
            fold_of[row] = fold
    return fold_of


def _open_trainer(backbone: _Backbone, layout: TableLayout, device: str, cores: int) -> Trainer:
    """Open the backbone's sites and head, and return a trainer of tables in it."""
    classifier = backbone.classifier
    opened = OpenedModel(classifier.model, backbone.sites, backbone.head, classifier.pad_id)
    return Trainer(opened, layout, classifier.pad_id, device, cores=cores)


def _fingerprint(plan: Plan, tasks: Sequence[PreparedTask], model: Any, device: str) -> str:
    """Return a digest of all that decides the tables."""
    digest = hashlib.sha256(plan.model_dump_json().encode())
    for task in tasks:
        digest.update(task.task.model_dump_json().encode())
        columns = (task.rows.id, task.human, task.examples, task.groups, task.fold_of)
        for name, level, example, *held_out in zip(*columns, strict=True):
            tokens = list(example.tokens), list(example.token_types)
            digest.update(repr((name, level, *tokens, *held_out)).encode())
    for name, parameter in sorted(model.state_dict().items()):
        digest.update(name.encode() + np.ascontiguousarray(parameter.cpu().numpy()).tobytes())
    digest.update(device.partition(":")[0].encode())
    return digest.hexdigest()
