"""Ranges of levels that hold a human's level: ordinal adaptive prediction sets (Lu et al. 2022), split conformal.

A row's range grows from the machine's level by the likelier neighbour (`decision.growing`). Labelled rows
say how far ranges must grow so that a share `confidence` of rows to come has the human's level in its range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scoremux_assess.decisions.calibration.temperature import Floats, Ints, Rows
from scoremux_assess.decisions.decision import OWN, POOLED, LevelRange


@dataclass(frozen=True)
class Growth:
    """What the ranges of rows hold, at each width, float64 [L, B]; needed: what they hold before the human's level.

    needed: float64 [B], 0 where the machine's level is the human's.
    """

    held: Floats
    needed: Floats

    @classmethod
    def of(cls, rows: Rows, shares: Floats) -> Growth:
        """Follow the ranges of rows. shares: their calibrated probabilities, float64 [B, L]."""
        held: list[Floats] = []
        needed = np.zeros(len(rows))
        outside = rows.errors.copy()
        for low, high, now in _growing(shares, rows.level):
            came = outside & (low <= rows.human) & (rows.human <= high)
            if held:
                needed[came] = held[-1][came]
            outside &= ~came
            held.append(now)
        return cls(np.array(held), np.minimum(needed, 1.0))

    def widths(self, reach: float) -> Floats:
        """Return how many levels each row's range has, float64 [B]."""
        if reach >= 1:
            return np.full(self.held.shape[1], float(len(self.held)))
        return np.asarray(1.0 + (self.held[:-1] <= reach).sum(axis=0))


def reach(needed: Floats, confidence: float) -> float:
    """Return the number that ranges must be above to hold the human's level with this confidence.

    It is the ⌈(B + 1) · confidence⌉-th smallest of `needed`; 1, all levels, where there are too few rows to say.
    """
    place = int(np.ceil((len(needed) + 1) * confidence - 1e-9))
    return float(np.partition(needed, place - 1)[place - 1]) if 0 < place <= len(needed) else 1.0


def fit_ranges(growths: Mapping[str, Growth], own_rows: int, confidence: float) -> dict[str, LevelRange]:
    """Return what each task's ranges are grown with: a number of its own, or one that tasks with fewer rows share.

    Args:
        growths: Of the labelled rows of each task.
        own_rows: Rows from which a task has a number of its own.
        confidence: The share of rows to come whose ranges hold the human's level, at least.
    """
    own = [name for name, one in growths.items() if len(one.needed) >= own_rows]
    shared = [name for name in growths if name not in own]
    found = {name: _fit([growths[name]], confidence, OWN) for name in own}
    if shared:
        together = _fit([growths[name] for name in shared], confidence, POOLED)
        found |= {name: replace(together, width=_width([growths[name]], together.reach)) for name in shared}
    return found


def _fit(growths: Sequence[Growth], confidence: float, source: str) -> LevelRange:
    needed = np.concatenate([one.needed for one in growths])
    number = reach(needed, confidence)
    return LevelRange(number, confidence, source, len(needed), _width(growths, number))


def _width(growths: Sequence[Growth], number: float) -> float:
    widths = np.concatenate([one.widths(number) for one in growths])
    return round(float(widths.mean()), 6) if len(widths) else 0.0


def _growing(shares: Floats, level: Ints) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Yield what `decision.growing` does, of many rows at once: lowest, highest, probability, [B]."""
    levels, rows = shares.shape[1], np.arange(len(shares))
    beside = np.full((len(shares), levels + 2), -np.inf)  # what lies beyond the first and the last level is never next
    beside[:, 1:-1] = shares
    low, high, held = level.copy(), level.copy(), shares[rows, level]
    yield low, high, held
    for _ in range(1, levels):
        below, above = beside[rows, low], beside[rows, high + 2]
        down = below >= above
        held = held + np.where(down, below, above)
        low, high = low - down, high + ~down
        yield low, high, held
