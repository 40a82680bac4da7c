"""Statistics of agreement as RSMTool 12 defines them (its documentation, "Evaluation Metrics").

Each is a function of `Sums`, for all cells at once: tasks, groups, resamples of them. NaN where it is not defined: a
rater who gives one level throughout has no r, two such raters with the same level no QWK. RSMTool's percentages are
shares here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from scoremux_assess.labels.ratings import (
    Floats,
    Levels,
    Pair,
    PairSums,
    Ratings,
    Sums,
    Values,
    balanced,
    sums,
    undefined,
)

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


def statistics(
    ratings: Ratings,
    cell: Values,
    cells: int,
) -> dict[str, Floats]:
    """Return the value of every statistic of `STATISTICS` in each cell, by name.

    Args:
        cell: Which cell a row is in, from 0, [B].
    """
    totals = sums(
        balanced(ratings, cell, cells),
        cell,
        cells,
        pairs_of(STATISTICS),
    )
    return {statistic.name: statistic.formula(totals) for statistic in STATISTICS}


def pairs_of(chosen: Sequence[Statistic]) -> tuple[Pair, ...]:
    """Return the pairs of raters that statistics, and their intervals, need the sums of."""
    return tuple(dict.fromkeys((Pair.MACHINE, *(pair for statistic in chosen for pair in statistic.pairs))))


def qwk(
    human: Levels,
    machine: Levels,
    weight: Values | None = None,
) -> float:
    """Return the quadratic weighted kappa of two raters, NaN if both give one and the same level throughout."""
    ratings = Ratings.of(human, machine, weight=weight)
    return float(
        _qwk(
            sums(
                ratings,
                np.zeros(len(ratings), np.int64),
                1,
                [Pair.MACHINE],
            ).of(Pair.MACHINE)
        )[0]
    )


def dsm(whole: Sums, group: Sums) -> Floats:
    """Return the mean difference of z-scores, machine minus human, of groups within wholes, [C].

    (m̄_g − m̄) / σ_m − (h̄_g − h̄) / σ_h, with mean and deviation (N − 1) of the whole, of which the group is a part.
    """
    w = whole.of(Pair.MACHINE)
    g = group.of(Pair.MACHINE)
    machine = _ratio(_ratio(g.y, g.n) - _ratio(w.y, w.n), _y_deviation(w))
    human = _ratio(_ratio(g.x, g.n) - _ratio(w.x, w.n), _x_deviation(w))
    return machine - human


def human_deviation(t: Sums) -> Floats:
    """Return the standard deviation (÷ N − 1) of the human's levels."""
    return _x_deviation(t.of(Pair.MACHINE))


def _ratio(above: Floats, below: Values) -> Floats:
    """Return above / below, NaN where that is a division by zero."""
    with undefined():
        return np.where(below != 0, above / below, np.nan)


def _spread(n: Floats, x: Floats, xx: Floats) -> Floats:
    spread = n * xx - x * x
    return np.where(spread <= _CONSTANT * n * xx, 0.0, spread)


def x_spread(p: PairSums) -> Floats:
    """Return n² × variance (÷ N) of the first rater's levels: exactly 0 for a constant."""
    return _spread(p.n, p.x, p.xx)


def y_spread(p: PairSums) -> Floats:
    """Return n² × variance (÷ N) of the second rater's levels."""
    return _spread(p.n, p.y, p.yy)


def _deviation(spread: Floats, n: Floats) -> Floats:
    """Return the standard deviation (÷ N − 1), NaN for one row."""
    with undefined():
        return np.sqrt(_ratio(spread, n * (n - 1)))


def _x_deviation(p: PairSums) -> Floats:
    return _deviation(x_spread(p), p.n)


def _y_deviation(p: PairSums) -> Floats:
    return _deviation(y_spread(p), p.n)


def _squared_distance(p: PairSums) -> Floats:
    """Return the sum of the squared distances of both levels."""
    return p.xx - 2 * p.xy + p.yy


def _exact(p: PairSums) -> Floats:
    return _ratio(p.same, p.n)


def _adjacent(p: PairSums) -> Floats:
    return _ratio(p.near, p.n)


def _qwk(p: PairSums) -> Floats:
    """Return 2 cov(x, y) / (var x + var y + (x̄ − ȳ)²), moments ÷ N."""
    covariance = p.n * p.xy - p.x * p.y
    return _ratio(2.0 * covariance, x_spread(p) + y_spread(p) + (p.x - p.y) ** 2)


def _r(p: PairSums) -> Floats:
    return _ratio(
        p.n * p.xy - p.x * p.y,
        np.sqrt(x_spread(p)) * np.sqrt(y_spread(p)),
    )


def _rmse(p: PairSums) -> Floats:
    """Return the root of the mean squared distance of both levels."""
    return np.asarray(np.sqrt(np.maximum(_ratio(_squared_distance(p), p.n), 0)))


def _r2(p: PairSums) -> Floats:
    """Return the share of the human's variance that the machine's levels, as predictions, explain."""
    return 1 - _ratio(p.n * _squared_distance(p), x_spread(p))


def _kappa(t: Sums) -> Floats:
    """Return (p − e) / (1 − e): p is the agreement of rounded levels, e that of levels drawn from each one's."""
    n = t.of(Pair.MACHINE).n
    *of_levels, same = t.tables[Pair.LEVELS]
    human, machine = np.split(np.array(of_levels), 2)
    chance = _ratio((human * machine).sum(axis=0), n**2)
    return _ratio(_ratio(same, n) - chance, 1 - chance)


def _disattenuated(t: Sums) -> Floats:
    """Return r of human and machine over the root of r of two humans (Spearman 1904)."""
    with undefined():
        return _ratio(_r(t.of(Pair.MACHINE)), np.sqrt(_r(t.of(Pair.HUMANS))))


def _smd(p: PairSums) -> Floats:
    return _ratio(_ratio(p.y - p.x, p.n), _x_deviation(p))


def _pooled_smd(p: PairSums) -> Floats:
    """Return the difference of means over the pooled deviation, as RSMTool does it for two humans."""
    pooled = np.sqrt((_x_deviation(p) ** 2 + _y_deviation(p) ** 2) / 2)
    return _ratio(_ratio(p.y - p.x, p.n), pooled)


def _squares(t: Sums) -> Floats:
    """Return the sum of squares of each row's mean human level, times how many humans gave one."""
    single = t.of(Pair.MACHINE)
    double = t.of(Pair.HUMANS)
    return single.xx - double.xx + (double.xx + 2 * double.xy + double.yy) / 2


def human_error(t: Sums) -> Floats:
    """Return the variance of a human's errors: half the mean squared difference of two humans."""
    p = t.of(Pair.HUMANS)
    return _ratio(_squared_distance(p), 2 * p.n)


def true_variance(t: Sums) -> Floats:
    """Return the variance of true scores, from rows with one and with two humans."""
    single = t.of(Pair.MACHINE)
    double = t.of(Pair.HUMANS)
    ratings = single.n + double.n
    squares = single.n + 3 * double.n
    between = _squares(t) - _ratio((single.x + double.y) ** 2, ratings)
    return _ratio(between - (single.n - 1) * human_error(t), ratings - _ratio(squares, ratings))


def _true_error(t: Sums) -> Floats:
    """Return the mean squared error of the machine's levels as predictions of true scores."""
    single = t.of(Pair.MACHINE)
    double = t.of(Pair.DOUBLE)
    second = t.of(Pair.SECOND)
    squared = _squares(t) - 2 * (single.xy + second.xy) + single.yy + double.yy
    return _ratio(squared - single.n * human_error(t), single.n + double.n)


def _root(squared: Formula) -> Formula:
    """Return the root of a mean square; 0 where chance makes an estimate of it less."""
    return lambda t: np.sqrt(np.maximum(squared(t), 0))


def _record(t: Sums) -> PairSums:
    """Return the sums of the score of record and an independent human's level.

    Of the rows of people only those with two readings have one that is independent: they stand for all rows of people.
    """
    every = t.of(Pair.ROUTES)
    kept = t.of(Pair.KEPT)
    record = t.of(Pair.RECORD)
    routed = every.rows - kept.rows
    read = record.rows - kept.rows
    with undefined():
        factor = (every.n - kept.n) / np.where(read > 0, record.n - kept.n, np.nan)
        factor = np.where(routed > 0, factor, 0.0)
        weighted = (k + factor * (r - k) for k, r in zip(kept[2:], record[2:], strict=True))
        return PairSums(record.rows, kept.n + factor * (record.n - kept.n), *weighted)


def _by_variance(t: Sums) -> Floats:
    # One rater one level off in a share x of rows adds x to the mean squared distance, whose scale is two variances.
    p = t.of(Pair.MACHINE)
    return _ratio(p.n**2, 2 * x_spread(p))


def _by_deviation(t: Sums) -> Floats:
    return _ratio(np.ones_like(t.of(Pair.MACHINE).n), human_deviation(t))


def _by_row(t: Sums) -> Floats:
    return np.ones_like(t.of(Pair.MACHINE).n)


def _by_root(pair: Pair) -> Formula:
    # A share x of rows that are one level off has a root mean square of √x, for the share that may go unseen.
    return lambda t: (1 - 0.025 ** (1 / np.maximum(t.of(pair).rows, 1))) ** -0.5


class _Measure(NamedTuple):
    """A figure of any two raters; see `Statistic`."""

    name: str
    title: str
    formula: PairFormula
    scale: str
    step: Formula

    def on(
        self,
        pair: Pair,
        prefix: str = "",
        words: str = "",
    ) -> Statistic:
        """Return the figure of two raters. prefix, words: of its name and title."""
        return self._statistic(
            prefix,
            words,
            lambda t: self.formula(t.of(pair)),
            (pair,),
        )

    def degradation(self) -> Statistic:
        """Return machine–human minus human–human agreement, both on the rows with two humans."""
        statistic = self._statistic(
            "degradation_",
            ", machine minus second human",
            lambda t: self.formula(t.of(Pair.DOUBLE)) - self.formula(t.of(Pair.HUMANS)),
            (Pair.HUMANS, Pair.DOUBLE),
        )
        return replace(statistic, scale="difference")

    def of_record(self) -> Statistic:
        pairs = (Pair.RECORD, Pair.KEPT, Pair.ROUTES)
        return self._statistic(
            "record_",
            " of the score of record",
            lambda t: self.formula(_record(t)),
            pairs,
        )

    def _statistic(
        self,
        prefix: str,
        words: str,
        formula: Formula,
        pairs: tuple[Pair, ...],
    ) -> Statistic:
        return Statistic(
            prefix + self.name,
            self.title + words,
            formula,
            self.scale,
            self.step,
            pairs,
        )


def _pair(
    name: str,
    title: str,
    formula: PairFormula,
    scale: str,
    step: Formula,
) -> Statistic:
    return _Measure(name, title, formula, scale, step).on(Pair.MACHINE)


def _share(name: str, title: str, formula: PairFormula) -> Statistic:
    return _pair(name, title, formula, "share", _by_row)


_EXACT = _Measure("exact", "exact agreement", _exact, "share", _by_row)
_ADJACENT = _Measure("adjacent", "adjacent agreement", _adjacent, "share", _by_row)
_QWK = _Measure("qwk", "QWK", _qwk, "correlation", _by_variance)
_R = _Measure("r", "Pearson r", _r, "correlation", _by_variance)
_SMD = _Measure("smd", "SMD", _smd, "difference", _by_deviation)
_DISATTENUATED = (Pair.HUMANS, Pair.MACHINE)
_OF_TRUE_SCORES = (Pair.HUMANS, Pair.DOUBLE, Pair.SECOND)
# fmt: off
STATISTICS = (
    _EXACT.on(Pair.MACHINE),
    _ADJACENT.on(Pair.MACHINE),
    _QWK.on(Pair.MACHINE),
    _QWK._replace(name="qwk_expected").on(Pair.EXPECTED, words=" of expected levels"),
    _R.on(Pair.MACHINE),
    _R._replace(name="r_expected").on(Pair.EXPECTED, words=" of expected levels"),
    _SMD.on(Pair.MACHINE),
    _pair(
        "sd_ratio", "ratio of standard deviations", lambda p: _ratio(_y_deviation(p), _x_deviation(p)),
        "ratio", _by_deviation,
    ),
    _pair("human_mean", "mean level of people", lambda p: _ratio(p.x, p.n), "difference", _by_row,),
    _pair("machine_mean", "mean level of the machine", lambda p: _ratio(p.y, p.n), "difference", _by_row,),
    _pair("human_sd", "standard deviation of people", _x_deviation, "size", _by_root(Pair.MACHINE)),
    _pair("machine_sd", "standard deviation of the machine", _y_deviation, "size", _by_root(Pair.MACHINE)),
    _share("below", "machine below people", lambda p: _ratio(p.below, p.n)),
    _share("above", "machine above people", lambda p: 1 - _ratio(p.same + p.below, p.n)),
    _share("far_below", "two levels or more below", lambda p: _ratio(p.far_below, p.n)),
    _share("far_above", "two levels or more above", lambda p: 1 - _ratio(p.near + p.far_below, p.n)),
    _pair("rmse", "root mean squared error", _rmse, "size", _by_root(Pair.MACHINE)),
    _pair("r2", "R²", _r2, "difference", _by_variance),
    Statistic("kappa", "kappa", _kappa, "difference", _by_variance, (Pair.MACHINE, Pair.LEVELS),),
    Statistic("r_disattenuated", "disattenuated r", _disattenuated, "difference", _by_variance, _DISATTENUATED),
    *(measure.on(Pair.HUMANS, "human_", " of two humans",) for measure in (_EXACT, _ADJACENT, _QWK, _R)),
    _SMD._replace(formula=_pooled_smd).on(Pair.HUMANS, "human_", " of two humans"),
    *(measure.on(Pair.DOUBLE, "double_", " where two humans read",) for measure in (_EXACT, _QWK, _R)),
    *(measure.degradation() for measure in (_EXACT, _QWK, _R)),
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
    _Measure(
        "people", "share sent to people", lambda p: _ratio(p.n - p.same, p.n), "share", _by_row
    ).on(Pair.ROUTES),
    *(measure.on(Pair.KEPT, "kept_", " of the machine's share",) for measure in (_EXACT, _ADJACENT, _QWK, _SMD)),
    *(measure.of_record() for measure in (_EXACT, _ADJACENT, _QWK, _SMD)),
    _R._replace(name="length_r").on(Pair.LENGTH, words=" of machine and length"),
    _R._replace(name="human_length_r").on(Pair.LENGTH_OF_HUMAN, words=" of human and length"),
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

SEVERITY = _pair(
    "severity",
    "severity",
    lambda p: _ratio(p.y - p.x, p.n),
    "difference",
    _by_row,
)
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
    human: Levels,
    machine: Levels,
    second: Levels | None = None,
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
    figures = statistics(
        Ratings.of(human, machine, second),
        np.zeros(len(human), np.int64),
        1,
    )
    names = [field.name for field in fields(Agreement) if field.name != "n"]
    return Agreement(len(human), **{name: float(figures[name][0]) for name in names})
