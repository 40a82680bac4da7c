"""Figures of weighted rows that a program has as columns: agreement by cell, and risk against coverage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_assess.labels.ratings import Floats, Mask, Ratings
from scoremux_assess.statistics.agreement import BY_NAME, SEVERITY
from scoremux_assess.statistics.estimates import Estimates
from scoremux_assess.statistics.estimates import Figure as Figure
from scoremux_assess.statistics.estimates import rounded as rounded
from scoremux_assess.statistics.intervals import estimates
from scoremux_assess.statistics.reliability import COVERAGES, measure_confidence

_STATISTICS = {**BY_NAME, SEVERITY.name: SEVERITY}


def figures_by_cell(
    names: Sequence[str],
    human: Sequence[float],
    machine: Sequence[float],
    weight: Floats,
    cell: npt.NDArray[Any],
    cells: int,
) -> dict[str, Estimates]:
    """Return statistics of two columns of levels in each cell, with their intervals.

    Args:
        names: Of statistics, as `scoremux evaluate` writes them, and `severity`.
        human, machine: Levels, [B].
        weight: Of each row, [B]; those of weight 0 are left out.
        cell: The cell of each row, from 0, [B].
        cells: How many cells there are.
    """
    used = weight > 0
    ratings = Ratings.of(human, machine, weight=weight).take(used)
    return estimates([_STATISTICS[name] for name in names], ratings, cell[used], cells)


def risk_by_coverage(
    confidence: Sequence[float], right: Mask, weight: Floats, fewest: int
) -> Iterator[tuple[float, Figure]]:
    """Yield shares of the most confident rows, with the share of wrong levels among them.

    Args:
        confidence: P(level = human's level), [B].
        right: Whether the level is the human's, [B].
        weight: Above 0, [B].
        fewest: Shares of fewer rows are left out.
    """
    column, all_together = np.array(confidence, np.float64), np.zeros(len(confidence), np.int64)
    known = measure_confidence(column, right, weight, all_together, 1)
    total = weight[np.argsort(-column)].cumsum()
    kept = zip(known.kept[-1], known.kept_low[-1], known.kept_high[-1], strict=True)
    for share, (right_share, low, high) in zip(COVERAGES.tolist(), kept, strict=True):
        if total.searchsorted(share * total[-1]) >= fewest - 1:
            yield share, Figure(1 - right_share, 1 - high, 1 - low)
