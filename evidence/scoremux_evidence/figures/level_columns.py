"""Agreement of two columns of levels that a program has, by cell."""

from collections.abc import Sequence

from scoremux_evidence.figures.agreement import SEVERITY
from scoremux_evidence.figures.estimates import Figures
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.rows.table import Values, rated


def figures_by_cell(
    names: Sequence[str], human: Sequence[float], machine: Sequence[float], cell: Values, cells: int
) -> Figures:
    """Return statistics of two columns of levels in each cell, with their intervals.

    Args:
        names: Of statistics, as `scoremux evaluate` writes them, and `severity`.
        human, machine: Levels, [B].
        cell: The cell of each row, from 0, [B].
        cells: How many cells there are.
    """
    chosen = [SEVERITY if name == SEVERITY.name else name for name in names]
    return estimates(chosen, rated(human, machine), cell, cells)
