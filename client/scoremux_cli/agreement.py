"""Agreement of two raters, as assessment programmes report it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """n rows; exact and adjacent agreement (shares of rows); QWK; SMD.

    qwk: quadratic weighted kappa (Cohen 1968), NaN if both raters use one and the same level throughout (0/0).
    smd: standardised mean difference (machine − human) / pooled standard deviation, as in Williamson, Xi & Breyer
    2012; NaN if both are constant.
    """

    n: int
    exact: float
    adjacent: float
    qwk: float
    smd: float


def agreement(human: Sequence[int], machine: Sequence[int]) -> Agreement:
    """Compare the levels of two raters, row by row."""
    a, b = np.asarray(human), np.asarray(machine)
    distance = np.abs(a - b)
    return Agreement(len(a), float((distance == 0).mean()), float((distance <= 1).mean()), _qwk(a, b), _smd(a, b))


def _qwk(human: np.ndarray, machine: np.ndarray) -> float:  # type: ignore[type-arg]
    # 1 − mean squared distance of the pairs / mean squared distance of all pairs of a human and a machine level
    expected = human.var() + machine.var() + (human.mean() - machine.mean()) ** 2
    return float(1 - ((human - machine) ** 2).mean() / expected) if expected else math.nan


def _smd(human: np.ndarray, machine: np.ndarray) -> float:  # type: ignore[type-arg]
    spread = math.sqrt((human.var() + machine.var()) / 2)
    return float((machine.mean() - human.mean()) / spread) if spread else math.nan
