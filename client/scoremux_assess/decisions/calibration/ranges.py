"""Ranges of levels that hold a human's level: ordinal adaptive prediction sets (Lu et al. 2022), split conformal.

A row's range grows from the machine's level by the likelier neighbour (`apply.growing`). Labelled rows
say how far ranges must grow so that a share `confidence` of rows to come has the human's level in its range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scoremux_assess.decisions.calibration.labelled_scores import Floats, Ints, LabelledScores
from scoremux_assess.decisions.decision import OWN, POOLED, LevelRange


@dataclass(frozen=True)
class Growth:
    """Ranges of rows at each width.

    Attributes:
        shares: Their calibrated probability together, float64 [L, B].
        needed: That of the widest range without the human's level, float64 [B]; 0 where the machine's is the human's.
        weight: Of the rows, float64 [B].
    """

    shares: Floats
    needed: Floats
    weight: Floats

    @classmethod
    def of(cls, rows: LabelledScores, probabilities: Floats) -> Growth:
        """Follow the ranges of rows. probabilities: calibrated ones, float64 [B, L]."""
        shares: list[Floats] = []
        needed = np.zeros(len(rows))
        outside = rows.distance > 0
        for low, high, share in _growing(probabilities, rows.level):
            reached = outside & (low <= rows.human) & (rows.human <= high)
            if shares:
                needed[reached] = shares[-1][reached]
            outside &= ~reached
            shares.append(share)
        return cls(np.array(shares), np.minimum(needed, 1.0), rows.weights)

    def widths(self, reach: float) -> Floats:
        """Return how many levels each row's range has, float64 [B]."""
        if reach >= 1:
            return np.full(self.shares.shape[1], float(len(self.shares)))
        return np.asarray(1.0 + (self.shares[:-1] <= reach).sum(axis=0))


def reach(needed: Floats, weight: Floats, confidence: float) -> float:
    """Return the number that ranges must be above to hold the human's level with this confidence.

    The least of `needed` up to which there is a share `confidence` of the weight of all rows and one more, as heavy as
    the heaviest (Tibshirani et al. 2019); 1, all levels, where there are too few rows to say.
    """
    if not len(needed):
        return 1.0
    order = np.argsort(needed, kind="stable")
    total = np.cumsum(weight[order])
    place = int(np.searchsorted(total, (total[-1] + weight.max()) * confidence * (1 - 1e-12)))
    return float(needed[order][place]) if place < len(order) else 1.0


def fit_ranges(growths: Mapping[str, Growth], own_rows: int, confidence: float) -> dict[str, LevelRange]:
    """Return what each task's ranges are grown with: a number of its own, or one that tasks with fewer rows share.

    Args:
        growths: Of the labelled rows of each task.
        own_rows: Rows from which a task has a number of its own.
        confidence: The share of rows to come whose ranges hold the human's level, at least.
    """
    own = [name for name, growth in growths.items() if len(growth.needed) >= own_rows]
    shared = [name for name in growths if name not in own]
    ranges = {name: _fit([growths[name]], confidence, OWN) for name in own}
    if shared:
        together = _fit([growths[name] for name in shared], confidence, POOLED)
        ranges |= {name: replace(together, width=_width([growths[name]], together.reach)) for name in shared}
    return ranges


def _fit(growths: Sequence[Growth], confidence: float, source: str) -> LevelRange:
    needed = np.concatenate([growth.needed for growth in growths])
    least = reach(needed, np.concatenate([growth.weight for growth in growths]), confidence)
    return LevelRange(least, confidence, source, len(needed), _width(growths, least))


def _width(growths: Sequence[Growth], reach: float) -> float:
    widths = np.concatenate([growth.widths(reach) for growth in growths])
    return round(float(widths.mean()), 6) if len(widths) else 0.0


def _growing(probabilities: Floats, level: Ints) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Yield what `apply.growing` does, of many rows at once: lowest, highest, probability together, [B]."""
    levels, rows = probabilities.shape[1], np.arange(len(probabilities))
    padded = np.full((len(rows), levels + 2), -np.inf)  # what lies beyond the first and the last level is never next
    padded[:, 1:-1] = probabilities
    low, high, share = level.copy(), level.copy(), probabilities[rows, level]
    yield low, high, share
    for _ in range(1, levels):
        below, above = padded[rows, low], padded[rows, high + 2]
        down = below >= above
        share = share + np.where(down, below, above)
        low, high = low - down, high + ~down
        yield low, high, share
