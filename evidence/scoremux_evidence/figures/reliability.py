"""How sure the machine was, against how often it was right; where a policy stands.

All figures are those of each task, and after them of all rows, float64 [C]; NaN where nothing is known.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scoremux_evidence.figures.estimates import wilson
from scoremux_evidence.rows.table import Floats, Ints, Mask, by_cell, undefined

BINS = 10
COVERAGES = np.arange(1, 21) / 20


@dataclass(frozen=True)
class Reliability:
    """Confidence beside the share of right levels.

    Attributes:
        rows: How many rows have a confidence in each tenth, [C, BINS].
        stated: Their mean confidence, [C, BINS].
        right: The share of them whose level is the human's, [C, BINS].
        error: Expected calibration error, the mean distance of the two by row.
        kept: The share of right levels among the most confident rows, at each of `COVERAGES`, [C, 20].
    """

    rows: Floats
    stated: Floats
    right: Floats
    error: Floats
    kept: Floats
    kept_low: Floats
    kept_high: Floats


@dataclass(frozen=True)
class RangeFigures:
    """Ranges of levels.

    Attributes:
        width: Their mean number of levels.
        held: The share of them that hold the human's level.
    """

    rows: Floats
    width: Floats
    held: Floats


@dataclass(frozen=True)
class Routing:
    """Where a policy stands.

    Attributes:
        machine: The share of rows that it leaves to the machine.
        wrong: The share of wrong levels among them.
    """

    machine: Floats
    wrong: Floats


def measure_ranges(low: Floats, high: Floats, human: Floats, weight: Floats, task: Ints, cells: int) -> RangeFigures:
    """Measure ranges of levels.

    Args:
        low, high: Lowest and highest level of each row's range, NaN where it has none, [B].
    """
    bounded = ~np.isnan(low) & ~np.isnan(high)
    inside = (low <= human) & (human <= high)
    columns = (bounded, weight * bounded, np.where(bounded, weight * (high - low + 1), 0), weight * (bounded & inside))
    rows, total, width, covered = _totals(task, cells, *columns)
    with undefined():
        return RangeFigures(rows, width / total, covered / total)


def measure_confidence(
    confidence: Floats, right: Mask, weight: Floats, task: Ints, cells: int, student: Ints | None = None
) -> Reliability:
    """Measure the confidence of rows.

    Args:
        confidence: P(level = human's level) of each row, NaN where there is none, [B].
        student: A number for the student who wrote each row, [B]; None if rows are independent.
    """
    has_confidence = ~np.isnan(confidence)
    student = None if student is None else student[has_confidence]
    confidence = confidence[has_confidence]
    weight = weight[has_confidence]
    task = task[has_confidence].astype(np.int64)
    hit = weight * right[has_confidence]
    place = task * BINS + np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    columns = (np.ones_like(hit), weight, weight * confidence, hit)
    tables = [by_cell(place, column, cells * BINS).reshape(cells, BINS) for column in columns]
    rows, total, stated, correct = (np.vstack([table, table.sum(axis=0)]) for table in tables)
    by_task = np.lexsort((-confidence, task))
    edges = np.searchsorted(task[by_task], np.arange(cells + 1))
    orders = [by_task[first:last] for first, last in pairwise(edges)]
    orders.append(np.argsort(-confidence, kind="stable"))
    with undefined():
        error = np.abs(stated - correct).sum(axis=1) / total.sum(axis=1)
        curves = [_curve(hit[order], weight[order], None if student is None else student[order]) for order in orders]
        return Reliability(rows, stated / total, correct / total, error, *np.stack(curves, axis=1))


def measure_routing(people: Floats, kept: Floats, right: Mask, task: Ints) -> Routing:
    """Return the figures of routes.

    Args:
        people: The share of rows that were sent to people, [C].
        kept: The weight of a row that the machine keeps, 0 where people read it, NaN where that is not known, [B].
    """
    machine, wrong = _totals(task, len(people) - 1, kept, kept * ~right)
    with undefined():
        return Routing(np.where(np.isnan(machine), np.nan, 1 - people), wrong / machine)


def _totals(task: Ints, cells: int, *columns: Floats | Mask) -> list[Floats]:
    """Return the sum of each column by task, and after them of all rows."""
    tables = (by_cell(task, column.astype(np.float64), cells) for column in columns)
    return [np.append(table, table.sum()) for table in tables]


def _curve(hit: Floats, weight: Floats, student: Ints | None) -> Floats:
    """Return the share of right levels among the first rows that have each share of the weight, and its interval.

    The share is a ratio Σ hit / Σ weight; its variance is that of Σ (hit − share · weight) over students, or over rows.
    """
    if not len(hit):
        return np.full((3, len(COVERAGES)), np.nan)
    total = np.cumsum(weight)
    ends = 1 + np.searchsorted(total, COVERAGES * total[-1] * (1 - 1e-12)).clip(max=len(hit) - 1)
    totals = total[ends - 1]
    shares = _sums(hit, ends) / total[ends - 1]
    if student is None:
        squares = _sums(weight**2, ends)
        units = ends
        square = (1 - 2 * shares) * _sums(hit**2, ends) + shares**2 * squares
    else:
        who = np.unique(student, return_inverse=True)[1]
        of_student = [[np.bincount(who[:end], column[:end]) for column in (weight, hit)] for end in ends]
        squares = np.array([(weights**2).sum() for weights, _ in of_student])
        units = np.array([len(np.unique(who[:end])) for end in ends])
        square = np.array([((hits - p * w) ** 2).sum() for p, (w, hits) in zip(shares, of_student, strict=True)])
    explained = np.where(square > 1e-9, shares * (1 - shares) / np.maximum(square, 1e-12), 1 / squares)
    size = np.minimum(explained * totals**2, ends)
    return np.stack([shares, *wilson(shares, size, ends, units, units - 1)])


def _sums(column: Floats, ends: Ints) -> Floats:
    """Return the sum of a column up to each end."""
    return np.array([column[:end].sum() for end in ends])
