"""Rated rows as columns, and the sums over them from which every statistic follows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from scoremux_evidence.rows.table import Floats, Ints, Mask, Rows, Values, by_cell

BLOCK_ROWS = 1 << 18


class Pair(Enum):
    """Two raters whose levels are compared, or two columns that stand for their levels."""

    MACHINE = "machine"
    """A human and the machine."""

    HUMANS = "humans"
    """Two humans."""

    DOUBLE = "double"
    """The first human and the machine, on the rows that two humans read."""

    SECOND = "second"
    """The second human and the machine, on the same rows."""

    KEPT = "kept"
    """A human and the machine, on the rows that the machine keeps."""

    RECORD = "record"
    """Another human and the score of record, on the rows that the machine keeps or that two humans read."""

    ROUTES = "routes"
    """1 and whether the machine keeps the row."""

    LENGTH = "length"
    """The length of the text and the level of the machine."""

    LENGTH_OF_HUMAN = "length of human"
    """The length of the text and the level of a human."""


class PairSums(NamedTuple):
    """Sums over the rows of each cell that two raters both rated, float64 [C] each. A cell is a task, a group, …

    Sums of levels are whole numbers and therefore exact, so that constants have a variance of exactly zero.

    Attributes:
        n, ww: Sums of their weights, and of the squares of these.
        x, y, xx, yy, xy: Of the weighted levels of both raters, and of their products.
        same, near: Weights of the rows with equal levels, and with levels at most one apart.
        below, far_below: Weights of the rows where the second is below the first, and by two or more.
    """

    rows: Floats
    n: Floats
    ww: Floats
    x: Floats
    y: Floats
    xx: Floats
    yy: Floats
    xy: Floats
    same: Floats
    near: Floats
    below: Floats
    far_below: Floats


@dataclass(frozen=True)
class Sums:
    """The sums of pairs of raters.

    Attributes:
        pairs: In the order of `Pair`.
        table: The fields of `PairSums` of each pair, float64 [12 P, C].
    """

    pairs: Sequence[Pair]
    table: Floats

    def of(self, pair: Pair) -> PairSums:
        """Return the sums of one pair."""
        first = len(PairSums._fields) * self.pairs.index(pair)
        return PairSums(*self.table[first : first + len(PairSums._fields)])

    def take(self, cells: Ints) -> "Sums":
        """Return the sums of some cells, in the order of `cells`."""
        return Sums(self.pairs, self.table[:, cells])

    def without(self, part: "Sums") -> "Sums":
        """Return the sums that are left without a part of the rows."""
        return Sums(self.pairs, self.table - part.table)

    def total(self, cell: Values, cells: int) -> "Sums":
        """Return the sums of `cells` cells; cell: the one that each entry belongs to."""
        return Sums(self.pairs, np.stack([by_cell(cell, row, cells) for row in self.table]))


def of_rows(ratings: Rows, pairs: Sequence[Pair]) -> Sums:
    """Return the sums of each row alone, [B]."""
    tables = list[Floats]()
    for pair in pairs:
        x, y, rated = _rated(ratings, pair)
        x = np.where(rated, x, 0.0)
        y = np.where(rated, y, 0.0)
        w = ratings.weight * rated
        distance = np.abs(x - y)
        moments = PairSums(
            rows=rated.astype(np.float64),
            n=w,
            ww=w * w,
            x=w * x,
            y=w * y,
            xx=w * x * x,
            yy=w * y * y,
            xy=w * x * y,
            same=w * (distance == 0),
            near=w * (distance <= 1),
            below=w * (y < x),
            far_below=w * (y < x - 1),
        )
        tables.append(np.stack(moments))
    return Sums(pairs, np.concatenate(tables))


def _rated(ratings: Rows, pair: Pair) -> tuple[Floats, Floats, Mask]:
    """Return the levels of two raters for each row, and which rows both rated, [B]."""
    human = ratings.human
    machine = ratings.machine
    second = ratings.second
    if pair in (Pair.HUMANS, Pair.DOUBLE, Pair.SECOND):
        double = ~np.isnan(second)
        return second if pair == Pair.SECOND else human, second if pair == Pair.HUMANS else machine, double
    if pair in (Pair.KEPT, Pair.RECORD):
        kept = ratings.kept == 1
        if pair == Pair.KEPT:
            return human, machine, kept
        read = (ratings.kept == 0) & ~np.isnan(second)
        return np.where(kept, human, second), np.where(kept, machine, human), kept | read
    if pair == Pair.ROUTES:
        return np.ones(len(ratings)), ratings.kept, ~np.isnan(ratings.kept)
    if pair in (Pair.LENGTH, Pair.LENGTH_OF_HUMAN):
        return ratings.length, machine if pair == Pair.LENGTH else human, ~np.isnan(ratings.length)
    return human, machine, ~np.isnan(human)


def sums(ratings: Rows, cell: Values, cells: int, pairs: Sequence[Pair]) -> Sums:
    """Return the sums of each of `cells` cells; cell: which one a row is in, [B]."""
    total = of_rows(ratings.where(slice(0, 0)), pairs).total(cell[:0], cells)
    for rows in slices(len(ratings)):
        part = ratings.where(rows)
        total.table[:] += of_rows(part, pairs).total(cell[rows], cells).table
    return total


def balanced(ratings: Rows, cell: Values, cells: int) -> Rows:
    """Return the ratings with weights that add up to the number of rows in each cell."""
    total = by_cell(cell, ratings.weight, cells)
    scale = np.bincount(cell, minlength=cells) / np.maximum(total, 1e-300)
    return ratings if (scale == 1).all() else ratings.plus(weight=ratings.weight * scale[cell])


def slices(rows: int) -> Iterator[slice]:
    """Yield slices of so many rows, each small enough that the sums of its rows take little memory."""
    for first in range(0, rows, BLOCK_ROWS):
        yield slice(first, first + BLOCK_ROWS)
