"""Statistics of agreement as RSMTool 12 defines them (its documentation, "Evaluation Metrics").

Each is a function of `Sums`, for all cells at once: tasks, groups, resamples of them. NaN where it is not defined: a
rater who gives one level throughout has no r, two such raters with the same level no QWK. RSMTool's percentages are
shares here, and its H, M and H2 are h, m and s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_assess.agreement.ratings import Floats, Ratings, Sums, sums

Formula = Callable[[Sums], Floats]


@dataclass(frozen=True)
class Statistic:
    """A figure that describes agreement.

    name: its key in files. title: its name in tables. formula: its value by cell. scale: how its interval is made, see
    `intervals`. rows: how many rows it is about. step: how much it moves, to first order, for each share of rows in
    which one rater is one level off.
    """

    name: str
    title: str
    formula: Formula
    scale: str
    rows: Formula
    step: Formula


def statistics(ratings: Ratings, cell: npt.NDArray[Any], cells: int) -> dict[str, Floats]:
    """Return the value of every statistic of `STATISTICS` in each cell, by name.

    Args:
        ratings: The rows.
        cell: Which cell a row is in, from 0, [B].
        cells: How many cells there are.
    """
    totals = sums(ratings, cell, cells)
    return {statistic.name: statistic.formula(totals) for statistic in STATISTICS}


def qwk(human: Sequence[float] | npt.NDArray[Any], machine: Sequence[float] | npt.NDArray[Any]) -> float:
    """Return the quadratic weighted kappa of two raters, NaN if both give one and the same level throughout."""
    ratings = Ratings.of(human, machine)
    return float(_qwk(sums(ratings, np.zeros(len(ratings), np.int64), 1))[0])


def dsm(whole: Sums, group: Sums) -> Floats:
    """Return the mean difference of z-scores, machine minus human, of groups within wholes, [C].

    (m̄_g − m̄) / σ_m − (h̄_g − h̄) / σ_h, with mean and deviation (N − 1) of the whole, of which the group is a part.
    """
    machine = _ratio(_mean(group.m, group.n) - _mean(whole.m, whole.n), _deviation(whole.n, whole.m, whole.mm))
    human = _ratio(_mean(group.h, group.n) - _mean(whole.h, whole.n), _deviation(whole.n, whole.h, whole.hh))
    return machine - human


def _ratio(above: Floats, below: Floats) -> Floats:
    """Return above / below, NaN where that is a division by zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below != 0, above / below, np.nan)


def _mean(total: Floats, n: Floats) -> Floats:
    return _ratio(total, n)


def _spread(n: Floats, x: Floats, y: Floats, xy: Floats) -> Floats:
    """Return n² × covariance (÷ N) of x and y from their sums: exactly 0 for a constant."""
    return n * xy - x * y


def _deviation(n: Floats, x: Floats, xx: Floats) -> Floats:
    """Return the standard deviation (÷ N − 1), NaN for one row."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(_ratio(_spread(n, x, x, xx), n * (n - 1)))


def _kappa(n: Floats, x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    """Return 2 cov(x, y) / (var x + var y + (x̄ − ȳ)²), moments ÷ N."""
    return _ratio(2 * _spread(n, x, y, xy), _spread(n, x, x, xx) + _spread(n, y, y, yy) + (x - y) ** 2)


def _pearson(n: Floats, x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return _ratio(_spread(n, x, y, xy), np.sqrt(_spread(n, x, x, xx)) * np.sqrt(_spread(n, y, y, yy)))


def _qwk(t: Sums) -> Floats:
    return _kappa(t.n, t.h, t.m, t.hh, t.mm, t.hm)


def _qwk_expected(t: Sums) -> Floats:
    apart = t.h - t.n * t.base - t.e
    return _ratio(
        2 * _spread(t.n, t.h, t.e, t.he), _spread(t.n, t.h, t.h, t.hh) + _spread(t.n, t.e, t.e, t.ee) + apart**2
    )


def _r(t: Sums) -> Floats:
    return _pearson(t.n, t.h, t.m, t.hh, t.mm, t.hm)


def _r_expected(t: Sums) -> Floats:
    return _pearson(t.n, t.h, t.e, t.hh, t.ee, t.he)


def _smd(t: Sums) -> Floats:
    return _ratio(_mean(t.m - t.h, t.n), human_deviation(t))


def human_deviation(t: Sums) -> Floats:
    """Return the standard deviation (÷ N − 1) of the human's levels."""
    return _deviation(t.n, t.h, t.hh)


def machine_deviation(t: Sums) -> Floats:
    """Return the standard deviation (÷ N − 1) of the machine's levels."""
    return _deviation(t.n, t.m, t.mm)


def _human_qwk(t: Sums) -> Floats:
    return _kappa(t.d, t.dh, t.ds, t.dhh, t.dss, t.dhs)


def _human_r(t: Sums) -> Floats:
    return _pearson(t.d, t.dh, t.ds, t.dhh, t.dss, t.dhs)


def _human_smd(t: Sums) -> Floats:
    """Pooled, as RSMTool does it for two humans."""
    pooled = np.sqrt((_deviation(t.d, t.dh, t.dhh) ** 2 + _deviation(t.d, t.ds, t.dss) ** 2) / 2)
    return _ratio(_mean(t.ds - t.dh, t.d), pooled)


def human_error(t: Sums) -> Floats:
    """Return the variance of a human's errors: half the mean squared difference of two humans."""
    return _ratio(t.dhh - 2 * t.dhs + t.dss, 2 * t.d)


def true_variance(t: Sums) -> Floats:
    """Return the variance of true scores, from rows with one and with two humans."""
    ratings, squares = t.n + t.d, t.n + 3 * t.d
    between = t.hh - t.dhh + (t.dhh + 2 * t.dhs + t.dss) / 2 - _ratio((t.h + t.ds) ** 2, ratings)
    return _ratio(between - (t.n - 1) * human_error(t), ratings - _ratio(squares, ratings))


def _true_error(t: Sums) -> Floats:
    """Mean squared error of the machine's levels as predictions of true scores."""
    squared = t.hh - t.dhh + (t.dhh + 2 * t.dhs + t.dss) / 2 - 2 * (t.hm + t.dms) + t.mm + t.dmm
    return _ratio(squared - t.n * human_error(t), t.n + t.d)


def _prmse(t: Sums) -> Floats:
    return 1 - _ratio(_true_error(t), true_variance(t))


def _all(t: Sums) -> Floats:
    return t.n


def _double(t: Sums) -> Floats:
    return t.d


def _by_variance(t: Sums) -> Floats:
    # One rater one level off in a share x of rows adds x to the mean squared distance, whose scale is two variances.
    return _ratio(t.n**2, 2 * _spread(t.n, t.h, t.h, t.hh))


def _by_deviation(t: Sums) -> Floats:
    return _ratio(np.ones_like(t.n), human_deviation(t))


def _by_row(t: Sums) -> Floats:
    return np.ones_like(t.n)


def _difference(one: Formula, other: Formula) -> Formula:
    return lambda t: one(t) - other(t)


def _exact(t: Sums) -> Floats:
    return _mean(t.same, t.n)


def _human_exact(t: Sums) -> Floats:
    return _mean(t.dsame, t.d)


STATISTICS = (
    Statistic("exact", "exact agreement", _exact, "share", _all, _by_row),
    Statistic("adjacent", "adjacent agreement", lambda t: _mean(t.near, t.n), "share", _all, _by_row),
    Statistic("qwk", "QWK", _qwk, "correlation", _all, _by_variance),
    Statistic("qwk_expected", "QWK of expected levels", _qwk_expected, "correlation", _all, _by_variance),
    Statistic("r", "Pearson r", _r, "correlation", _all, _by_variance),
    Statistic("r_expected", "Pearson r of expected levels", _r_expected, "correlation", _all, _by_variance),
    Statistic("smd", "SMD", _smd, "difference", _all, _by_deviation),
    Statistic(
        "sd_ratio",
        "ratio of standard deviations",
        lambda t: _ratio(machine_deviation(t), human_deviation(t)),
        "ratio",
        _all,
        _by_deviation,
    ),
    Statistic("human_exact", "exact agreement of two humans", _human_exact, "share", _double, _by_row),
    Statistic(
        "human_adjacent",
        "adjacent agreement of two humans",
        lambda t: _mean(t.dnear, t.d),
        "share",
        _double,
        _by_row,
    ),
    Statistic("human_qwk", "QWK of two humans", _human_qwk, "correlation", _double, _by_variance),
    Statistic("human_r", "Pearson r of two humans", _human_r, "correlation", _double, _by_variance),
    Statistic("human_smd", "SMD of two humans", _human_smd, "difference", _double, _by_deviation),
    Statistic(
        "degradation_exact",
        "exact agreement, machine minus second human",
        _difference(_exact, _human_exact),
        "difference",
        _double,
        _by_row,
    ),
    Statistic(
        "degradation_qwk",
        "QWK, machine minus second human",
        _difference(_qwk, _human_qwk),
        "difference",
        _double,
        _by_variance,
    ),
    Statistic(
        "degradation_r",
        "Pearson r, machine minus second human",
        _difference(_r, _human_r),
        "difference",
        _double,
        _by_variance,
    ),
    Statistic("prmse", "PRMSE of true scores", _prmse, "difference", _double, _by_variance),
    Statistic("true_mse", "mean squared error of true scores", _true_error, "difference", _double, _by_row),
)
"""Every statistic of a cell by itself; `dsm` compares a group with its whole."""

BY_NAME = {statistic.name: statistic for statistic in STATISTICS}
