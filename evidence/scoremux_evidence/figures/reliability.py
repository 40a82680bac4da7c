"""How sure the machine was, against how often it was right; where a policy stands.

All figures are those of each task, and after them of all rows, float64 [C]; NaN where nothing is known.
"""

from dataclasses import dataclass

import numpy as np

from scoremux_evidence.figures.estimates import Figure
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.rows.table import Floats, Ints, Mask, Rows, by_cell, rated, undefined

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
    rows = rated(np.ones(len(right)), right, weight=weight, student=student)
    rows = rows.plus(confidence=confidence, task=task.astype(np.int64)).where(~np.isnan(confidence))
    place = rows.task * BINS + np.minimum((rows.confidence * BINS).astype(np.int64), BINS - 1)
    columns = (np.ones(len(rows)), rows.weight, rows.weight * rows.confidence, rows.weight * rows.machine)
    tables = [by_cell(place, column, cells * BINS).reshape(cells, BINS) for column in columns]
    count, total, stated, correct = (np.vstack([table, table.sum(axis=0)]) for table in tables)
    curves = zip(_curve(rows, rows.task, cells), _curve(rows, np.zeros_like(rows.task), 1), strict=True)
    with undefined():
        error = np.abs(stated - correct).sum(axis=1) / total.sum(axis=1)
        return Reliability(count, stated / total, correct / total, error, *(np.vstack(pair) for pair in curves))


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


def _curve(rows: Rows, cell: Ints, cells: int) -> list[Floats]:
    """Return the share of right levels among the most confident rows at each of `COVERAGES`, and its interval."""
    order = np.lexsort((-rows.confidence, cell))
    total = by_cell(cell, rows.weight, cells)
    weight = rows.weight[order]
    before = np.empty(len(rows))  # the share of the cell's weight that is more confident
    before[order] = (np.cumsum(weight) - weight - (np.cumsum(total) - total)[cell[order]]) / total[cell[order]]
    found = []
    for coverage in COVERAGES:
        most_confident = before < coverage * (1 - 1e-12)
        found.append(estimates(["exact"], rows.where(most_confident), cell[most_confident], cells)["exact"])
    return [np.stack([getattr(of, name) for of in found], axis=1) for name in Figure._fields]
