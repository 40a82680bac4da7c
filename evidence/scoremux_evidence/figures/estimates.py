"""A statistic with its 95 % interval in each cell, and how many rows would take the interval off a limit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from scoremux_evidence.rows.table import Floats, Values, undefined

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""

MOST_ROWS = 1e9
"""More rows than any programme has."""

PEOPLE, ONLY_MACHINE = 1, 2

POWER = 0.8416212335729143
"""80 % quantile of the normal distribution: the power that the rows needed are for."""

_RANGES = {"correlation": (-1, 1), "share": (0, 1), "size": (0, np.inf), "ratio": (0, np.inf)}

_MOST_Z = np.arctanh(1 - 1e-5)

_T = np.array([np.nan, 12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157])
"""97.5 % quantiles of Student's t for 0 to 9 degrees of freedom."""


class Figure(NamedTuple):
    """A statistic with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


Ends = tuple[Floats, Floats]
"""Where intervals begin and end."""


def rounded(value: float, digits: int = 2, sign: str = "") -> str:
    """Return a number with some digits; one that rounds to zero has no minus. sign: `+` to show a plus too."""
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


@dataclass(frozen=True)
class Estimates:
    """A statistic with its interval in each cell, [C].

    Attributes:
        value, low, high: NaN where it is not defined.
        n: The rows it is about.
        one_level: `PEOPLE` where a human of the pair gave one level only, else `ONLY_MACHINE` where the machine did;
            0 elsewhere.
        by_chance: How often a good machine would give one level only on such rows.
        cells: Of a mean over `n` cells: how many cells there are; 0 where nothing is a mean.
        bias: By how much the figure is above the truth on average, as the jackknife finds it.
        shared: The cell's variance and its covariances with the other cells, as the same students are in several, in
            multiples of the variance.
    """

    value: Floats
    low: Floats
    high: Floats
    n: Floats
    scale: str
    one_level: Any = 0
    by_chance: Any = 1.0
    cells: Any = 0.0
    shared: Any = 1.0
    bias: Any = 0.0

    def __post_init__(self) -> None:
        """Give a number that holds for all cells to each of them."""
        for name in ("one_level", "by_chance", "cells", "shared", "bias"):
            object.__setattr__(self, name, np.broadcast_to(getattr(self, name), len(self.value)))

    def at(self, cell: int) -> Figure:
        return Figure(*(float(column[cell]) for column in (self.value, self.low, self.high)))

    def of_fewer(self, cell: int) -> str:
        """Return the words that say of how many cells a mean is, where these are not all."""
        n = self.n[cell]
        return f" of {n:,.0f}" if 0 < n < self.cells[cell] else ""

    def take(self, cells: Values) -> "Estimates":
        return replace(self, **{name: column[cells] for name, column in self.columns().items()})

    def without(self, cells: Values) -> "Estimates":
        """Return the estimates with nothing known of some cells, a mask, [C]."""
        value, low, high = (np.where(cells, np.nan, column) for column in (self.value, self.low, self.high))
        return replace(self, value=value, low=low, high=high, n=np.where(cells, 0.0, self.n))

    def straightened(self, limit: float) -> list[Floats]:
        """Return the value, the ends of the interval and a limit, on a scale on which errors are nearly normal."""
        return [straight(x, self.scale) for x in (self.value, self.low, self.high, limit)]

    def columns(self) -> dict[str, Any]:
        """Return the arrays, by name."""
        return {name: column for name, column in vars(self).items() if isinstance(column, np.ndarray)}


Figures = dict[str, Estimates]
"""Statistic → its estimates by cell."""


def joined_estimates(parts: Sequence[Estimates]) -> Estimates:
    """Return the estimates of one statistic in the cells of all parts, in order."""
    columns = {name: [vars(part)[name] for part in parts] for part in parts for name in part.columns()}
    return replace(parts[0], **{name: np.concatenate(column) for name, column in columns.items()})


def joined_figures(parts: Sequence[Figures]) -> Figures:
    """Return the same statistics in the cells of all parts, in order."""
    return {name: joined_estimates([part[name] for part in parts]) for name in parts[0]}


def means_of(figures: Figures) -> Figures:
    """Return the mean of each statistic over its cells; see `mean_of`."""
    return {name: mean_of(estimate) for name, estimate in figures.items()}


def taken(figures: Figures, cells: Values) -> Figures:
    """Return the statistics of some cells."""
    return {name: estimate.take(cells) for name, estimate in figures.items()}


def within(scale: str, ends: Floats) -> Floats:
    """Return ends of intervals, within the range of a statistic."""
    return np.clip(ends, *_RANGES.get(scale, (-np.inf, np.inf)))


def mean_of(estimate: Estimates) -> Estimates:
    """Return the mean over cells, with its interval, wider where cells share students. n: how many cells it is of.

    These are the cells whose figure has an interval, and those where the machine gives one level only: its QWK is 0
    and its r counts as 0. Such a figure adds nothing to the interval. QWK of few rows is too low on average, in a mean
    of many tasks as well: the jackknife's bias is subtracted.
    """
    is_correlation = estimate.scale == "correlation"
    constant = estimate.one_level == ONLY_MACHINE
    value = np.where(constant & is_correlation, np.nan_to_num(estimate.value), estimate.value)
    counts = ~np.isnan(estimate.low) | (constant & ~np.isnan(value))
    columns = (value, estimate.low, estimate.high, estimate.bias, estimate.shared)
    value, low, high, bias, shared = (column[counts] for column in columns)
    mean = (value - bias if is_correlation else value).mean() if len(value) else np.nan
    ways = np.array([value - low, high - value]) ** 2
    # Cells that seem to err the other way than others make no interval narrower.
    sums = np.maximum(np.nansum(ways, axis=1), np.nansum(ways * shared, axis=1))
    below, above = np.where(np.isnan(low).all(), np.nan, np.sqrt(sums) / max(1, len(value)))
    ends = within(estimate.scale, np.array([mean - below, mean + above]))
    mean, low, high, n = np.array([mean, *ends, len(value)])[:, None]
    return Estimates(mean, low, high, n, estimate.scale, cells=np.array([len(counts)]))


def difference(first: Estimates, second: Estimates) -> Estimates:
    """Return one − other, figures of different rows, with the interval that follows from theirs (Zou & Donner 2008)."""
    value = first.value - second.value
    low = value - np.sqrt((first.value - first.low) ** 2 + (second.high - second.value) ** 2)
    high = value + np.sqrt((first.high - first.value) ** 2 + (second.value - second.low) ** 2)
    levels = np.array([first.one_level, second.one_level])
    constant = np.isnan(low) & (levels == ONLY_MACHINE).any(axis=0) & (levels != PEOPLE).all(axis=0)
    one_level = np.where(constant, ONLY_MACHINE, 0).astype(np.int8)
    shared = np.maximum(first.shared, second.shared)
    return Estimates(value, low, high, first.n, "difference", one_level=one_level, shared=shared)


def wilson(share: Floats, size: Floats, rows: Floats, units: Floats, freedom: Floats) -> Ends:
    """Return Wilson's 95 % interval of shares of independent rows.

    With students the number is an estimate: size · (t(rows − 1) / t(freedom))² of it count (Korn & Graubard 1998), not
    less than if each student's rows were all alike.

    Args:
        share, size: The shares, and how many independent rows tell as much.
        rows, units, freedom: Numbers of rows, of students (or rows again), and degrees of freedom of the estimate.
    """
    with undefined():
        t = student_t(rows - 1)
        counted = np.nan_to_num((t / student_t(freedom)) ** 2) * size
        least = np.nan_to_num((t / student_t(units - 1)) ** 2) * np.minimum(size, units)
    size = np.maximum(np.where(units < rows, np.maximum(counted, least), size), 1e-9)
    middle = (share + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * np.sqrt(share * (1 - share) / size + Z**2 / (4 * size**2))
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


def rows_to_decide(estimate: Estimates, limit: float) -> Floats:
    """Return how many rows would take the interval off a limit in 80 % of cases, if the figure is true; [C].

    n · ((z₀.₉₇₅ + z₀.₈₀) / z₀.₉₇₅ · half / |value − limit|)², where `half` is the interval's on the side of the limit.
    At least one more than there are now; inf for more than `MOST_ROWS`.
    """
    value, low, high, edge = estimate.straightened(limit)
    with undefined():
        half = np.where(value >= edge, value - low, high - value) * (1 + POWER / Z)
        factor = half / np.abs(value - edge)
        needed = np.maximum(np.ceil(estimate.n * factor**2), estimate.n + 1)
        return np.where(needed > MOST_ROWS, np.inf, needed)


def straight(x: Any, scale: str) -> Floats:
    values = np.asarray(x, np.float64)
    with undefined():
        if scale == "correlation":
            return np.arctanh(np.clip(values, -1, 1)).clip(-_MOST_Z, _MOST_Z)
        return np.log(values) if scale == "ratio" else values


def chance_beyond(estimate: Estimates, limit: float, sign: int) -> Floats:
    """Return the chance of a figure so far above a limit (sign 1) or below it (−1) if the truth is the limit, [C].

    It is 0.025 where the interval ends at the limit, and follows from Student's t elsewhere: Wallace's (1959)
    z = (8 d + 1) / (8 d + 3) · √(d ln(1 + t² / d)). 1 without an interval.
    """
    value, low, high, edge = estimate.straightened(limit)
    with undefined():
        half = value - low if sign > 0 else high - value
        d = np.maximum(estimate.n - 1, 1)
        distance = sign * (value - edge)
        t = np.where(half > 0, distance / half * student_t(d), np.sign(distance) * np.inf)
        squared = np.minimum(t * t, 1e300)
        z = (8 * d + 1) / (8 * d + 3) * np.sqrt(d * np.log1p(squared / d))
    chance = np.array([math.erfc(x / math.sqrt(2)) / 2 for x in np.where(t < 0, -z, z)])
    return np.where(np.isnan(half + chance), 1.0, chance)


def student_t(freedom: Floats) -> Floats:
    """Return the 97.5 % quantile of Student's t, NaN without a degree of freedom.

    A table up to 9, from there the Cornish–Fisher expansion to the third order (Abramowitz and Stegun 26.7.5), which is
    right to 2e-4.
    """
    d = np.maximum(freedom, 10)
    terms = ((Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96, (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384)
    large = Z + terms[0] / d + terms[1] / d**2 + terms[2] / d**3
    return np.where(freedom < 10, _T[np.clip(freedom, 0, 9).astype(np.int64)], large)
