"""Thresholds that keep a promise: fixed-sequence Learn-then-Test (Angelopoulos et al. 2021) on exact binomial tests.

Rows are put in order of their confidence. Cuts are tested one after the other, from a strict one to looser ones, and
the last before the first failure is taken. Which cut is first depends on confidences alone, never on labels, so the
chance that the cut taken breaks the promise is at most 1 − confidence, for rows to come as many as were labelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from scoremux_assess.decisions.calibration.bounds import at_most, most_errors
from scoremux_assess.decisions.calibration.labelled_scores import Floats, Ints

_CUTS = 60


@dataclass(frozen=True)
class Promise:
    """What is promised of the rows that the machine keeps.

    Attributes:
        errors: Greatest share of rows with another level than the human's; None: no limit.
        critical: Greatest share of levels two or more off; None: no limit.
        confidence: Of the promise.
    """

    errors: float | None
    critical: float | None
    confidence: float

    @cached_property
    def level(self) -> float:
        """Confidence of each test, so that a batch of as many rows to come as are labelled meets the promise too.

        Their share of errors varies as much as that of the labelled rows, hence √2; nine tenths become 0.965.
        """
        normal = NormalDist()
        return normal.cdf(normal.inv_cdf(self.confidence) * 2**0.5)

    def holds(self, rows: int, errors: int, critical: int) -> bool:
        """Return whether these counts show that the promise is kept."""
        return all(
            count <= most_errors(rows, most, self.level)
            for count, most in ((errors, self.errors), (critical, self.critical))
            if most is not None
        )


def choose(confidence: Floats, severe: Floats, distance: Ints, promise: Promise) -> float | None:
    """Return the least confidence that the machine keeps, None if no cut shows that the promise is kept.

    Args:
        confidence: Of each row, float64 [B].
        severe: Calibrated probabilities that the level is two off or more, float64 [B].
        distance: How far the level is from the human's, int [B].
        promise: What the rows kept must reach.
    """
    if not len(confidence):
        return None
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    errors, critical = np.cumsum(distance[order] > 0), np.cumsum(distance[order] > 1)
    expected = (np.cumsum(1 - ranked), np.cumsum(severe[order]))
    ends = _cuts(ranked)
    least: float | None = None
    for rows in ends[_first(expected, ends, promise) :]:
        if not promise.holds(rows, int(errors[rows - 1]), int(critical[rows - 1])):
            break
        least = float(ranked[rows - 1])
    return least


def share_threshold(confidence: Floats, share: float) -> float:
    """Return the confidence below which this share of the rows lies."""
    if share <= 0:
        return 0.0
    ranked = np.sort(confidence)
    return float(ranked[min(len(ranked) - 1, int(np.floor(share * len(ranked) + 0.5)))]) if len(ranked) else 1.0


def _cuts(ranked: Floats) -> list[int]:
    """Return how many of the first rows each cut keeps: rows of one confidence are on one side."""
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1
    step = max(1, len(last) // _CUTS)
    return [int(rows) for rows in last[::-1][::step][::-1]]


def _first(expected: tuple[Floats, Floats], ends: list[int], promise: Promise) -> int:
    """Return the place of the cut that is likeliest to show the promise, if the confidences are right.

    expected: how many errors and critical errors they make of so many first rows.
    """
    rows = np.array(ends, dtype=np.int64)
    chance = np.ones(len(rows))
    for most, counts in zip((promise.errors, promise.critical), expected, strict=True):
        if most is not None:
            allowed = np.array([most_errors(count, most, promise.level) for count in ends], dtype=np.int64)
            chance *= at_most(allowed, rows, counts[rows - 1] / rows)
    return int(chance.argmax())
