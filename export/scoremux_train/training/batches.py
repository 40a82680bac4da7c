"""Which rows a step takes, and how they are put together: a mini-batch of every table, cut by length."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from scoremux_evidence.sampling import generator
from scoremux_train.recipe import Recipe

MICRO_TOKENS = 2048
_WASTE = 0.08
"""The largest share of padding in a micro-batch that is not small."""


@dataclass(frozen=True)
class Example:
    """A labelled response as the model sees it.

    Attributes:
        key: 64 bits that only this row of the run has.
        token_types: As long as `tokens`, or empty.
        levels: Of an item with traits, in place of `level`: the level of each trait, −1 where it has none.
        shares: In place of a person's level, the probability of each, of which `level` is the likeliest; else empty.
        windows: What is computed in its place where it is long, and how many tokens of the response each window `adds`.
    """

    key: int
    level: int
    tokens: Sequence[int]
    token_types: Sequence[int] = ()
    levels: Sequence[int] = ()
    windows: "Sequence[Example]" = ()
    adds: int = 0
    shares: Sequence[float] = ()

    @property
    def parts(self) -> "Sequence[Example]":
        """What runs through the model: its windows, or itself."""
        return self.windows or (self,)


@dataclass(frozen=True)
class TrainingSet:
    """The rows and the recipe of one table.

    Attributes:
        name: The table's name, unique in a run. All random draws for the table depend on it and `seed`.
        levels: The width of the head.
        head_rate: The largest learning rate of the head.
        traits: The number of levels of each trait of an item; empty for a task.
    """

    name: str
    levels: int
    recipe: Recipe
    rows: Sequence[Example]
    seed: int = 0
    head_rate: float = 2e-3
    traits: Sequence[int] = ()

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

    @property
    def slices(self) -> list[tuple[int, int]]:
        """The first output of the head and the number of levels, of the task or of each trait."""
        sizes = self.traits or (self.levels,)
        return [(sum(sizes[:place]), size) for place, size in enumerate(sizes)]

    @cached_property
    def weights(self) -> list[dict[int, float]]:
        """The weight of a row by its level, for the task or for each trait.

        It is count^−power, scaled so that the mean of the rows that have a level is 1.
        """
        columns = zip(*(row.levels or (row.level,) for row in self.rows), strict=True)
        return [self._weights([level for level in column if level >= 0]) for column in columns]

    def _weights(self, levels: Sequence[int]) -> dict[int, float]:
        power = self.recipe.class_weights
        counts = Counter(levels)
        raw = {level: count**-power for level, count in sorted(counts.items())}
        mean = sum(raw[level] * counts[level] for level in raw) / max(1, len(levels))
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
        rows: How many rows the mini-batch of its table has.
    """

    table: int
    of: TrainingSet
    example: Example
    rows: int = 1

    @property
    def longest(self) -> int:
        """The tokens of its longest part."""
        return max(len(part.tokens) for part in self.example.parts)

    @property
    def tokens(self) -> int:
        """The tokens of all its parts."""
        return sum(len(part.tokens) for part in self.example.parts)

    @property
    def parts(self) -> "list[StepRow]":
        """What runs through the model: its windows, or itself."""
        if not self.example.windows:
            return [self]
        return [replace(self, example=window) for window in self.example.windows]

    @property
    def targets(self) -> Iterator[tuple[int, int, int, float]]:
        """Yield the first output, the number of levels, the level and the weight of its loss, of each level."""
        levels = self.example.levels or (self.example.level,)
        for (first, size), level, weights in zip(self.of.slices, levels, self.of.weights, strict=True):
            if level >= 0:
                yield first, size, level, weights[level] / self.rows / len(levels)


def step_rows(table: int, of: TrainingSet, step: int) -> list[StepRow]:
    """Return a table's rows of a step."""
    rows = of.mini_batch(step)
    return [StepRow(table, of, row, len(rows)) for row in rows]


def micro_batches(rows: Sequence[StepRow], most_tokens: int) -> Iterator[list[StepRow]]:
    """Yield rows by length, such that few of a micro-batch's at most `most_tokens` tokens are padding.

    A micro-batch ends where one more row would make the share of padding larger than `_WASTE`, unless it is small.
    """
    batch: list[StepRow] = []
    real = parts = 0
    for row in sorted(rows, key=lambda row: row.longest):
        filled = row.longest * (parts + len(row.parts))
        is_wasteful = filled > most_tokens // 4 and real + row.tokens < (1 - _WASTE) * filled
        if batch and (filled > most_tokens or is_wasteful):
            yield batch
            batch, real, parts = [], 0, 0
        batch.append(row)
        real += row.tokens
        parts += len(row.parts)
    if batch:
        yield batch


def whole_tables(rows: Sequence[StepRow], most_tokens: int) -> Iterator[list[StepRow]]:
    """Yield the rows of as many tables as have at most `most_tokens` tokens; of a larger table, parts of its rows."""
    tokens_of = Counter[int]()
    for row in rows:
        tokens_of[row.table] += row.tokens
    batch: list[StepRow] = []
    tokens = 0
    for row in sorted(rows, key=lambda row: row.table):
        needed = tokens_of.pop(row.table, row.tokens)  # the first row of a table needs room for all of them
        if batch and tokens + needed > most_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append(row)
        tokens += row.tokens
    if batch:
        yield batch


def cut_parts(parts: Sequence[StepRow], most_tokens: int) -> Iterator[list[StepRow]]:
    """Yield the windows of rows, in order, with at most `most_tokens` tokens together."""
    batch: list[StepRow] = []
    tokens = 0
    for part in parts:
        if batch and tokens + part.tokens > most_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append(part)
        tokens += part.tokens
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
