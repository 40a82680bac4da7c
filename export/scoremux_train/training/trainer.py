"""Training many tables at once: one pass of the frozen backbone for a mixed batch, one optimizer for each table."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from scoremux_engine.runners.runner import available_cores
from scoremux_export.opening.opened import OpenedModel
from scoremux_train.training.batches import (
    MICRO_TOKENS,
    Example,
    StepRow,
    TrainingSet,
    micro_batches,
    padded,
    step_rows,
)
from scoremux_train.training.checkpoint import TrainingState
from scoremux_train.training.dropout import RowDropout
from scoremux_train.training.lower_layers import LowerLayers
from scoremux_train.training.objective import Moments, descend, loss
from scoremux_train.training.shortcuts import skip_unread_tokens, use_fused_attention
from scoremux_train.training.table_layout import TableLayout
from scoremux_train.training.workers import Workers

Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Replica:
    """The model as one worker uses it, with what is replayed in it."""

    model: OpenedModel
    lower: LowerLayers

    def copy(self) -> _Replica:
        """Return another that shares parameters and what lower layers gave."""
        shared = (*self.model.parameters(), *self.model.buffers(), self.lower.states)
        return copy.deepcopy(self, {id(part): part for part in shared})


class Trainer:
    """Trains tables of `layout` in `model`, which is opened and frozen.

    Args:
        model: The opened model.
        layout: How a table lies in its row.
        pad_id: The token that fills rows up.
        device: `cpu`, `cuda` or `cuda:N`.
        shortcuts: Whether work is left out that changes nothing; tests compare with False.
        cores: How many cores to use, which changes no bit; 0: all that this process may use.
        threads: How many threads one product has, which may change bits.
    """

    def __init__(
        self,
        model: OpenedModel,
        layout: TableLayout,
        pad_id: int,
        device: str,
        shortcuts: bool = True,
        *,
        cores: int = 0,
        threads: int = 1,
    ) -> None:
        self._model = model.to(device).requires_grad_(False)
        self.layout, self._pad_id, self._device = layout, pad_id, device
        use_fused_attention(model.model, self._example_logits)
        if shortcuts:
            skip_unread_tokens(model.model, self._example_logits)
        lower = LowerLayers(model.model, layout.sites if shortcuts else ())
        count = max(1, (cores or available_cores()) // threads) if device == "cpu" else 1
        self._workers = Workers(_Replica(self._model, lower), _Replica.copy, count, threads)

    def run(
        self, sets: Sequence[TrainingSet], state: TrainingState, after_step: Callable[[TrainingState, int], None]
    ) -> None:
        """Train until every table has had its steps or has stopped; `state` is changed in place.

        Args:
            sets: One for each table of `state`.
            state: Where to go on.
            after_step: Called after each step with the state and the number of rows that the step took.
        """
        self._prepare([row for training_set in sets for row in (*training_set.rows, *training_set.held)])
        for step in range(state.step, max(training_set.steps for training_set in sets)):
            active = [t for t, training_set in enumerate(sets) if step < training_set.steps and not state.ended[t]]
            if not active:
                break
            rows = [row for t in active for row in step_rows(t, sets[t], step)]
            gradients = torch.zeros_like(state.values)
            work = partial(self._gradient, state.values, step)
            for tables, gradient in self._workers.map(work, micro_batches(rows, MICRO_TOKENS)):
                gradients.index_add_(0, tables, gradient)
            for _ in self._workers.map(partial(self._descend, sets, state, gradients), active):
                pass
            state.step = step + 1
            self._stop_early([t for t in active if sets[t].recipe.patience], sets, state)
            after_step(state, len(rows))
        for t, training_set in enumerate(sets):
            if training_set.recipe.patience:
                state.values[t] = state.best[t]

    def predict(self, rows: Sequence[StepRow], values: torch.Tensor) -> Iterator[tuple[StepRow, Probabilities]]:
        """Yield each row with its float32 [L] probabilities, rows of like length first. values: [T, width]."""
        self._prepare([row.example for row in rows])
        for predicted in self._workers.map(partial(self._predict, values), micro_batches(rows, 2 * MICRO_TOKENS)):
            yield from predicted

    def _prepare(self, rows: Sequence[Example]) -> None:
        """Run rows through what no adapter changes."""
        self._workers.alone(lambda own: own.lower.fill(own.model.model, rows, self._pad_id, self._device))

    def _gradient(
        self, values: torch.Tensor, step: int, own: _Replica, batch: Sequence[StepRow]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tables that a batch reads, int64 [G], and the gradients of its loss, float32 [G, width]."""
        dropout = RowDropout(batch, step) if any(row.of.recipe.dropout for row in batch) else None
        tables, leaf, logits = self._forward(own, batch, values, dropout)
        loss(logits, batch).backward()  # type: ignore[no-untyped-call]
        return tables, leaf.grad.cpu()  # type: ignore[union-attr]

    def _descend(
        self, sets: Sequence[TrainingSet], state: TrainingState, gradients: torch.Tensor, _own: _Replica, t: int
    ) -> None:
        table = Moments(state.values[t], state.first[t], state.second[t])
        descend(table, gradients[t], sets[t].recipe, state.step, sets[t].steps, self.layout.adapter_width)

    @torch.inference_mode()
    def _predict(
        self, values: torch.Tensor, own: _Replica, batch: Sequence[StepRow]
    ) -> list[tuple[StepRow, Probabilities]]:
        logits = self._forward(own, batch, values)[2].cpu()
        return [
            (row, torch.softmax(of_row[: row.of.levels], 0).numpy()) for row, of_row in zip(batch, logits, strict=True)
        ]

    def _forward(
        self, own: _Replica, batch: Sequence[StepRow], values: torch.Tensor, dropout: RowDropout | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the tables that a batch reads, int64 [G]; their values, float32 [G, width], as the leaf that gets a
        gradient; and the logits, float32 [B, L_max].
        """
        present, group = np.unique([row.table for row in batch], return_inverse=True)
        tables = torch.from_numpy(present)
        leaf = values[tables].to(self._device)
        leaf = leaf.requires_grad_() if torch.is_grad_enabled() else leaf
        scaling_of = {row.table: row.of.recipe.scaling for row in batch}
        scaling = torch.tensor([scaling_of[t] for t in present], dtype=torch.float32, device=self._device)
        inputs = {name: x.to(self._device) for name, x in padded(batch, self._pad_id).items()}
        own.lower.replay([row.example for row in batch], self._device)
        own.model.set_dropout(dropout)
        logits, _ = own.model(
            **inputs, group=torch.from_numpy(group).to(self._device), tables=self.layout.tables(leaf, scaling)
        )
        return tables, leaf, logits

    @torch.inference_mode()
    def _example_logits(self) -> torch.Tensor:
        """Return the logits of made-up rows of several lengths under random tables."""
        draw = torch.Generator().manual_seed(0)
        ids = torch.randint(1, 10, (3, 9), generator=draw).to(self._device)
        mask = (torch.arange(9) < torch.tensor([[9], [5], [2]])).long().to(self._device)
        rows = torch.randn((2, self.layout.width), generator=draw) * 0.05
        tables = self.layout.tables(rows.to(self._device), torch.ones(2, device=self._device))
        logits: torch.Tensor = self._model(ids, mask, torch.tensor([0, 1, 0], device=self._device), tables)[0]
        return logits

    def _stop_early(self, patient: Sequence[int], sets: Sequence[TrainingSet], state: TrainingState) -> None:
        """At the end of an epoch, compare each patient table on its held-back rows with its best so far."""
        losses: dict[int, list[tuple[float, float]]] = {t: [] for t in patient if not state.step % sets[t].epoch_steps}
        held = [StepRow(t, sets[t], row) for t in losses for row in sets[t].held]
        for row, p in self.predict(held, state.values):
            losses[row.table].append((-float(np.log(max(p[row.example.level], 1e-9))), row.example.weight))
        for t, weighted in losses.items():
            values, weights = zip(*weighted, strict=True)
            mean = float(np.average(values, weights=weights if any(weights) else None))
            better = mean < float(state.best_loss[t])
            state.since[t] = 0 if better else state.since[t] + 1
            if better:
                state.best_loss[t], state.best[t] = mean, state.values[t]
            state.ended[t] = bool(state.since[t] >= sets[t].recipe.patience)
