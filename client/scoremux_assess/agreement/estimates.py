"""A statistic with its 95 % interval in each cell, and how many rows would take the interval off a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scoremux_assess.agreement.ratings import Floats

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""

MOST_ROWS = 1e9
"""A number of rows that nobody will have."""

PEOPLE, ONLY_MACHINE = 1, 2

POWER = 0.8416212335729143
"""80 % quantile of the normal distribution: the power that the rows needed are for."""

_MOST_Z = np.arctanh(1 - 1e-5)


class Figure(NamedTuple):
    """A statistic with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimates:
    """A statistic with its interval in each cell, [C].

    Attributes:
        value, low, high: NaN where it is not defined.
        n: The rows it is about.
        scale: How its interval is made.
        one_level: `PEOPLE` where a human of the pair gave one level only, else `ONLY_MACHINE` where the machine did;
            None: nowhere.
    """

    value: Floats
    low: Floats
    high: Floats
    n: Floats
    scale: str
    one_level: npt.NDArray[np.int8] | None = None

    def at(self, cell: int) -> Figure:
        """Return the statistic of one cell."""
        return Figure(float(self.value[cell]), float(self.low[cell]), float(self.high[cell]))

    def take(self, cells: npt.NDArray[Any]) -> Estimates:
        """Return the estimates of some cells."""
        one_level = None if self.one_level is None else self.one_level[cells]
        return Estimates(self.value[cells], self.low[cells], self.high[cells], self.n[cells], self.scale, one_level)


def joined_estimates(parts: Sequence[Estimates]) -> Estimates:
    """Return the estimates of one statistic in the cells of all parts, in order."""
    value, low, high, n, one_level = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("value", "low", "high", "n", "one_level")
    )
    return Estimates(value, low, high, n, parts[0].scale, one_level)


def mean_of(estimate: Estimates) -> Estimates:
    """Return the mean over those cells whose figure has an interval, with its own: cells are independent."""
    known = ~np.isnan(estimate.low)
    value, low, high = (column[known] for column in (estimate.value, estimate.low, estimate.high))
    mean = value.mean() if len(value) else np.nan
    below, above = (np.sqrt((way**2).sum()) / max(1, len(value)) for way in (value - low, high - value))
    value, low, high, cells = (np.array([end]) for end in (mean, mean - below, mean + above, known.sum()))
    return Estimates(value, low, high, cells, estimate.scale, np.zeros(1, np.int8))


def rows_to_decide(estimate: Estimates, limit: float) -> Floats:
    """Return how many rows would take the interval off a limit in 80 % of cases, if the figure is what it seems; [C].

    n · ((z₀.₉₇₅ + z₀.₈₀) / z₀.₉₇₅ · half / |value − limit|)², where `half` is the interval's on the side of the limit.
    At least one more than there are now; inf for more than `MOST_ROWS`.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        value, low, high, edge = (
            straight(x, estimate.scale) for x in (estimate.value, estimate.low, estimate.high, limit)
        )
        half = np.where(value >= edge, value - low, high - value)
        half = half * (1 + POWER / Z)
        needed = np.maximum(np.ceil(estimate.n * (half / np.abs(value - edge)) ** 2), estimate.n + 1)
        bounded: Floats = np.where(needed > MOST_ROWS, np.inf, needed)
    return bounded


def straight(x: Any, scale: str) -> Floats:
    values = np.asarray(x, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        if scale == "correlation":
            return np.arctanh(np.clip(values, -1, 1)).clip(-_MOST_Z, _MOST_Z)
        return np.log(values) if scale == "ratio" else values
