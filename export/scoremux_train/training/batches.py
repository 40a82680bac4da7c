"""Which rows a step takes, and how they are put together: a mini-batch of every table, cut by length."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from scoremux_train.recipe import Recipe, generator

MICRO_TOKENS = 2048
_WASTE = 0.08
"""The largest share of padding in a micro-batch that is not small."""


@dataclass(frozen=True)
class Example:
    """A labelled response as the model sees it.

    Attributes:
        key: 64 bits that only this row of the run has.
        token_types: As long as `tokens`, or empty.
    """

    key: int
    level: int
    tokens: Sequence[int]
    token_types: Sequence[int] = ()


@dataclass(frozen=True)
class TrainingSet:
    """The rows and the recipe of one table.

    Attributes:
        name: The table's name, unique in a run. All random draws for the table depend on it and `seed`.
        head_rate: The largest learning rate of the head.
    """

    name: str
    levels: int
    recipe: Recipe
    rows: Sequence[Example]
    seed: int = 0
    head_rate: float = 2e-3

    @property
    def epoch_steps(self) -> int:
        return -(-len(self.rows) // self.recipe.batch)

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.epoch_steps

    @cached_property
    def rate(self) -> float:
        """The largest learning rate of A and B."""
        return self.recipe.rate(len(self.rows))

    @cached_property
    def weights(self) -> dict[int, float]:
        """The weight of a row by its level: count^−power, scaled so that the rows' mean is 1."""
        power = self.recipe.class_weights
        counts = Counter(row.level for row in self.rows)
        raw = {level: count**-power for level, count in sorted(counts.items())}
        mean = sum(raw[level] * counts[level] for level in raw) / len(self.rows)
        return {level: value / mean for level, value in raw.items()}

    def mini_batch(self, step: int) -> list[Example]:
        """Return the rows of a step: each epoch has an order of its own."""
        epoch, place = divmod(step, self.epoch_steps)
        order = generator(self.seed, self.name, "order", epoch).permutation(len(self.rows))
        first = place * self.recipe.batch
        return [self.rows[i] for i in order[first : first + self.recipe.batch]]


@dataclass(frozen=True)
class StepRow:
    """A row on its way through the model.

    Attributes:
        table: The place of its table among all tables.
        of: The rows and the recipe of that table.
        weight: The weight of its loss in the mini-batch of its table.
    """

    table: int
    of: TrainingSet
    example: Example
    weight: float = 0.0

    @property
    def tokens(self) -> Sequence[int]:
        return self.example.tokens

    @property
    def levels(self) -> int:
        return self.of.levels


def step_rows(table: int, of: TrainingSet, step: int) -> list[StepRow]:
    """Return a table's rows of a step, with their weights."""
    rows = of.mini_batch(step)
    return [StepRow(table, of, row, of.weights[row.level] / len(rows)) for row in rows]


def micro_batches(rows: Sequence[StepRow], most_tokens: int) -> Iterator[list[StepRow]]:
    """Yield rows by length, such that few of a micro-batch's at most `most_tokens` tokens are padding.

    A micro-batch ends where one more row would make the share of padding larger than `_WASTE`, unless it is small.
    """
    batch: list[StepRow] = []
    real = 0
    for row in sorted(rows, key=lambda row: len(row.tokens)):
        tokens = len(row.tokens)
        filled = tokens * (len(batch) + 1)
        is_wasteful = filled > most_tokens // 4 and real + tokens < (1 - _WASTE) * filled
        if batch and (filled > most_tokens or is_wasteful):
            yield batch
            batch, real = [], 0
        batch.append(row)
        real += tokens
    if batch:
        yield batch


def whole_tables(rows: Sequence[StepRow], most_tokens: int) -> Iterator[list[StepRow]]:
    """Yield the rows of as many tables as have at most `most_tokens` tokens; of a larger table, parts of its rows."""
    tokens_of = Counter[int]()
    for row in rows:
        tokens_of[row.table] += len(row.tokens)
    batch: list[StepRow] = []
    tokens = 0
    for row in sorted(rows, key=lambda row: row.table):
        needed = tokens_of.pop(row.table, len(row.tokens))  # the first row of a table needs room for all of them
        if batch and tokens + needed > most_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append(row)
        tokens += len(row.tokens)
    if batch:
        yield batch


def padded(rows: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """Return input_ids, attention_mask and, where rows have them, token_type_ids: int64 [B, S]."""

    def stack(columns: list[Sequence[int]], fill: int) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(c) for c in columns], True, fill)

    inputs = {
        "input_ids": stack([row.tokens for row in rows], pad_id),
        "attention_mask": stack([[1] * len(row.tokens) for row in rows], 0),
    }
    if rows[0].token_types:
        inputs["token_type_ids"] = stack([row.token_types for row in rows], 0)
    return inputs
