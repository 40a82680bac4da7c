"""Logits in float64 beside logged ones: which levels are the same, close to another, or contradicted.

A level can differ between two arithmetics only where the row's margin (`outcomes.margin_of`) is not above what that
differs by between them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from scoremux_engine.scoring.outcomes import margin_of
from scoremux_evidence.judge.logged_rows import LoggedRow
from scoremux_evidence.rows.close_rows import FLOAT32_LIMIT, computes_float32

NARROW_LIMIT = 1.0
"""How far bfloat16 and int8 may take a difference of two logits from float64's."""
_LEAST = 1e-30


class Standing(Enum):
    """The judge's verdict on a logged level."""

    SAME = "same"
    CLOSE = "close"
    CONTRADICTED = "contradicted"


def tolerance(arithmetic: str, ran: Collection[str]) -> float:
    """Return how far honest rows may be from float64. ran: Arithmetics that the servers are known to have run.

    The log's word alone widens nothing: it may name any arithmetic.
    """
    return NARROW_LIMIT if arithmetic in ran and not computes_float32(arithmetic) else FLOAT32_LIMIT


@dataclass(frozen=True)
class JudgedRow:
    """A row with its value in float64.

    Attributes:
        difference: How far the logged probabilities' logarithms are from float64's, at most, each pair of levels
            compared; None where the head gives one value, which no log holds.
        limit: How far honest rows may be from float64; with a smaller margin, they are close.
    """

    row: LoggedRow
    id: str
    level: int
    logits: tuple[float, ...]
    margin: float
    difference: float | None
    limit: float

    @property
    def standing(self) -> Standing:
        """The verdict."""
        logged = self.row.probabilities
        if logged and self.row.level != logged.index(max(logged)):
            return Standing.CONTRADICTED  # the log contradicts itself
        if self.difference is not None and self.difference > self.limit:
            return Standing.CONTRADICTED
        if self.margin <= self.limit:
            return Standing.CLOSE
        return Standing.SAME if self.level == self.row.level else Standing.CONTRADICTED


def judge_row(
    row: LoggedRow,
    response_id: str,
    logits: npt.NDArray[np.float64],
    points: Sequence[float],
    ran: Collection[str],
) -> JudgedRow:
    """Compare a logged row with its logits in float64. points: those of the task's levels; ran: see `tolerance`."""
    difference = None
    if len(logits) == 1:
        level = min(range(len(points)), key=lambda place: (abs(points[place] - float(logits[0])), place))
    else:
        level = int(np.argmax(logits))
        difference = _difference(np.array(row.probabilities), logits)
    return JudgedRow(
        row=row,
        id=response_id,
        level=level,
        logits=tuple(logits.tolist()),
        margin=margin_of(logits, points),
        difference=difference,
        limit=tolerance(row.arithmetic, ran),
    )


def _difference(probabilities: npt.NDArray[np.float64], logits: npt.NDArray[np.float64]) -> float:
    """Return max |Δ(zᵢ − zⱼ)|; probabilities that a float32 does not hold well count as the least that it does."""
    if len(probabilities) != len(logits):
        return -float(np.log(_LEAST))  # of another head
    exact = logits - np.logaddexp.reduce(logits)
    apart = np.log(np.maximum(probabilities, _LEAST)) - np.maximum(exact, np.log(_LEAST))
    return float(apart.max() - apart.min())
