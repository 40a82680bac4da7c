"""How sure the machine was, against how often it was right: reliability, and risk against coverage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_assess.agreement.ratings import Floats, Ints, by_cell

BINS = 10
COVERAGES = np.arange(1, 21) / 20


@dataclass(frozen=True)
class Confidence:
    """Of each task, and after them of all rows; NaN where no row has a confidence.

    rows, stated, right: float64 [C, BINS]: rows whose confidence is in each tenth, their mean confidence, and the share
    of them whose level is the human's. error: expected calibration error [C], the mean distance of the two by row.
    kept: float64 [C, 20]: the share of right levels among the most confident rows, at each of `COVERAGES`.
    """

    rows: Floats
    stated: Floats
    right: Floats
    error: Floats
    kept: Floats


@dataclass(frozen=True)
class Ranges:
    """Of each task, and after them of all rows, float64 [C]; NaN where no row has a range of levels.

    rows: those that have one; width: their mean number of levels; held: the share of them that hold the human's level.
    """

    rows: Floats
    width: Floats
    held: Floats


def measure_ranges(low: Floats, high: Floats, human: Floats, task: npt.NDArray[Any], cells: int) -> Ranges:
    """Measure ranges of levels.

    Args:
        low, high: Lowest and highest level of each row's range, NaN where it has none, [B].
        human: The human's level, [B].
        task: The task of each row, from 0, [B].
        cells: How many tasks there are.
    """
    known = ~np.isnan(low) & ~np.isnan(high)
    low, high, human, task = low[known], high[known], human[known], task[known].astype(np.int64)
    columns = (np.ones(len(low)), high - low + 1, ((low <= human) & (human <= high)).astype(np.float64))
    rows, width, held = (np.append(table, table.sum()) for table in (by_cell(task, c, cells) for c in columns))
    with np.errstate(invalid="ignore"):
        return Ranges(rows, width / rows, held / rows)


def measure(confidence: Floats, right: npt.NDArray[np.bool_], task: npt.NDArray[Any], cells: int) -> Confidence:
    """Measure the confidence of rows.

    Args:
        confidence: P(level = human's level) of each row, NaN where there is none, [B].
        right: Whether the machine's level is the human's, [B].
        task: The task of each row, from 0, [B].
        cells: How many tasks there are.
    """
    known = ~np.isnan(confidence)
    sure, hit, own = confidence[known], right[known].astype(np.float64), task[known].astype(np.int64)
    bin_of = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    place = own * BINS + bin_of
    tables = [by_cell(place, column, cells * BINS).reshape(cells, BINS) for column in (np.ones_like(hit), sure, hit)]
    rows, stated, correct = (np.vstack([table, table.sum(axis=0)]) for table in tables)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.abs(stated - correct).sum(axis=1) / rows.sum(axis=1)
        return Confidence(rows, stated / rows, correct / rows, error, np.stack(list(_kept(sure, hit, own, cells))))


def _kept(sure: Floats, hit: Floats, task: Ints, cells: int) -> Iterator[Floats]:
    order = np.lexsort((-sure, task))
    edges = np.searchsorted(task[order], np.arange(cells + 1))
    for first, last in pairwise(edges):
        yield _curve(hit[order[first:last]])
    yield _curve(hit[np.argsort(-sure, kind="stable")])


def _curve(hit: Floats) -> Floats:
    if not len(hit):
        return np.full(len(COVERAGES), np.nan)
    rows = np.maximum(np.ceil(COVERAGES * len(hit)).astype(np.int64), 1)
    shares: Floats = np.cumsum(hit)[rows - 1] / rows
    return shares
