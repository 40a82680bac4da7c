"""Training many tables at once: one pass of the frozen backbone for a mixed batch, one optimizer for each table."""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoremux_engine.runners.runner import available_cores
from scoremux_export.opening.opened import OpenedModel, Tables
from scoremux_train.training.batches import (
    MICRO_TOKENS,
    Example,
    StepRow,
    TrainingSet,
    cut_parts,
    micro_batches,
    padded,
    step_rows,
    whole_tables,
)
from scoremux_train.training.checkpoint import TrainingState
from scoremux_train.training.objective import descend, loss, window_means
from scoremux_train.training.packed import PackedPass, Packing
from scoremux_train.training.shortcuts import freeze_linears, pack_rows, skip_unread_tokens, use_fused_attention
from scoremux_train.training.side_products import RowDropout, RowPlaces, SideProducts
from scoremux_train.training.table_layout import TableLayout

Probabilities = npt.NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class _Replica:
    """The model as one worker uses it."""

    model: OpenedModel
    pad_id: int
    device: str
    side: SideProducts
    packed: PackedPass

    def copy(self) -> "_Replica":
        """Return another that shares parameters."""
        shared = (*self.model.parameters(), *self.model.buffers())
        return copy.deepcopy(self, {id(part): part for part in shared})

    def logits(
        self, rows: Sequence[Example], group: Sequence[int], tables: Tables, dropout: RowDropout | None = None
    ) -> Tensor:
        """Return float32 [B, L_max]. group: the table of each row, in ascending order."""
        lengths = [len(row.tokens) for row in rows]
        packing = None
        if self.packed.usable:
            packing = Packing.of(lengths, self.device)
            inputs = packing.inputs(rows, self.packed.first_position, self.device)
        else:
            inputs = {name: x.to(self.device) for name, x in padded(rows, self.pad_id).items()}
        starts = [*np.flatnonzero(np.diff(group, prepend=-1)).tolist(), len(rows)]
        self.side.places = RowPlaces(list(pairwise(starts)), packing.tokens if packing else (), lengths)
        self.side.dropout, self.packed.packing = dropout, packing
        try:
            logits: Tensor = self.model(**inputs, group=torch.tensor(group, device=self.device), tables=tables)[0]
            self.side.learn()
            return logits
        finally:
            self.side.forget()
            self.packed.packing = None


class _Workers:
    """Threads that work side by side, each with a replica of its own.

    A product has one thread, so that no bit depends on how many cores there are.
    """

    def __init__(self, replica: _Replica, count: int) -> None:
        self._count, self._idle = count, SimpleQueue[_Replica]()
        for number in range(count):
            self._idle.put(replica.copy() if number else replica)
        self._pool = ThreadPoolExecutor(count, "train", torch.set_num_threads, (1,))

    def map(self, work: Callable[[_Replica, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the result of each item, in the order of items; few results wait at a time."""
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(self._pool.submit(self._with_replica, work, item))
            if len(waiting) > self._count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _with_replica(self, work: Callable[[_Replica, Item], Result], item: Item) -> Result:
        replica = self._idle.get()
        try:
            return work(replica, item)
        finally:
            self._idle.put(replica)


class Trainer:
    """Trains tables of `layout` in `model`, which is opened and frozen.

    Args:
        shortcuts: Whether work that changes no logit is left out; tests compare with False.
        cores: The number of cores to use, which changes no bit; 0 uses all that the process may use.
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
    ) -> None:
        self.layout, self._device = layout, device
        replica = _Replica(model.to(device).requires_grad_(False), pad_id, device, SideProducts(), PackedPass())
        freeze_linears(model.model)
        model.set_sites(replica.side.apply)
        logits = partial(self._example_logits, replica)
        use_fused_attention(model.model, logits)
        if shortcuts:
            pack_rows(model.model, replica.packed, skip_unread_tokens(model.model, replica.packed, logits), logits)
        self._split = whole_tables if replica.packed.usable else micro_batches
        self._workers = _Workers(replica, (cores or available_cores()) if device == "cpu" else 1)

    def run(
        self, sets: Sequence[TrainingSet], state: TrainingState, after_step: Callable[[TrainingState, int], None]
    ) -> None:
        """Train until every table has had its steps; `state` is changed in place.

        Args:
            sets: The rows and the recipe of each table of `state`.
            after_step: Called after each step with the state and the number of rows that the step took.
        """
        gradients = torch.zeros_like(state.values)

        def step_of_table(_: _Replica, t: int) -> None:
            descend(state, t, gradients[t], sets[t], self.layout.adapter_width)

        for step in range(state.step, max(training_set.steps for training_set in sets)):
            active = [t for t, training_set in enumerate(sets) if step < training_set.steps]
            rows = [row for t in active for row in step_rows(t, sets[t], step)]
            gradients.zero_()
            work = partial(self._gradient, state.values, step)
            for tables, gradient in self._workers.map(work, self._split(rows, MICRO_TOKENS)):
                gradients.index_add_(0, tables, gradient)
            for _ in self._workers.map(step_of_table, active):
                pass
            state.step = step + 1
            after_step(state, len(rows))

    def predict(self, rows: Sequence[StepRow], values: Tensor) -> Iterator[tuple[StepRow, Probabilities]]:
        """Yield each row with its float32 [L] probabilities, in any order. values: [T, width]."""
        for predicted in self._workers.map(partial(self._predict, values), self._split(rows, 2 * MICRO_TOKENS)):
            yield from predicted

    def _gradient(
        self, values: Tensor, step: int, replica: _Replica, batch: Sequence[StepRow]
    ) -> tuple[Tensor, Tensor]:
        """Return the tables that a batch reads, int64 [G], and the gradients of its loss, float32 [G, width].

        Windows that do not fit into a micro-batch are computed twice: all of them for the logits, then a part at a time
        with the gradients of its logits.
        """
        batch = sorted(batch, key=lambda row: row.table)
        parts = list(cut_parts([part for row in batch for part in row.parts], MICRO_TOKENS))

        def forward(part: Sequence[StepRow]) -> tuple[Tensor, Tensor, Tensor]:
            dropout = RowDropout(part, step) if any(row.of.recipe.dropout for row in part) else None
            return self._forward(replica, part, values, dropout)

        if len(parts) == 1:
            tables, leaf, logits = forward(parts[0])
            loss(window_means(logits, batch), batch).backward()  # type: ignore[no-untyped-call]
            return tables, leaf.grad.cpu()  # type: ignore[union-attr]
        with torch.no_grad():
            logits = torch.cat([forward(part)[2] for part in parts])
        logits.requires_grad_()
        loss(window_means(logits, batch), batch).backward()  # type: ignore[no-untyped-call]
        present = torch.tensor(sorted({row.table for row in batch}))
        gradient = torch.zeros(len(present), self.layout.width)
        for part, of_logits in zip(parts, torch.split(logits.grad, [*map(len, parts)]), strict=True):  # type: ignore[arg-type]
            tables, leaf, again = forward(part)
            again.backward(of_logits)  # type: ignore[no-untyped-call]
            gradient.index_add_(0, torch.searchsorted(present, tables), leaf.grad.cpu())  # type: ignore[union-attr]
        return present, gradient

    @torch.inference_mode()
    def _predict(
        self, values: Tensor, replica: _Replica, batch: Sequence[StepRow]
    ) -> list[tuple[StepRow, Probabilities]]:
        batch = sorted(batch, key=lambda row: row.table)
        parts = cut_parts([part for row in batch for part in row.parts], 2 * MICRO_TOKENS)
        logits = torch.cat([self._forward(replica, part, values)[2] for part in parts])
        return [
            (row, _shares(of_row, row)) for row, of_row in zip(batch, window_means(logits, batch).cpu(), strict=True)
        ]

    def _forward(
        self, replica: _Replica, batch: Sequence[StepRow], values: Tensor, dropout: RowDropout | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tables that a batch reads, int64 [G]; their values, float32 [G, width], as the leaf that gets a
        gradient; and the logits, float32 [B, L_max].
        """
        present, group = np.unique([row.table for row in batch], return_inverse=True)
        tables = torch.from_numpy(present)
        leaf = values[tables].to(self._device)
        leaf.requires_grad_(torch.is_grad_enabled())
        scaling_of = {row.table: row.of.recipe.scaling for row in batch}
        scaling = torch.tensor([scaling_of[table] for table in present], dtype=torch.float32, device=self._device)
        examples = [row.example for row in batch]
        logits = replica.logits(examples, group.tolist(), self.layout.tables(leaf, scaling), dropout)
        return tables, leaf, logits

    @torch.inference_mode()
    def _example_logits(self, replica: _Replica) -> Tensor:
        """Return the logits of made-up rows of several lengths under random tables."""
        draw = torch.Generator().manual_seed(0)
        ids = torch.randint(1, 10, (3, 9), generator=draw)
        ids[ids == replica.pad_id] = 10
        long, short, medium = ids.tolist()
        rows = [Example(0, 0, long), Example(0, 0, short[:2]), Example(0, 0, medium[:5])]
        values = torch.randn((2, self.layout.width), generator=draw) * 0.05
        scaling = torch.ones(2, device=self._device)
        tables = self.layout.tables(values.to(self._device), scaling)
        return replica.logits(rows, [0, 0, 1], tables)


def _shares(logits: Tensor, row: StepRow) -> Probabilities:
    """Return the probabilities of the levels, those of each trait after one another. logits: float32 [L_max]."""
    of_traits = [torch.softmax(logits[first : first + size], 0) for first, size in row.of.slices]
    shares: Probabilities = torch.cat(of_traits).numpy()
    return shares
