"""Logits in float64 against what a server logged: which levels stand, and which were close.

A row's margin is how far it is from another level: the gap between its two largest logits, or, where the head gives one
value, twice the distance to the nearest point halfway between two levels. A level can differ between two arithmetics
only where the margin is not above what that gap differs by between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from scoremux_engine.judge.logged_rows import LoggedRow

MEDIANS = 30.0
"""Times the median difference: what no honest row was seen to reach."""
_MOST_FLOAT32, _MOST_NARROW = 1e-3, 1.0
"""The largest limit of arithmetics in float32 throughout, and of narrower ones."""
_LEAST = 1e-30
_UNMEASURED = 2e-4
"""The limit where no difference was measured: twice the tolerance of exports."""


class Standing(Enum):
    """What the judge says of a logged level."""

    CONFIRMED = "confirmed"
    CLOSE = "close"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True)
class JudgedRow:
    """A row with its value in float64.

    Attributes:
        row: As it was logged.
        id: Of the response in the programme's file.
        level: The place of the level that float64 gives.
        logits: In float64.
        margin: See this module.
        difference: How far the logged probabilities' logarithms are from float64's, at most, each pair of levels
            compared; None where the head gives one value, which no log holds.
    """

    row: LoggedRow
    id: str
    level: int
    logits: tuple[float, ...]
    margin: float
    difference: float | None

    def standing(self, limit: float) -> Standing:
        """Return what stands.

        limit: how far honest rows of the arithmetic are from float64; a row with a smaller margin is close.
        """
        logged = self.row.probabilities
        if logged and self.row.level != logged.index(max(logged)):
            return Standing.CONTRADICTED  # the log contradicts itself
        if self.difference is not None and self.difference > limit:
            return Standing.CONTRADICTED
        if self.margin <= limit:
            return Standing.CLOSE
        return Standing.CONFIRMED if self.level == self.row.level else Standing.CONTRADICTED


def judge_row(row: LoggedRow, response_id: str, logits: npt.NDArray[np.float64], points: Sequence[float]) -> JudgedRow:
    """Compare a logged row with its logits in float64. points: of the task's levels."""
    if len(logits) == 1:
        level, margin = _nearest(float(logits[0]), points)
        return JudgedRow(row, response_id, level, (float(logits[0]),), margin, None)
    level = int(np.argmax(logits))
    others = np.delete(logits, level)
    difference = _difference(np.array(row.probabilities), logits)
    return JudgedRow(
        row, response_id, level, tuple(logits.tolist()), float(logits[level] - others.max(initial=-np.inf)), difference
    )


def _nearest(value: float, points: Sequence[float]) -> tuple[int, float]:
    """Return the nearest point's place, the lower one on a tie, and twice the distance to a point halfway."""
    level = min(range(len(points)), key=lambda place: (abs(points[place] - value), place))
    halves = [(low + high) / 2 for low, high in pairwise(points)]
    return level, 2 * min((abs(value - half) for half in halves), default=math.inf)


def _difference(probabilities: npt.NDArray[np.float64], logits: npt.NDArray[np.float64]) -> float:
    """Return max |Δ(zᵢ − zⱼ)|; probabilities that a float32 does not hold well count as the least that it does."""
    if len(probabilities) != len(logits):
        return -float(np.log(_LEAST))  # of another head
    exact = logits - np.logaddexp.reduce(logits)
    apart = np.log(np.maximum(probabilities, _LEAST)) - np.maximum(exact, np.log(_LEAST))
    return float(apart.max() - apart.min())


def margin_of(probabilities: Sequence[float]) -> float:
    """Return the margin that logged probabilities say: ln p₁ − ln p₂ of the two largest."""
    second, first = sorted(probabilities)[-2:]
    return math.log(first / second) if second > 0 else math.inf


def limits(judged: Sequence[JudgedRow]) -> dict[str, float]:
    """Return, by arithmetic, how far honest rows may be from float64: `MEDIANS` times the median difference.

    A median, and never more than the precision explains: rows that something else computed do not widen it.
    """
    differences: dict[str, list[float]] = {}
    for row in judged:
        of_name = differences.setdefault(row.row.arithmetic, [])
        if row.difference is not None:
            of_name.append(row.difference)
    return {
        name: min(MEDIANS * float(np.median(values)), _most(name)) if values else _UNMEASURED
        for name, values in differences.items()
    }


def _most(arithmetic: str) -> float:
    is_float32 = arithmetic.rpartition("-")[2] in ("f32", "float32") and "int8" not in arithmetic
    return _MOST_FLOAT32 if is_float32 else _MOST_NARROW
