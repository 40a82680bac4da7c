"""`scoremux train` from checked data to adapters: a shared start, then every task and fold, then what they predict."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scoremux_engine.model.backbone import HeadLinear, Site
from scoremux_engine.model.tokens import Tokenizer
from scoremux_engine.packages.package import LEAST_ROOM_TOKENS
from scoremux_engine.packages.task import Task
from scoremux_export.opening.classifier import Classifier
from scoremux_export.opening.openable import Opening
from scoremux_export.opening.opened import OpenedModel
from scoremux_train import adapters, folds
from scoremux_train.check import training_rows
from scoremux_train.checkpoint import Checkpoint
from scoremux_train.data import Data, Labelled
from scoremux_train.errors import DataError
from scoremux_train.recipe import Plan, Recipe, derived_key
from scoremux_train.training.batches import Example, Target
from scoremux_train.training.faster import bfloat16_is_faster
from scoremux_train.training.table_layout import Layout
from scoremux_train.training.trainer import Probabilities, State, Trainer

WORK = ".training"
START = ".start"
WHOLE = -1
"""Stands for the fold of the final table, which is trained on all rows."""

Progress = Callable[[str, int, int], None]
"""Called with what is going on, and how many rows are done of how many."""


@dataclass(frozen=True)
class Fitted:
    """A trained task: its rows, which fold each was held out in, and what was predicted there (empty without folds).

    table: the last that was trained, on all rows unless the run has only some of the folds.
    """

    task: Task
    recipe: Recipe
    rows: Sequence[Labelled]
    fold_of: Sequence[int]
    predicted: Sequence[Probabilities]
    table: torch.Tensor


@dataclass(frozen=True)
class _Task:
    task: Task
    recipe: Recipe
    rows: list[Labelled]
    examples: list[Example]
    fold_of: list[int]

    def without(self, fold: int) -> list[Example]:
        return [row for row, own in zip(self.examples, self.fold_of, strict=True) if own != fold]


class Run:
    """One run of training.

    Args:
        source: The backbone's folder or hub id.
        plan: How to train.
        out: Where adapters and checkpoints go.
        device: `cpu`, `cuda` or `cuda:N`.
        checkpoint_s: Seconds between checkpoints.
        only: The folds to train, for comparisons of recipes; by default all, and then the final tables.
    """

    def __init__(
        self,
        source: str,
        plan: Plan,
        out: Path,
        device: str = "cpu",
        checkpoint_s: float = 60.0,
        only: Sequence[int] | None = None,
    ) -> None:
        torch.manual_seed(plan.seed)  # for Linears of the head that transformers starts at random
        classifier = Classifier.open(source)
        self._plan, self._out, self._every_s, self._only = plan, out, checkpoint_s, only
        self._tokenizer = Tokenizer.of(classifier.tokenizer.backend_tokenizer, classifier.max_tokens)
        self._token_types = classifier.token_types
        self._classifier = classifier
        self._linears: tuple[tuple[Site, ...], tuple[HeadLinear, ...]] = Opening(
            plan.sites, plan.modules_to_save
        ).describe(classifier.model)
        self._starting = {linear.name: classifier.model.get_submodule(linear.name) for linear in self._linears[1]}
        self._device = device
        faster = plan.precision == "auto" and bfloat16_is_faster(device)
        self.precision = plan.precision if plan.precision != "auto" else "bfloat16" if faster else "float32"

    def fit(self, data: Data, chosen: Sequence[str], progress: Progress, start: Path | None = None) -> Iterator[Fitted]:
        """Train the chosen tasks; yield each with its adapter's table and out-of-fold predictions.

        Args:
            data: What was read.
            chosen: Ids of the tasks to train.
            progress: Told after each step.
            start: Output of another run whose shared start is used in place of one of this run's own.

        Raises:
            TrainError: The recipe or the start does not fit.
        """
        tasks = [self._prepare(data.tasks[task], training_rows(data.rows[task])) for task in chosen]
        widest = max(len(one.task.levels) for one in tasks)
        layout = Layout(*self._linears, max(one.recipe.rank for one in tasks), widest)
        self.layout = layout
        opened = OpenedModel(self._classifier.model, *self._linears, self._classifier.pad_id)
        fingerprint = self._fingerprint(tasks, start)
        trainer = Trainer(opened, layout, self._classifier.pad_id, self._device, self.precision == "bfloat16")
        starts = self._shared(trainer, tasks, fingerprint, progress, start)
        keys = [(one, fold) for one in tasks for fold in self._folds]
        targets = [self._target(one, fold) for one, fold in keys]
        begun = [
            starts.get((len(one.task.levels), fold), self._fresh(layout, one.recipe, len(one.task.levels), target))
            for (one, fold), target in zip(keys, targets, strict=True)
        ]
        state = self._train(trainer, "tasks", targets, begun, fingerprint, progress)
        asked = [
            (t, row)
            for t, (one, fold) in enumerate(keys)
            for row, own in zip(one.examples, one.fold_of, strict=True)
            if fold != WHOLE and own == fold
        ]
        found = {asked[place][1].key: p for place, p in trainer.predict(targets, state.values, asked)}
        for t, (one, fold) in enumerate(keys):
            if fold == self._folds[-1]:
                predicted = [found.get(row.key, np.empty(0, np.float32)) for row in one.examples]
                yield Fitted(one.task, one.recipe, one.rows, one.fold_of, predicted, state.values[t])

    def finish(self) -> None:
        """Remove the checkpoints."""
        shutil.rmtree(self._out / WORK, ignore_errors=True)

    @property
    def _folds(self) -> Sequence[int]:
        return [*range(self._plan.folds), WHOLE] if self._only is None else self._only

    def _prepare(self, task: Task, rows: list[Labelled]) -> _Task:
        if task.layout is not None and (room := self._tokenizer.room(task.layout.render(""))) < LEAST_ROOM_TOKENS:
            raise DataError(
                f"task {task.id}: its input leaves {room} of {self._tokenizer.max_tokens} tokens to the response; "
                f"leave {LEAST_ROOM_TOKENS}"
            )
        seen = self._tokenizer.encode([task.render(row.text) for row in rows])
        examples = [
            Example(derived_key(task.id, number), row.level, tokens.ids, tokens.types if self._token_types else ())
            for number, (row, tokens) in enumerate(zip(rows, seen, strict=True))
        ]
        fold_of = folds.assign(rows, self._plan.folds, self._plan.seed, task.id, "folds") if self._plan.folds else []
        return _Task(task, self._plan.of(task.id), rows, examples, fold_of or [WHOLE - 1] * len(rows))

    def _target(self, one: _Task, fold: int) -> Target:
        name = f"{one.task.id}/{fold}"
        kept, held = one.without(fold), []
        if one.recipe.patience:
            rows = [row for row, own in zip(one.rows, one.fold_of, strict=True) if own != fold]
            parts = folds.assign(rows, round(1 / one.recipe.validation), self._plan.seed, name, "validation")
            held = [row for row, part in zip(kept, parts, strict=True) if part == 0]
            kept = [row for row, part in zip(kept, parts, strict=True) if part != 0]
        return Target(name, len(one.task.levels), one.recipe, kept, held, self._plan.seed)

    def _fresh(self, layout: Layout, recipe: Recipe, levels: int, target: Target) -> torch.Tensor:
        seed = derived_key(self._plan.seed, target.name, "start") >> 1
        return layout.start(self._starting, self._classifier.model.config, recipe.rank, levels, seed)

    def _shared(
        self, trainer: Trainer, tasks: Sequence[_Task], fingerprint: str, progress: Progress, start: Path | None
    ) -> Mapping[tuple[int, int], torch.Tensor]:
        """Return the shared start by number of levels and fold: trained on the rows of all tasks that are not in it."""
        counts = sorted({len(one.task.levels) for one in tasks})
        if start is not None:
            read = {levels: adapters.read_start(start / START / f"levels-{levels}", self.layout) for levels in counts}
            return {(levels, fold): read[levels] for levels in counts for fold in self._folds}
        shared = self._plan.shared
        if not shared.epochs:
            return {}
        changes = {"epochs": shared.epochs, "batch": shared.batch, "lr": shared.lr, "head_lr": shared.lr, "patience": 0}
        recipe = self._plan.recipe.model_copy(update=changes)
        keys = [(levels, fold) for levels in counts for fold in self._folds]
        targets = []
        for levels, fold in keys:
            rows = [row for one in tasks if len(one.task.levels) == levels for row in one.without(fold)]
            targets.append(Target(f"{START}/{levels}/{fold}", levels, recipe, rows, seed=self._plan.seed))
        begun = [self._fresh(self.layout, recipe, key[0], target) for key, target in zip(keys, targets, strict=True)]
        state = self._train(trainer, "start", targets, begun, fingerprint, progress)
        found = dict(zip(keys, state.values, strict=True))
        for levels in counts:
            folder = self._out / START / f"levels-{levels}"
            if (levels, WHOLE) not in found:
                continue
            adapters.write_adapter(folder, self.layout, found[levels, WHOLE], levels, self._plan, recipe, {})
        return found

    def _train(
        self,
        trainer: Trainer,
        stage: str,
        targets: Sequence[Target],
        begun: Sequence[torch.Tensor],
        fingerprint: str,
        progress: Progress,
    ) -> State:
        checkpoint = Checkpoint(self._out / WORK, stage, fingerprint, self._every_s)
        patient = any(target.recipe.patience for target in targets)
        state = checkpoint.load() or State.begin(torch.stack(list(begun)), patient)
        every = sum(target.recipe.epochs * len(target.rows) for target in targets)
        done = sum(_rows_before(target, state.step) for target in targets)
        before = state.step

        def after_step(state: State, rows: int) -> None:
            nonlocal done
            done += rows
            checkpoint.save_if_due(state)
            progress(stage, done, every)

        trainer.run(targets, state, after_step)
        if state.step > before:
            checkpoint.save(state)
        return state

    def _fingerprint(self, tasks: Sequence[_Task], start: Path | None) -> str:
        """Return a digest of all that decides the adapters."""
        digest = hashlib.sha256(self._plan.model_dump_json().encode())
        for one in tasks:
            digest.update(one.task.model_dump_json().encode())
            for row, example in zip(one.rows, one.examples, strict=True):
                digest.update(repr((row.id, row.level, list(example.tokens), list(example.token_types))).encode())
        for name, parameter in sorted(self._classifier.model.state_dict().items()):
            digest.update(name.encode() + np.ascontiguousarray(parameter.cpu().numpy()).tobytes())
        digest.update(f"{self._device.partition(':')[0]} {self.precision} {start}".encode())
        return digest.hexdigest()


def _rows_before(target: Target, step: int) -> int:
    epochs, more = divmod(min(step, target.steps), target.epoch_steps)
    return epochs * len(target.rows) + min(more * target.recipe.batch, len(target.rows))
