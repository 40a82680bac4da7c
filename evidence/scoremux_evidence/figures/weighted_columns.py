"""Figures of weighted rows that a program has as columns: agreement by cell, and risk against coverage."""

from collections.abc import Iterator, Sequence

import numpy as np

from scoremux_evidence.figures.agreement import SEVERITY
from scoremux_evidence.figures.estimates import Figure as Figure
from scoremux_evidence.figures.estimates import Figures
from scoremux_evidence.figures.estimates import rounded as rounded
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.figures.reliability import COVERAGES, measure_confidence
from scoremux_evidence.rows.table import Floats, Mask, Values, rated


def figures_by_cell(
    names: Sequence[str], human: Sequence[float], machine: Sequence[float], weight: Floats, cell: Values, cells: int
) -> Figures:
    """Return statistics of two columns of levels in each cell, with their intervals.

    Args:
        names: Of statistics, as `scoremux evaluate` writes them, and `severity`.
        human, machine: Levels, [B].
        weight: Of each row, [B]; those of weight 0 are left out.
        cell: The cell of each row, from 0, [B].
        cells: How many cells there are.
    """
    used = weight > 0
    ratings = rated(human, machine, weight=weight).where(used)
    chosen = [SEVERITY if name == SEVERITY.name else name for name in names]
    return estimates(chosen, ratings, cell[used], cells)


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
    column = np.array(confidence, np.float64)
    one_cell = np.zeros(len(column), np.int64)
    known = measure_confidence(column, right, weight, one_cell, 1)
    total = weight[np.argsort(-column)].cumsum()
    kept = zip(known.kept[-1], known.kept_low[-1], known.kept_high[-1], strict=True)
    for share, (right_share, low, high) in zip(COVERAGES.tolist(), kept, strict=True):
        if total.searchsorted(share * total[-1]) >= fewest - 1:
            yield share, Figure(1 - right_share, 1 - high, 1 - low)
