"""Rated rows as columns, and the sums over them from which every statistic follows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BLOCK_ROWS = 1 << 18


@dataclass(frozen=True)
class Ratings:
    """What humans and the machine gave each row; B rows or, with weights, B kinds of rows.

    human, machine: levels, float64 [B]. second: a second human's levels, NaN where there is none. expected: the mean
    level under the machine's probabilities. weight: how many rows of this kind there are.
    """

    human: Floats
    machine: Floats
    second: Floats
    expected: Floats
    weight: Floats

    @classmethod
    def of(
        cls,
        human: Sequence[float] | npt.NDArray[Any],
        machine: Sequence[float] | npt.NDArray[Any],
        second: Sequence[float | None] | npt.NDArray[Any] | None = None,
        expected: Sequence[float] | npt.NDArray[Any] | None = None,
    ) -> Ratings:
        """Return ratings of single rows.

        Args:
            human: Levels that humans gave.
            machine: Levels that the machine gave.
            second: Levels of a second human, NaN or None where there is none; None if no row has one.
            expected: Mean levels under the machine's probabilities; the machine's levels if None.
        """
        first, scored = np.asarray(human, np.float64), np.asarray(machine, np.float64)
        again = np.full(len(first), np.nan) if second is None else np.asarray(second, np.float64)
        mean = scored if expected is None else np.asarray(expected, np.float64)
        return cls(first, scored, again, mean, np.ones(len(first)))

    def __len__(self) -> int:
        return len(self.human)

    def take(self, rows: Ints | npt.NDArray[np.bool_] | slice) -> Ratings:
        """Return some of the rows: their positions, a mask, or a slice."""
        return Ratings(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True)
class Sums:
    """Sums over the rows of each cell, float64 [C] each. A cell is a task, a group of a task's rows, or all rows.

    Sums of levels are whole numbers and therefore exact, so that constants have a variance of exactly zero.

    n: rows. h, m: levels of human and machine; hh, mm, hm: their products. same, near: rows with equal levels, and with
    levels at most one apart. d: rows with a second human, who gave s; dh, ds, dm, dhh, dss, dhs, dms, dmm, dsame,
    dnear: the same sums over those rows (dsame, dnear: of the two humans). base: an expected level of the cell; e, ee,
    he: sums of the expected levels minus base, their squares, their products with h.
    """

    n: Floats
    h: Floats
    m: Floats
    hh: Floats
    mm: Floats
    hm: Floats
    same: Floats
    near: Floats
    d: Floats
    dh: Floats
    ds: Floats
    dhh: Floats
    dss: Floats
    dhs: Floats
    dms: Floats
    dmm: Floats
    dsame: Floats
    dnear: Floats
    e: Floats
    ee: Floats
    he: Floats
    base: Floats

    def take(self, cells: Ints) -> Sums:
        """Return the sums of some cells, in the order of `cells`."""
        return Sums(**{name: values[cells] for name, values in vars(self).items()})

    def plus(self, other: Sums) -> Sums:
        """Return the sums of both, which have the same base."""
        added = {name: values + getattr(other, name) for name, values in vars(self).items()}
        return Sums(**{**added, "base": self.base})

    def without(self, part: Sums) -> Sums:
        """Return the sums that are left without a part of the rows, which has the same base."""
        left = {name: values - getattr(part, name) for name, values in vars(self).items()}
        return Sums(**{**left, "base": self.base})

    def times(self, factor: Floats) -> Sums:
        """Return the sums of the same rows so many times over."""
        return Sums(**{**{name: values * factor for name, values in vars(self).items()}, "base": self.base})

    def total(self, cell: npt.NDArray[Any], cells: int) -> Sums:
        """Return the sums of `cells` cells; cell: the one that each entry belongs to, whose base it has."""
        added = {name: by_cell(cell, values, cells) for name, values in vars(self).items()}
        base = np.zeros(cells)
        base[cell] = self.base
        return Sums(**{**added, "base": base})


def of_rows(ratings: Ratings, base: Floats) -> Sums:
    """Return the sums of each row alone, [B]; base: the expected level that is subtracted from each row's own."""
    h, m, d = ratings.human, ratings.machine, (~np.isnan(ratings.second)).astype(np.float64)
    s = np.where(d > 0, ratings.second, 0.0)
    e = ratings.expected - base
    apart, again = np.abs(h - m), np.where(d > 0, np.abs(h - s), np.inf)
    first = (np.ones(len(h)), h, m, h * h, m * m, h * m, _ones(apart == 0), _ones(apart <= 1))
    double = (d, d * h, s, d * h * h, s * s, h * s, m * s, d * m * m, _ones(again == 0), _ones(again <= 1))
    return Sums(*first, *double, e, e * e, h * e, base)


def sums(ratings: Ratings, cell: npt.NDArray[Any], cells: int) -> Sums:
    """Return the sums of each of `cells` cells; cell: which one a row is in, [B]."""
    base = np.zeros(cells)
    base[cell[::-1]] = ratings.expected[::-1]
    found = of_rows(ratings.take(slice(0, 0)), np.zeros(0)).total(cell[:0], cells)
    for rows in slices(len(ratings)):
        part = ratings.take(rows)
        found = found.plus(of_rows(part, base[cell[rows]]).times(part.weight).total(cell[rows], cells))
    return replace(found, base=base)


def kinds(ratings: Ratings, cell: npt.NDArray[Any]) -> tuple[Ratings, Ints]:
    """Return the kinds of rows that there are, with their numbers as weights, and the cell of each kind.

    Rows of one kind have the same cell and levels. Expected levels are lost: they are the machine's.
    """
    second = np.where(np.isnan(ratings.second), -1, ratings.second)
    columns = [np.asarray(column, np.int64) for column in (cell, ratings.human, ratings.machine, second)]
    least = [int(column.min(initial=0)) for column in columns]
    sizes = [int(column.max(initial=0)) - low + 1 for column, low in zip(columns, least, strict=True)]
    key = np.zeros(len(ratings), np.int64)
    for column, low, size in zip(columns, least, sizes, strict=True):
        key = key * size + column - low
    if math.prod(sizes) <= BLOCK_ROWS + 4 * len(ratings):
        counts = by_cell(key, ratings.weight, math.prod(sizes))
        found = np.flatnonzero(counts)
        weight = counts[found]
    else:
        found, place = np.unique(key, return_inverse=True)
        weight = by_cell(place.reshape(-1), ratings.weight, len(found))
    values = []
    for low, size in zip(reversed(least), reversed(sizes), strict=True):
        values.append(found % size + low)
        found = found // size
    again, machine, human, own = values
    merged = Ratings.of(human, machine, np.where(again < 0, np.nan, again))
    return Ratings(**{**vars(merged), "weight": weight}), own


def slices(rows: int) -> Iterator[slice]:
    """Yield slices of so many rows, each small enough that the sums of its rows take little memory."""
    for first in range(0, rows, BLOCK_ROWS):
        yield slice(first, first + BLOCK_ROWS)


def by_cell(cell: npt.NDArray[Any], values: Floats, cells: int) -> Floats:
    """Return the sum of the values in each of `cells` cells, [C]."""
    return np.bincount(cell, values, cells).astype(np.float64, copy=False)


def _ones(mask: npt.NDArray[np.bool_]) -> Floats:
    return mask.astype(np.float64)
