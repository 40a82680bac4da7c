"""Training in stages: shared starts, then tables that begin from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from scoremux_train.recipe import derived_key
from scoremux_train.tables.table_rows import start_set
from scoremux_train.training.batches import TrainingSet
from scoremux_train.training.checkpoint import Checkpoint, TrainingState
from scoremux_train.training.preparation import Prepared
from scoremux_train.training.progress import Progress


class Stages:
    """Trains one stage after the other, each with a checkpoint of its own."""

    def __init__(self, prepared: Prepared, folder: Path, checkpoint_s: float, progress: Progress) -> None:
        self._prepared, self._folder, self._progress, self._checkpoint_s = prepared, folder, progress, checkpoint_s

    def shared_starts(self, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], torch.Tensor]:
        """Return the start of each fold and quarters, trained on what the tables that begin from it are trained on."""
        sets = [start_set(self._prepared.plan, self._prepared.tasks, *key) for key in keys]
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
