"""Ranges of levels that hold a human's level: ordinal adaptive prediction sets (Lu et al. 2022), split conformal.

A row's range grows from the machine's level by the likelier neighbour (`apply.growing`). Labelled rows
say how far ranges must grow so that a share `confidence` of rows to come has the human's level in its range: of those
to which the machine gives a level, for each level by itself (Mondrian sets, Vovk et al. 2005). A level that the machine
gave to too few rows has ranges of all levels.

A number of all tasks together would hold for their mean, and for easy tasks more often than for hard ones. Hence a task
with few rows has numbers of its own, too: those of its rows and of the other tasks', which count as five at most.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scoremux_decide.decision import OWN, POOLED, LevelRange
from scoremux_evidence.rows.table import Floats, Ints, Rows

_OTHERS_WORTH = 5.0
"""Rows that the other tasks' are worth, at most. With 10 to 40, hard tasks had too narrow ranges in simulation; with
none, tasks of 25 rows had ranges of almost all levels."""


@dataclass(frozen=True)
class Growth:
    """Ranges of rows at each width.

    Attributes:
        level: The level that the machine gave, int64 [B].
        shares: Their calibrated probability together, float64 [L, B].
        needed: That of the widest range without the human's level, float64 [B]; 0 where the machine's is the human's.
    """

    level: Ints
    shares: Floats
    needed: Floats
    weight: Floats

    @classmethod
    def of(cls, rows: Rows, probabilities: Floats) -> "Growth":
        """Follow the ranges of rows. probabilities: calibrated ones, float64 [B, L]."""
        shares: list[Floats] = []
        needed = np.zeros(len(rows))
        outside = rows.machine != rows.human
        for low, high, share in _growing(probabilities, rows.machine):
            reached = outside & (low <= rows.human) & (rows.human <= high)
            if shares:
                needed[reached] = shares[-1][reached]
            outside &= ~reached
            shares.append(share)
        return cls(rows.machine, np.array(shares), np.minimum(needed, 1.0), rows.weight)

    def widths(self, level_range: LevelRange) -> Floats:
        """Return how many levels each row's range has, float64 [B]."""
        reach = np.array([level_range.reach_of(level) for level in range(len(self.shares))])[self.level]
        return np.where(reach >= 1, float(len(self.shares)), 1.0 + (self.shares[:-1] <= reach).sum(axis=0))


def fit_ranges(growths: Mapping[str, Growth], own_rows: int, confidence: float) -> dict[str, LevelRange]:
    """Return the numbers with which each task's ranges are grown.

    Args:
        own_rows: Rows from which a task has numbers of its own; others share rows with tasks of as many levels.
        confidence: The share of rows to come whose ranges hold the human's level, at least, by the machine's level.
    """
    alike: dict[int, list[Growth]] = {}
    for growth in growths.values():
        alike.setdefault(len(growth.shares), []).append(growth)
    pools = {levels: _by_level(together, levels) for levels, together in alike.items()}
    return {
        name: _fit(growth, None if len(growth.needed) >= own_rows else pools[len(growth.shares)], confidence)
        for name, growth in growths.items()
    }


Needed = tuple[Floats, Floats]
"""What the rows of one level of the machine need, and their weights."""


def _by_level(growths: Sequence[Growth], levels: int) -> list[Needed]:
    """Return the rows of tasks by level of the machine, and at last those of all levels, in the order of `needed`."""
    level, needed, weight = (
        np.concatenate([getattr(growth, name) for growth in growths]) for name in ("level", "needed", "weight")
    )
    order = np.argsort(needed, kind="stable")
    chosen = [order[level[order] == value] for value in range(levels)]
    return [(needed[rows], weight[rows]) for rows in (*chosen, order)]


def _fit(growth: Growth, pool: Sequence[Needed] | None, confidence: float) -> LevelRange:
    """Return a task's numbers. pool: rows of all tasks with as many levels; None: those of others do not count."""
    of_task = _by_level([growth], len(growth.shares))
    *by_level, of_all = (reach(*rows, confidence) for rows in zip(of_task, pool or of_task, strict=True))
    source = OWN if pool is None else POOLED
    fitted = LevelRange(of_all, confidence, source, len(growth.needed), 0.0, tuple(by_level))
    return replace(fitted, width=round(float(growth.widths(fitted).mean()), 6) if len(growth.needed) else 0.0)


def reach(of_task: Needed, together: Needed, confidence: float) -> float:
    """Return the number that a task's ranges must be above to hold the human's level with this confidence.

    The least of `together` up to which there is a share `confidence` of the weight of the task's rows, of the others of
    all tasks, which count as `_OTHERS_WORTH` at most, and of one row more, as heavy as the heaviest (Tibshirani et al.
    2019); 1, all levels, where there are too few rows to say.
    """
    needed, weight = of_task
    values, weights = together
    if not len(values):
        return 1.0
    ends = np.searchsorted(values, values, side="right")
    of_own = np.append(0.0, np.cumsum(weight))[np.searchsorted(needed, values, side="right")]
    others = np.cumsum(weights)[ends - 1] - of_own
    count = len(values) - len(needed)
    unit = weight.max() if len(weight) else 1.0
    worth = unit * min(_OTHERS_WORTH, count)
    share = others / others[-1] if count else 0.0
    enough = of_own + worth * share >= (weight.sum() + worth + unit) * confidence * (1 - 1e-12)
    return float(values[enough.argmax()]) if enough.any() else 1.0


def _growing(probabilities: Floats, level: Ints) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Yield the steps of `apply.growing`, of many rows at once: lowest, highest, probability together, [B]."""
    levels = probabilities.shape[1]
    rows = np.arange(len(probabilities))
    padded = np.full((len(rows), levels + 2), -np.inf)  # what lies beyond the first and the last level is never next
    padded[:, 1:-1] = probabilities
    low = level.copy()
    high = level.copy()
    share = probabilities[rows, level]
    yield low, high, share
    for _ in range(1, levels):
        below = padded[rows, low]
        above = padded[rows, high + 2]
        down = below >= above
        share = share + np.where(down, below, above)
        low = low - down
        high = high + ~down
        yield low, high, share
