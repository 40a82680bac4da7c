"""Statistics of agreement as RSMTool 12 defines them (its documentation, "Evaluation Metrics").

Each is a function of `Sums`, for all cells at once: tasks, groups, resamples of them. NaN where it is not defined: a
rater who gives one level throughout has no r, two such raters with the same level no QWK. RSMTool's percentages are
shares here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_assess.labels.ratings import Floats, Pair, PairSums, Ratings, Sums, balanced, sums

Formula = Callable[[Sums], Floats]
PairFormula = Callable[[PairSums], Floats]

_CONSTANT = 1e-12
"""Spread, of the sum of squares, below which numbers that are not whole are equal but for rounding."""


@dataclass(frozen=True)
class Statistic:
    """A figure that describes agreement.

    Attributes:
        scale: How its interval is made, see `intervals`.
        step: How much it moves, to first order, for each share of rows in which one rater is one level off.
        pairs: The raters that it compares; the first is the pair whose rows it is about.
    """

    name: str
    title: str
    formula: Formula
    scale: str
    step: Formula
    pairs: tuple[Pair, ...]


def statistics(ratings: Ratings, cell: npt.NDArray[Any], cells: int) -> dict[str, Floats]:
    """Return the value of every statistic of `STATISTICS` in each cell, by name.

    Args:
        cell: Which cell a row is in, from 0, [B].
    """
    totals = sums(balanced(ratings, cell, cells), cell, cells, pairs_of(STATISTICS))
    return {statistic.name: statistic.formula(totals) for statistic in STATISTICS}


def pairs_of(chosen: Sequence[Statistic]) -> tuple[Pair, ...]:
    """Return the pairs of raters that statistics, and their intervals, need the sums of."""
    return tuple(dict.fromkeys((Pair.MACHINE, *(pair for statistic in chosen for pair in statistic.pairs))))


def qwk(
    human: Sequence[float] | npt.NDArray[Any],
    machine: Sequence[float] | npt.NDArray[Any],
    weight: npt.NDArray[Any] | None = None,
) -> float:
    """Return the quadratic weighted kappa of two raters, NaN if both give one and the same level throughout."""
    ratings = Ratings.of(human, machine, weight=weight)
    return float(_qwk(sums(ratings, np.zeros(len(ratings), np.int64), 1, [Pair.MACHINE]).of(Pair.MACHINE))[0])


def dsm(whole: Sums, group: Sums) -> Floats:
    """Return the mean difference of z-scores, machine minus human, of groups within wholes, [C].

    (m̄_g − m̄) / σ_m − (h̄_g − h̄) / σ_h, with mean and deviation (N − 1) of the whole, of which the group is a part.
    """
    w, g = whole.of(Pair.MACHINE), group.of(Pair.MACHINE)
    machine = _ratio(_ratio(g.y, g.n) - _ratio(w.y, w.n), _deviation(w.n, w.y, w.yy))
    human = _ratio(_ratio(g.x, g.n) - _ratio(w.x, w.n), _deviation(w.n, w.x, w.xx))
    return machine - human


def human_deviation(t: Sums) -> Floats:
    """Return the standard deviation (÷ N − 1) of the human's levels."""
    p = t.of(Pair.MACHINE)
    return _deviation(p.n, p.x, p.xx)


def _ratio(above: Floats, below: npt.NDArray[Any]) -> Floats:
    """Return above / below, NaN where that is a division by zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below != 0, above / below, np.nan)


def spread(n: Floats, x: Floats, xx: Floats) -> Floats:
    """Return n² × variance (÷ N) of x from its sums: exactly 0 for a constant."""
    spread = n * xx - x * x
    return np.where(spread <= _CONSTANT * n * xx, 0.0, spread)


def _deviation(n: Floats, x: Floats, xx: Floats) -> Floats:
    """Return the standard deviation (÷ N − 1), NaN for one row."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(_ratio(spread(n, x, xx), n * (n - 1)))


def _exact(p: PairSums) -> Floats:
    return _ratio(p.same, p.n)


def _adjacent(p: PairSums) -> Floats:
    return _ratio(p.near, p.n)


def _qwk(p: PairSums) -> Floats:
    """Return 2 cov(x, y) / (var x + var y + (x̄ − ȳ)²), moments ÷ N."""
    spreads = spread(p.n, p.x, p.xx) + spread(p.n, p.y, p.yy)
    return _ratio(2.0 * (p.n * p.xy - p.x * p.y), spreads + (p.x - p.y) ** 2)


def _r(p: PairSums) -> Floats:
    spreads = np.sqrt(spread(p.n, p.x, p.xx)) * np.sqrt(spread(p.n, p.y, p.yy))
    return _ratio(p.n * p.xy - p.x * p.y, spreads)


def _rmse(p: PairSums) -> Floats:
    """Return the root of the mean squared distance of both levels."""
    return np.asarray(np.sqrt(np.maximum(_ratio(p.xx - 2 * p.xy + p.yy, p.n), 0)))


def _r2(p: PairSums) -> Floats:
    """Return the share of the human's variance that the machine's levels, as predictions, explain."""
    return 1 - _ratio(p.n * (p.xx - 2 * p.xy + p.yy), spread(p.n, p.x, p.xx))


def _kappa(t: Sums) -> Floats:
    """Return (p − e) / (1 − e): p is the agreement of rounded levels, e that of levels drawn from what each gives."""
    n, same, (human, machine) = t.of(Pair.MACHINE).n, t.tables[Pair.LEVELS][-1], np.split(t.tables[Pair.LEVELS][:-1], 2)
    chance = _ratio((human * machine).sum(axis=0), n**2)
    return _ratio(_ratio(same, n) - chance, 1 - chance)


def _disattenuated(t: Sums) -> Floats:
    """Return r of human and machine over the root of r of two humans (Spearman 1904)."""
    with np.errstate(invalid="ignore"):
        return _ratio(_r(t.of(Pair.MACHINE)), np.sqrt(_r(t.of(Pair.HUMANS))))


def _smd(p: PairSums) -> Floats:
    return _ratio(_ratio(p.y - p.x, p.n), _deviation(p.n, p.x, p.xx))


def _pooled_smd(p: PairSums) -> Floats:
    """Return the difference of means over the pooled deviation, as RSMTool does it for two humans."""
    pooled = np.sqrt((_deviation(p.n, p.x, p.xx) ** 2 + _deviation(p.n, p.y, p.yy) ** 2) / 2)
    return _ratio(_ratio(p.y - p.x, p.n), pooled)


def _squares(t: Sums) -> Floats:
    """Return the sum of squares of each row's mean human level, times how many humans gave one."""
    single, double = t.of(Pair.MACHINE), t.of(Pair.HUMANS)
    return single.xx - double.xx + (double.xx + 2 * double.xy + double.yy) / 2


def human_error(t: Sums) -> Floats:
    """Return the variance of a human's errors: half the mean squared difference of two humans."""
    p = t.of(Pair.HUMANS)
    return _ratio(p.xx - 2 * p.xy + p.yy, 2 * p.n)


def true_variance(t: Sums) -> Floats:
    """Return the variance of true scores, from rows with one and with two humans."""
    single, double = t.of(Pair.MACHINE), t.of(Pair.HUMANS)
    ratings, squares = single.n + double.n, single.n + 3 * double.n
    between = _squares(t) - _ratio((single.x + double.y) ** 2, ratings)
    return _ratio(between - (single.n - 1) * human_error(t), ratings - _ratio(squares, ratings))


def _true_error(t: Sums) -> Floats:
    """Return the mean squared error of the machine's levels as predictions of true scores."""
    single, double, second = t.of(Pair.MACHINE), t.of(Pair.DOUBLE), t.of(Pair.SECOND)
    squared = _squares(t) - 2 * (single.xy + second.xy) + single.yy + double.yy
    return _ratio(squared - single.n * human_error(t), single.n + double.n)


def _root(squared: Formula) -> Formula:
    """Return the root of a mean square; 0 where chance makes an estimate of it less."""
    return lambda t: np.asarray(np.sqrt(np.maximum(squared(t), 0)))


def _record(t: Sums) -> PairSums:
    """Return the sums of the score of record and an independent human's level.

    Of the rows of people only those with two readings have one that is independent: they stand for all rows of people.
    """
    every, kept, record = t.of(Pair.ROUTES), t.of(Pair.KEPT), t.of(Pair.RECORD)
    routed, read = every.rows - kept.rows, record.rows - kept.rows
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = (every.n - kept.n) / np.where(read > 0, record.n - kept.n, np.nan)
        factor = np.where(routed > 0, factor, 0.0)
        weighted = (k + factor * (r - k) for k, r in zip(kept[2:], record[2:], strict=True))
        return PairSums(record.rows, kept.n + factor * (record.n - kept.n), *weighted)


def _by_variance(t: Sums) -> Floats:
    # One rater one level off in a share x of rows adds x to the mean squared distance, whose scale is two variances.
    p = t.of(Pair.MACHINE)
    return _ratio(p.n**2, 2 * spread(p.n, p.x, p.xx))


def _by_deviation(t: Sums) -> Floats:
    return _ratio(np.ones_like(t.of(Pair.MACHINE).n), human_deviation(t))


def _by_row(t: Sums) -> Floats:
    return np.ones_like(t.of(Pair.MACHINE).n)


def _by_root(pair: Pair) -> Formula:
    # A share x of rows that are one level off has a root mean square of √x, for the share that may go unseen.
    return lambda t: np.asarray((1 - 0.025 ** (1 / np.maximum(t.of(pair).rows, 1))) ** -0.5)


def _pair(
    name: str, title: str, formula: PairFormula, scale: str, step: Formula, pair: Pair = Pair.MACHINE
) -> Statistic:
    return Statistic(name, title, lambda t: formula(t.of(pair)), scale, step, (pair,))


def _degradation(name: str, title: str, formula: PairFormula, step: Formula) -> Statistic:
    """Return machine–human minus human–human agreement, both on the rows with two humans."""
    title = f"{title}, machine minus second human"
    gap = lambda t: formula(t.of(Pair.DOUBLE)) - formula(t.of(Pair.HUMANS))  # noqa: E731
    return Statistic(f"degradation_{name}", title, gap, "difference", step, (Pair.HUMANS, Pair.DOUBLE))


def _of_record(name: str, title: str, formula: PairFormula, scale: str, step: Formula) -> Statistic:
    title, pairs = f"{title} of the score of record", (Pair.RECORD, Pair.KEPT, Pair.ROUTES)
    return Statistic(f"record_{name}", title, lambda t: formula(_record(t)), scale, step, pairs)


_DISATTENUATED = (Pair.HUMANS, Pair.MACHINE)
_OF_TRUE_SCORES = (Pair.HUMANS, Pair.DOUBLE, Pair.SECOND)
# fmt: off
STATISTICS = (
    _pair("exact", "exact agreement", _exact, "share", _by_row),
    _pair("adjacent", "adjacent agreement", _adjacent, "share", _by_row),
    _pair("qwk", "QWK", _qwk, "correlation", _by_variance),
    _pair("qwk_expected", "QWK of expected levels", _qwk, "correlation", _by_variance, Pair.EXPECTED),
    _pair("r", "Pearson r", _r, "correlation", _by_variance),
    _pair("r_expected", "Pearson r of expected levels", _r, "correlation", _by_variance, Pair.EXPECTED),
    _pair("smd", "SMD", _smd, "difference", _by_deviation),
    _pair(
        "sd_ratio", "ratio of standard deviations",
        lambda p: _ratio(_deviation(p.n, p.y, p.yy), _deviation(p.n, p.x, p.xx)), "ratio", _by_deviation,
    ),
    _pair("human_mean", "mean level of people", lambda p: _ratio(p.x, p.n), "difference", _by_row),
    _pair("machine_mean", "mean level of the machine", lambda p: _ratio(p.y, p.n), "difference", _by_row),
    _pair(
        "human_sd", "standard deviation of people", lambda p: _deviation(p.n, p.x, p.xx),
        "size", _by_root(Pair.MACHINE),
    ),
    _pair(
        "machine_sd", "standard deviation of the machine", lambda p: _deviation(p.n, p.y, p.yy),
        "size", _by_root(Pair.MACHINE),
    ),
    _pair("below", "machine below people", lambda p: _ratio(p.below, p.n), "share", _by_row),
    _pair("above", "machine above people", lambda p: 1 - _ratio(p.same + p.below, p.n), "share", _by_row),
    _pair("far_below", "two levels or more below", lambda p: _ratio(p.far_below, p.n), "share", _by_row),
    _pair("far_above", "two levels or more above", lambda p: 1 - _ratio(p.near + p.far_below, p.n), "share", _by_row),
    _pair("rmse", "root mean squared error", _rmse, "size", _by_root(Pair.MACHINE)),
    _pair("r2", "R²", _r2, "difference", _by_variance),
    Statistic("kappa", "kappa", _kappa, "difference", _by_variance, (Pair.MACHINE, Pair.LEVELS)),
    Statistic("r_disattenuated", "disattenuated r", _disattenuated, "difference", _by_variance, _DISATTENUATED),
    _pair("human_exact", "exact agreement of two humans", _exact, "share", _by_row, Pair.HUMANS),
    _pair("human_adjacent", "adjacent agreement of two humans", _adjacent, "share", _by_row, Pair.HUMANS),
    _pair("human_qwk", "QWK of two humans", _qwk, "correlation", _by_variance, Pair.HUMANS),
    _pair("human_r", "Pearson r of two humans", _r, "correlation", _by_variance, Pair.HUMANS),
    _pair("human_smd", "SMD of two humans", _pooled_smd, "difference", _by_deviation, Pair.HUMANS),
    _pair("double_exact", "exact agreement where two humans read", _exact, "share", _by_row, Pair.DOUBLE),
    _pair("double_qwk", "QWK where two humans read", _qwk, "correlation", _by_variance, Pair.DOUBLE),
    _pair("double_r", "Pearson r where two humans read", _r, "correlation", _by_variance, Pair.DOUBLE),
    _degradation("exact", "exact agreement", _exact, _by_row),
    _degradation("qwk", "QWK", _qwk, _by_variance),
    _degradation("r", "Pearson r", _r, _by_variance),
    Statistic(
        "prmse", "PRMSE of true scores", lambda t: 1 - _ratio(_true_error(t), true_variance(t)), "difference",
        _by_variance, _OF_TRUE_SCORES,
    ),
    Statistic("true_mse", "mean squared error of true scores", _true_error, "difference", _by_row, _OF_TRUE_SCORES),
    Statistic(
        "sem", "standard error of measurement of a human", _root(human_error),
        "size", _by_root(Pair.HUMANS), (Pair.HUMANS,),
    ),
    Statistic(
        "machine_sem", "standard error of measurement of the machine", _root(_true_error),
        "size", _by_root(Pair.HUMANS), _OF_TRUE_SCORES,
    ),
    _pair("people", "share sent to people", lambda p: _ratio(p.n - p.same, p.n), "share", _by_row, Pair.ROUTES),
    _pair("kept_exact", "exact agreement of the machine's share", _exact, "share", _by_row, Pair.KEPT),
    _pair("kept_adjacent", "adjacent agreement of the machine's share", _adjacent, "share", _by_row, Pair.KEPT),
    _pair("kept_qwk", "QWK of the machine's share", _qwk, "correlation", _by_variance, Pair.KEPT),
    _pair("kept_smd", "SMD of the machine's share", _smd, "difference", _by_deviation, Pair.KEPT),
    _of_record("exact", "exact agreement", _exact, "share", _by_row),
    _of_record("adjacent", "adjacent agreement", _adjacent, "share", _by_row),
    _of_record("qwk", "QWK", _qwk, "correlation", _by_variance),
    _of_record("smd", "SMD", _smd, "difference", _by_deviation),
    _pair("length_r", "Pearson r of machine and length", _r, "correlation", _by_variance, Pair.LENGTH),
    _pair("human_length_r", "Pearson r of human and length", _r, "correlation", _by_variance, Pair.LENGTH_OF_HUMAN),
    Statistic(
        "length_gap", "correlation with length, machine minus human",
        lambda t: _r(t.of(Pair.LENGTH)) - _r(t.of(Pair.LENGTH_OF_HUMAN)),
        "difference", _by_variance, (Pair.LENGTH, Pair.LENGTH_OF_HUMAN),
    ),
)
# fmt: on
"""Every statistic of a cell by itself; `dsm` compares a group with its whole."""

OF_EXPECTED = ("qwk_expected", "r_expected")
OF_ROWS = (*OF_EXPECTED, "length_r", "human_length_r", "length_gap")
"""Statistics that need each row's expected level, or that or its length, which kinds of rows have lost."""

SEVERITY = _pair("severity", "severity", lambda p: _ratio(p.y - p.x, p.n), "difference", _by_row)
"""The second rater's mean level minus the first one's; no part of `STATISTICS`."""

BY_NAME = {statistic.name: statistic for statistic in STATISTICS}


@dataclass(frozen=True)
class Agreement:
    """Agreement over `n` rows; a figure that is not defined is NaN.

    Attributes:
        human_exact, human_adjacent, human_qwk, human_smd: Of two humans, on the rows that both read.
        degradation_qwk: QWK of two humans minus that of human and machine, on these rows.
    """

    n: int
    exact: float
    adjacent: float
    qwk: float
    r: float
    smd: float
    sd_ratio: float
    kappa: float
    human_exact: float
    human_adjacent: float
    human_qwk: float
    human_smd: float
    degradation_qwk: float


def agreement(
    human: Sequence[float] | npt.NDArray[Any],
    machine: Sequence[float] | npt.NDArray[Any],
    second: Sequence[float | None] | npt.NDArray[Any] | None = None,
) -> Agreement:
    """Return the figures that `scoremux evaluate` prints of one task.

    Args:
        human: Levels of a human.
        machine: Levels of the machine for the same rows.
        second: Levels of a second human, None or NaN where there is none.

    Raises:
        ValueError: The columns differ in length.
    """
    if len({len(column) for column in (human, machine, second) if column is not None}) > 1:
        raise ValueError("human, machine and second differ in length")
    figures = statistics(Ratings.of(human, machine, second), np.zeros(len(human), np.int64), 1)
    names = [field.name for field in fields(Agreement) if field.name != "n"]
    return Agreement(len(human), **{name: float(figures[name][0]) for name in names})
