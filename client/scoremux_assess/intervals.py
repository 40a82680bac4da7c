"""95 % intervals of every statistic, in closed form: no resampling, no seed, the same bits every time.

A delete-one jackknife gives the standard error: each row (or all rows of a student) is left out in turn. Then, by what
the statistic is:

share: Wilson's interval; with students, of the number of independent rows that the jackknife finds.
correlation: Student's t on Fisher's z = artanh, which is nearly normal for QWK (a concordance correlation) and r.
ratio: Student's t on the logarithm.
difference: on each side the wider of Student's t and Hall's (1992) interval, which corrects for skewness: a machine
    that is seldom wrong, but always in one direction, would otherwise seem unbiased too often.

If no row changes the figure (two raters who agree throughout), the jackknife knows nothing. Then 1 − 0.025^(1/n) is the
largest share of rows that could be one level off without any being seen, with 97.5 % confidence on each side, and the
interval is as wide as such a share would move the figure. `tests/slow/test_intervals.py` measures the coverage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_assess.ratings import Floats, Ints, Ratings, Sums, by_cell, of_rows, sums
from scoremux_assess.statistics import Statistic, dsm, human_deviation

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""

_T = np.array([np.nan, 12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157])
"""97.5 % quantiles of Student's t for 0 to 9 degrees of freedom."""

_MOST_Z = np.arctanh(1 - 1e-5)


@dataclass(frozen=True)
class Estimates:
    """A statistic with its interval in each cell, [C]. n: the rows it is about. NaN where it is not defined."""

    value: Floats
    low: Floats
    high: Floats
    n: Floats
    scale: str


@dataclass(frozen=True)
class Units:
    """What is drawn independently of each other: rows, or the rows of one student in one cell.

    cell: the cell it is in, [U]. weight: how many such units there are. sums: those of one unit.
    """

    cell: Ints
    weight: Floats
    sums: Sums

    @classmethod
    def of(
        cls, ratings: Ratings, cell: npt.NDArray[Any], whole: Sums, student: npt.NDArray[Any] | None = None
    ) -> Units:
        """Return the units of some rows.

        Args:
            ratings: The rows.
            cell: The cell that each row is in, [B].
            whole: The sums of the cells.
            student: A number for the student who wrote each row, [B]; None if rows are independent.
        """
        rows = of_rows(ratings, whole.base[cell])
        if student is None:
            return cls(cell, ratings.weight, rows)
        pairs, place = np.unique(np.stack([cell, student]), axis=1, return_inverse=True)
        place = place.reshape(-1)
        return cls(pairs[0], np.ones(pairs.shape[1]), rows.times(ratings.weight).total(place, pairs.shape[1]))


def estimates(
    chosen: Iterable[Statistic],
    ratings: Ratings,
    cell: npt.NDArray[Any],
    cells: int,
    student: npt.NDArray[Any] | None = None,
) -> dict[str, Estimates]:
    """Return statistics with their 95 % intervals, by name.

    Args:
        chosen: The statistics, of `statistics.STATISTICS`.
        ratings: The rows.
        cell: Which cell a row is in, from 0, [B].
        cells: How many cells there are.
        student: A number for the student who wrote each row, [B]; None if rows are independent.
    """
    whole = sums(ratings, cell, cells)
    units = Units.of(ratings, cell, whole, student)
    left = whole.take(units.cell).without(units.sums)
    found = {}
    for statistic in chosen:
        moved = _Moved(statistic.formula(whole), statistic.formula(left), statistic.rows(units.sums) > 0, units)
        found[statistic.name] = _interval(moved, statistic.scale, statistic.rows(whole), statistic.step(whole))
    return found


def dsm_estimates(
    ratings: Ratings,
    cell: npt.NDArray[Any],
    member: npt.NDArray[np.bool_],
    cells: int,
    student: npt.NDArray[Any] | None = None,
) -> Estimates:
    """Return the difference of standardised means of groups, one a cell, with 95 % intervals.

    Args:
        ratings: The rows of each group's whole (its task), so that a task's rows come once for each of its groups.
        cell: Which group a row is here for, from 0, [B].
        member: Whether the row is in that group, [B].
        cells: How many groups there are.
        student: A number for the student who wrote each row, [B]; None if rows are independent.
    """
    whole = sums(ratings, cell, cells)
    inside = Ratings(**{**vars(ratings), "weight": ratings.weight * member})
    group = of_rows(inside, whole.base[cell]).times(inside.weight).total(cell, cells)
    units = Units.of(ratings, cell, whole, student)
    own = Units.of(inside, cell, whole, student)
    part = own.sums.times(member.astype(np.float64)) if student is None else own.sums
    left = dsm(whole.take(units.cell).without(units.sums), group.take(units.cell).without(part))
    moved = _Moved(dsm(whole, group), left, part.n > 0, units)
    return _interval(moved, "difference", group.n, 1 / human_deviation(whole))


@dataclass(frozen=True)
class _Moved:
    """A statistic's value in each cell, and without each unit. about: whether the unit is one of those it is about."""

    value: Floats
    left: Floats
    about: npt.NDArray[np.bool_]
    units: Units


@dataclass(frozen=True)
class _Jackknife:
    """Standard error and skewness of a statistic in each cell, and the number of units that it is about."""

    error: Floats
    skewness: Floats
    units: Floats


def _interval(moved: _Moved, scale: str, n: Floats, step: Floats) -> Estimates:
    """Return the interval. step: how much the value moves for each share of rows that is one level off."""
    value = moved.value
    unseen = 1 - 0.025 ** (1 / np.maximum(n, 1))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if scale == "share":
            low, high = _wilson(value, n, _jackknife(moved, lambda x: x))
        elif scale == "correlation":
            low, high = _student(moved, lambda x: np.arctanh(np.clip(x, -1, 1)).clip(-_MOST_Z, _MOST_Z), np.tanh)
            low, high = _widen(value, low, high, unseen * step, (1 - np.abs(value)) < 1e-12)
            low, high = np.maximum(low, -1), np.minimum(high, 1)
        elif scale == "ratio":
            low, high = _student(moved, np.log, np.exp)
            low, high = _widen(value, low, high, value * np.expm1(unseen * step), np.zeros(len(value), bool))
        else:
            low, high = _skewed(moved)
            low, high = _widen(value, low, high, unseen * step, np.zeros(len(value), bool))
    undefined = np.isnan(value) | np.isnan(low) | np.isnan(high)
    return Estimates(value, np.where(undefined, np.nan, low), np.where(undefined, np.nan, high), n, scale)


def _jackknife(moved: _Moved, transform: Any) -> _Jackknife:
    units, cells = moved.units, len(moved.value)

    def total(values: Floats) -> Floats:
        return by_cell(units.cell, values, cells)

    n, left = total(units.weight), transform(moved.left)
    mean = total(units.weight * left) / n
    pull = mean[units.cell] - left
    # Rounding must not pass for a difference: the figures are at most some tens.
    pull = np.where(np.abs(pull) < 1e-13, 0.0, pull)
    square = total(units.weight * pull**2)
    skewness = total(units.weight * pull**3) / n / (square / n) ** 1.5
    return _Jackknife(np.sqrt((n - 1) / n * square), skewness, total(units.weight * moved.about))


def _student(moved: _Moved, transform: Any, back: Any) -> tuple[Floats, Floats]:
    found = _jackknife(moved, transform)
    middle, half = transform(moved.value), student_t(found.units - 1) * found.error
    narrow = found.error == 0
    low, high = back(middle - half), back(middle + half)
    return np.where(narrow, moved.value, low), np.where(narrow, moved.value, high)


def _skewed(moved: _Moved) -> tuple[Floats, Floats]:
    """Return the wider of Student's t and Hall's monotone transformation of it, on each side."""
    found = _jackknife(moved, lambda x: x)
    g, t = found.skewness / np.sqrt(found.units), student_t(found.units - 1)

    def hall(x: Floats) -> Floats:
        return np.where(np.abs(g) < 1e-6, x, 3 / g * (np.cbrt(1 + g * (x - g / 6)) - 1))

    below, above = np.fmax(t, hall(t)), np.fmin(-t, hall(-t))
    narrow = found.error == 0
    low, high = moved.value - found.error * below, moved.value - found.error * above
    return np.where(narrow, moved.value, low), np.where(narrow, moved.value, high)


def _wilson(share: Floats, n: Floats, found: _Jackknife) -> tuple[Floats, Floats]:
    """Return Wilson's interval for as many independent rows as explain the jackknife's standard error."""
    units = found.units
    independent = share * (1 - share) / (found.error**2 * (units - 1) / units)
    size = np.where(found.error > 0, np.minimum(n, independent), units)
    middle = (share + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * np.sqrt(share * (1 - share) / size + Z**2 / (4 * size**2))
    return middle - half, middle + half


def _widen(
    value: Floats, low: Floats, high: Floats, reach: Floats, perfect: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Give an interval without width, or of a perfect figure, the width of what could have gone unseen."""
    blind = perfect | ((low == value) & (high == value))
    return np.where(blind, value - reach, low), np.where(blind, value + reach, high)


def student_t(freedom: Floats) -> Floats:
    """Return the 97.5 % quantile of Student's t, NaN without a degree of freedom.

    A table up to 9, from there the Cornish–Fisher expansion to the third order (Abramowitz and Stegun 26.7.5), which is
    right to 2e-4.
    """
    d = np.maximum(freedom, 10)
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
    )
    large = Z + terms[0] / d + terms[1] / d**2 + terms[2] / d**3
    quantile: Floats = np.where(freedom < 10, _T[np.clip(freedom, 0, 9).astype(np.int64)], large)
    return quantile


def rows_to_decide(found: Estimates, limit: float) -> Floats:
    """Return how many rows would take the interval off a limit, if the figure stayed what it is; [C], inf if none.

    The interval's width falls with the square root of the number of rows.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        value, low, high, edge = (_straight(x, found.scale) for x in (found.value, found.low, found.high, limit))
        half = np.where(value >= edge, value - low, high - value)
        needed: Floats = np.ceil(found.n * (half / np.abs(value - edge)) ** 2)
    return needed


def _straight(x: Any, scale: str) -> Floats:
    values = np.asarray(x, np.float64)
    if scale == "correlation":
        return np.arctanh(values)
    return np.log(values) if scale == "ratio" else values
