"""Training many tables at once: one pass of the frozen backbone for a mixed batch, one optimizer for each table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from scoremux_export.opening.opened import OpenedModel
from scoremux_train.recipe import derived_key
from scoremux_train.training.batches import Example, Taken, Target, micro_batches, padded
from scoremux_train.training.dropout import Drawn, RowDropout
from scoremux_train.training.faster import skip_unread_tokens, use_bfloat16, use_fused_attention
from scoremux_train.training.lower import LowerLayers
from scoremux_train.training.objective import Aim, Moments, descend, loss
from scoremux_train.training.table_layout import Layout

MICRO_TOKENS = 2048
Probabilities = npt.NDArray[np.float32]


@dataclass
class State:
    """Where training is after `step` steps: all that a checkpoint has to keep.

    values, first, second float32 [T, width]; best: the values a table ends with where it stops early;
    best_loss float32 [T], since int64 [T]: epochs since it was reached; ended bool [T].
    """

    step: int
    values: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    best: torch.Tensor
    best_loss: torch.Tensor
    since: torch.Tensor
    ended: torch.Tensor

    @classmethod
    def begin(cls, values: torch.Tensor, patient: bool) -> State:
        """Return the state before the first step. patient: whether any table may stop early."""
        zeros, count = torch.zeros_like(values), values.shape[0]
        best = values.clone() if patient else torch.empty(0)
        infinite, none = torch.full((count,), torch.inf), torch.zeros(count, dtype=torch.int64)
        return cls(0, values, zeros, zeros.clone(), best, infinite, none, none.bool())


class Trainer:
    """Trains tables of `layout` in `model`, which is opened and frozen."""

    def __init__(self, model: OpenedModel, layout: Layout, pad_id: int, device: str, bfloat16: bool = False) -> None:
        self._model = model.to(device).requires_grad_(False)
        self.layout, self._pad_id, self._device = layout, pad_id, device
        use_fused_attention(model.model, self._example_logits)
        skip_unread_tokens(model.model, self._example_logits)
        if bfloat16:
            use_bfloat16(model.model)
        self._lower = LowerLayers(model.model, layout.sites)

    def run(self, targets: Sequence[Target], state: State, after_step: Callable[[State, int], None]) -> None:
        """Train until every target has had its steps or has stopped; `state` is changed in place.

        Args:
            targets: One for each table of `state`.
            state: Where to go on.
            after_step: Called after each step with the state and the number of rows that the step took.
        """
        self._prepare([row for target in targets for row in (*target.rows, *target.held)])
        for step in range(state.step, max(target.steps for target in targets)):
            active = [t for t, one in enumerate(targets) if step < one.steps and not state.ended[t]]
            if not active:
                break
            taken = [Taken(t, row, len(rows)) for t in active for rows in [targets[t].mini_batch(step)] for row in rows]
            gradients = self._gradients(targets, state.values, taken, step)
            for t in active:
                table = Moments(state.values[t], state.first[t], state.second[t])
                descend(table, gradients[t], targets[t].recipe, step, targets[t].steps, self.layout.adapter_width)
            state.step = step + 1
            self._stop_early(targets, state, active)
            after_step(state, len(taken))
        for t, target in enumerate(targets):
            if target.recipe.patience:
                state.values[t] = state.best[t]

    def _prepare(self, rows: Sequence[Example]) -> None:
        """Run rows through what no adapter changes."""
        self._lower.playing = None
        self._lower.fill(self._model.model, rows, self._pad_id, MICRO_TOKENS, self._device)

    def _gradients(
        self, targets: Sequence[Target], values: torch.Tensor, taken: Sequence[Taken], step: int
    ) -> torch.Tensor:
        """Return the loss's gradient float32 [T, width]; rows of tables that have no rows are zero."""
        gradients = torch.zeros_like(values)
        for batch in micro_batches(taken, MICRO_TOKENS):
            present, group = np.unique([one.table for one in batch], return_inverse=True)
            tables = torch.from_numpy(present)
            leaf = values[tables].to(self._device).requires_grad_()
            logits = self._logits(
                targets, leaf, [one.row for one in batch], present, group, _drawn(targets, batch, step)
            )
            loss(logits, [_aim(targets[one.table], one) for one in batch]).backward()  # type: ignore[no-untyped-call]
            gradients.index_add_(0, tables, leaf.grad.cpu())  # type: ignore[union-attr]
        return gradients

    def _logits(
        self,
        targets: Sequence[Target],
        leaf: torch.Tensor,
        rows: Sequence[Example],
        present: npt.NDArray[np.int64],
        group: npt.NDArray[np.int64],
        drawn: Sequence[Drawn] = (),
    ) -> torch.Tensor:
        """Return float32 [B, L_max]. leaf: the tables present, float32 [G, width]; drawn: empty without dropout."""
        scaling = torch.tensor([targets[t].recipe.scaling for t in present], dtype=torch.float32, device=self._device)
        inputs = {name: x.to(self._device) for name, x in padded(rows, self._pad_id).items()}
        self._lower.play(rows, self._device)
        self._model.set_dropout(RowDropout(drawn) if any(one.rate for one in drawn) else None)
        tables = self.layout.tables(leaf, scaling)
        logits, _ = self._model(**inputs, group=torch.from_numpy(group).to(self._device), tables=tables)
        return logits  # type: ignore[no-any-return]

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

    @torch.inference_mode()
    def predict(
        self, targets: Sequence[Target], values: torch.Tensor, asked: Sequence[tuple[int, Example]]
    ) -> Iterator[tuple[int, Probabilities]]:
        """Yield places in `asked` (pairs of table and row) and float32 [L] probabilities, rows of like length first."""
        self._prepare([row for _, row in asked])
        places = [(Taken(table, row, place)) for place, (table, row) in enumerate(asked)]
        for batch in micro_batches(places, 2 * MICRO_TOKENS):
            present, group = np.unique([one.table for one in batch], return_inverse=True)
            leaf = values[torch.from_numpy(present)].to(self._device)
            logits = self._logits(targets, leaf, [one.row for one in batch], present, group).cpu()
            for one, row in zip(batch, logits, strict=True):
                yield one.of, torch.softmax(row[: targets[one.table].levels], 0).numpy()

    def _stop_early(self, targets: Sequence[Target], state: State, active: Sequence[int]) -> None:
        """At the end of an epoch, compare each patient table on its held-back rows with its best so far."""
        due = [t for t in active if targets[t].recipe.patience and state.step % targets[t].epoch_steps == 0]
        asked = [(t, row) for t in due for row in targets[t].held]
        losses: dict[int, list[float]] = {t: [] for t in due}
        for place, p in self.predict(targets, state.values, asked):
            losses[asked[place][0]].append(-float(np.log(max(p[asked[place][1].level], 1e-9))))
        for t in due:
            mean = float(np.mean(losses[t]))
            better = mean < float(state.best_loss[t])
            state.since[t] = 0 if better else state.since[t] + 1
            if better:
                state.best_loss[t], state.best[t] = mean, state.values[t]
            state.ended[t] = bool(state.since[t] >= targets[t].recipe.patience)


def _drawn(targets: Sequence[Target], batch: Sequence[Taken], step: int) -> list[Drawn]:
    made = []
    for one in batch:
        target = targets[one.table]
        key = derived_key(target.seed, target.name, "dropout", step, one.row.key)
        made.append(Drawn(key, len(one.row.tokens), target.recipe.dropout))
    return made


def _aim(target: Target, one: Taken) -> Aim:
    weight = target.weights[one.row.level] / one.of
    return Aim(one.row.level, target.levels, weight, target.recipe.spread, target.recipe.ordinal)
