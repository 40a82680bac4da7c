"""Which rows a step takes, and how they are put together: a mini-batch of every table, cut by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from scoremux_train.recipe import Recipe, derived_key
from scoremux_train.training.objective import class_weights


@dataclass(frozen=True)
class Example:
    """A labelled response as the model sees it. key: 64 bits of its own; token_types: as long as `tokens`, or empty."""

    key: int
    level: int
    tokens: Sequence[int]
    token_types: Sequence[int] = ()


@dataclass(frozen=True)
class Target:
    """What one table is trained on.

    name: of the table, unique in a run; what it draws at random depends on it and on `seed`, not on other tables.
    held: rows that decide when to stop, where the recipe has patience.
    """

    name: str
    levels: int
    recipe: Recipe
    rows: Sequence[Example]
    held: Sequence[Example] = ()
    seed: int = 0
    weights: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.weights.update(class_weights([row.level for row in self.rows], self.recipe.class_weights))

    @property
    def epoch_steps(self) -> int:
        return -(-len(self.rows) // self.recipe.batch)

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.epoch_steps

    def mini_batch(self, step: int) -> list[Example]:
        """Return the rows of a step: each epoch has an order of its own."""
        epoch, place = divmod(step, self.epoch_steps)
        draw = np.random.Generator(np.random.Philox(key=derived_key(self.seed, self.name, "order", epoch)))
        order = draw.permutation(len(self.rows))[place * self.recipe.batch : (place + 1) * self.recipe.batch]
        return [self.rows[i] for i in order]


@dataclass(frozen=True)
class Taken:
    """A row of a step: which table it trains, and how many rows its table's mini-batch has."""

    table: int
    row: Example
    of: int


def micro_batches(taken: Sequence[Taken], most_tokens: int, waste: float = 0.08) -> Iterator[list[Taken]]:
    """Yield the rows of a step by length, such that few of a micro-batch's at most `most_tokens` tokens are padding.

    A micro-batch ends where one more row would make the share of padding larger than `waste`, unless it is small.
    """
    batch: list[Taken] = []
    own = 0
    for one in sorted(taken, key=lambda t: (len(t.row.tokens), t.table)):
        tokens = len(one.row.tokens)
        padded = tokens * (len(batch) + 1)
        if batch and (padded > most_tokens or (padded > most_tokens // 4 and own + tokens < (1 - waste) * padded)):
            yield batch
            batch, own = [], 0
        batch.append(one)
        own += tokens
    if batch:
        yield batch


def micro_batches_of(rows: Sequence[Example], most_tokens: int) -> Iterator[list[Example]]:
    """As `micro_batches`, for rows of no table."""
    for batch in micro_batches([Taken(0, row, 1) for row in rows], most_tokens):
        yield [one.row for one in batch]


def padded(rows: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Return input_ids, attention_mask and, where rows have them, token_type_ids: int64 [B, S]."""
    width = max(len(row.tokens) for row in rows)
    ids, mask, types = np.full((len(rows), width), pad_id), np.zeros((len(rows), width), np.int64), None
    for i, row in enumerate(rows):
        ids[i, : len(row.tokens)], mask[i, : len(row.tokens)] = row.tokens, 1
    made = {"input_ids": ids, "attention_mask": mask}
    if rows[0].token_types:
        types = np.zeros_like(ids)
        for i, row in enumerate(rows):
            types[i, : len(row.token_types)] = row.token_types
        made["token_type_ids"] = types
    return {name: torch.from_numpy(x) for name, x in made.items()}
