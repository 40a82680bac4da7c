"""Logits in float64 against what a server logged: which levels stand, and which were close.

A level can differ between two arithmetics only where the row's margin (`outcomes.margin_of`) is not above what that
differs by between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from scoremux_assess.agreement.close_rows import FLOAT32_LIMIT, computes_float32
from scoremux_engine.judge.logged_rows import LoggedRow
from scoremux_engine.scoring.outcomes import margin_of

MEDIANS = 30.0
"""Times the median difference: what no honest row was seen to reach."""
_MOST_FLOAT32, _MOST_NARROW = 1e-3, 1.0
"""The largest limit of arithmetics in float32 throughout, and of narrower ones."""
_LEAST = 1e-30


class Standing(Enum):
    """What the judge says of a logged level."""

    CERTAIN = "certain"
    NOT_CLOSE = "not close"
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
        margin: In float64.
        difference: How far the logged probabilities' logarithms are from float64's, at most, each pair of levels
            compared; None where the head gives one value, which no log holds.
        bound: How far float32 can take two of the logits from float64, at most, derived from the operations; infinite
            where no bound is known.
        certain: Whether the derived bounds let no float32 give another level.
    """

    row: LoggedRow
    id: str
    level: int
    logits: tuple[float, ...]
    margin: float
    difference: float | None
    bound: float
    certain: bool

    def standing(self, limit: float) -> Standing:
        """Return what stands.

        limit: how far honest rows of the arithmetic are from float64; a row with a smaller margin is close.
        """
        logged = self.row.probabilities
        if logged and self.row.level != logged.index(max(logged)):
            return Standing.CONTRADICTED  # the log contradicts itself
        if self.difference is not None and self.difference > limit:
            return Standing.CONTRADICTED
        if self.margin <= limit and not self.certain:
            return Standing.CLOSE
        if self.level != self.row.level:
            return Standing.CONTRADICTED
        return Standing.CERTAIN if self.certain else Standing.NOT_CLOSE


def judge_row(
    row: LoggedRow,
    response_id: str,
    logits: npt.NDArray[np.float64],
    points: Sequence[float],
    bounds: npt.NDArray[np.float64] | None = None,
) -> JudgedRow:
    """Compare a logged row with its logits in float64.

    Args:
        row: As it was logged.
        response_id: Of the response.
        logits: In float64.
        points: Of the task's levels.
        bounds: How far float32 can take each logit from the largest (`rounding_bounds`); None where that is not asked.
    """
    if bounds is None or not computes_float32(row.arithmetic):
        bounds = np.full(len(logits), np.inf)
    bound, margin = float(bounds.max()), margin_of(logits, points)
    if len(logits) == 1:
        level = min(range(len(points)), key=lambda place: (abs(points[place] - float(logits[0])), place))
        return JudgedRow(row, response_id, level, (float(logits[0]),), margin, None, bound, margin > 2 * bound)
    level = int(np.argmax(logits))
    gaps = np.delete(logits[level] - logits, level)
    return JudgedRow(
        row,
        response_id,
        level,
        tuple(logits.tolist()),
        margin,
        _difference(np.array(row.probabilities), logits),
        bound,
        bool((gaps > np.delete(bounds, level)).all()),
    )


def _difference(probabilities: npt.NDArray[np.float64], logits: npt.NDArray[np.float64]) -> float:
    """Return max |Δ(zᵢ − zⱼ)|; probabilities that a float32 does not hold well count as the least that it does."""
    if len(probabilities) != len(logits):
        return -float(np.log(_LEAST))  # of another head
    exact = logits - np.logaddexp.reduce(logits)
    apart = np.log(np.maximum(probabilities, _LEAST)) - np.maximum(exact, np.log(_LEAST))
    return float(apart.max() - apart.min())


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
        name: min(MEDIANS * float(np.median(values)), _most(name)) if values else FLOAT32_LIMIT
        for name, values in differences.items()
    }


def _most(arithmetic: str) -> float:
    return _MOST_FLOAT32 if computes_float32(arithmetic) else _MOST_NARROW
