"""Statistics of agreement as RSMTool 12 defines them (its documentation, "Evaluation Metrics").

Each is a function of `Sums`, for all cells at once: tasks, groups, resamples of them. NaN where it is not defined: a
rater who gives one level throughout has no r, two such raters with the same level no QWK. RSMTool's percentages are
shares here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from scoremux_evidence.figures.sums import Pair, PairSums, Sums, balanced, sums
from scoremux_evidence.rows.table import Floats, Levels, Rows, Values, rated, undefined

Formula = Callable[..., Floats]
"""A figure of one or of several `PairSums`."""

_CONSTANT = 1e-12
"""Spread, of the sum of squares, below which numbers that are not whole are equal but for rounding."""


def _by_row(machine: PairSums, _: PairSums) -> Floats:
    return np.ones_like(machine.n)


@dataclass(frozen=True)
class Statistic:
    """A figure that describes agreement.

    Attributes:
        formula: The figure, from the sums of `pairs` and `needs`.
        scale: How its interval is made, see `intervals`.
        pairs: The raters that it compares; the first is the pair whose rows it is about.
        step: How much it moves, to first order, for each share of rows in which one rater is one level off; from the
            sums of `Pair.MACHINE` and of the first of `pairs`.
        needs: Further sums that the formula needs.
    """

    name: str
    title: str
    formula: Formula
    scale: str
    pairs: tuple[Pair, ...] = (Pair.MACHINE,)
    step: Formula = _by_row
    needs: tuple[Pair, ...] = ()

    def value(self, totals: Sums) -> Floats:
        """Return the figure in each cell."""
        return self.formula(*map(totals.of, (*self.pairs, *self.needs)))

    def on(self, *pairs: Pair, name: str, words: str, **others: Any) -> "Statistic":
        """Return the same figure of other pairs, whose name has `{}` in place of this one's; words: end its title."""
        return replace(self, name=name.format(self.name), title=self.title + words, pairs=pairs, **others)


def statistics(ratings: Rows, cell: Values, cells: int) -> dict[str, Floats]:
    """Return the value of every statistic of `STATISTICS` in each cell, by name.

    Args:
        cell: Which cell a row is in, from 0, [B].
    """
    totals = sums(balanced(ratings, cell, cells), cell, cells, pairs_of(STATISTICS))
    return {statistic.name: statistic.value(totals) for statistic in STATISTICS}


def pairs_of(chosen: Sequence[Statistic]) -> list[Pair]:
    """Return the pairs of raters that statistics, and their intervals, need the sums of."""
    needed = {Pair.MACHINE, *(pair for statistic in chosen for pair in (*statistic.pairs, *statistic.needs))}
    return [pair for pair in Pair if pair in needed]


def qwk(human: Levels, machine: Levels) -> float:
    """Return the quadratic weighted kappa of two raters, NaN if both give one and the same level throughout."""
    ratings = rated(human, machine)
    totals = sums(ratings, np.zeros(len(ratings), np.int64), 1, [Pair.MACHINE])
    return float(_qwk(totals.of(Pair.MACHINE))[0])


def dsm(whole: Sums, group: Sums) -> Floats:
    """Return the mean difference of z-scores, machine minus human, of groups within wholes, [C].

    (m̄_g − m̄) / σ_m − (h̄_g − h̄) / σ_h, with mean and deviation (N − 1) of the whole, of which the group is a part.
    """
    w = whole.of(Pair.MACHINE)
    g = group.of(Pair.MACHINE)
    machine = _ratio(_ratio(g.y, g.n) - _ratio(w.y, w.n), _y_deviation(w))
    human = _ratio(_ratio(g.x, g.n) - _ratio(w.x, w.n), x_deviation(w))
    return machine - human


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


def x_deviation(p: PairSums) -> Floats:
    """Return the standard deviation (÷ N − 1) of the first rater's levels."""
    return _deviation(x_spread(p), p.n)


def _y_deviation(p: PairSums) -> Floats:
    return _deviation(y_spread(p), p.n)


def _exact(p: PairSums) -> Floats:
    return _ratio(p.same, p.n)


def _adjacent(p: PairSums) -> Floats:
    return _ratio(p.near, p.n)


def _qwk(p: PairSums) -> Floats:
    """Return 2 cov(x, y) / (var x + var y + (x̄ − ȳ)²), moments ÷ N."""
    covariance = p.n * p.xy - p.x * p.y
    return _ratio(2.0 * covariance, x_spread(p) + y_spread(p) + (p.x - p.y) ** 2)


def _r(p: PairSums) -> Floats:
    return _ratio(p.n * p.xy - p.x * p.y, np.sqrt(x_spread(p)) * np.sqrt(y_spread(p)))


def _smd(p: PairSums) -> Floats:
    return _ratio(_ratio(p.y - p.x, p.n), x_deviation(p))


def _pooled_smd(p: PairSums) -> Floats:
    """Return the difference of means over the pooled deviation, as RSMTool does it for two humans."""
    pooled = np.sqrt((x_deviation(p) ** 2 + _y_deviation(p) ** 2) / 2)
    return _ratio(_ratio(p.y - p.x, p.n), pooled)


def _squares(single: PairSums, double: PairSums) -> Floats:
    """Return the sum of squares of each row's mean human level, times how many humans gave one."""
    return single.xx - double.xx + (double.xx + 2 * double.xy + double.yy) / 2


def _human_error(p: PairSums) -> Floats:
    """Return the variance of a human's errors: half the mean squared difference of two humans."""
    return _ratio(p.xx - 2 * p.xy + p.yy, 2 * p.n)


def _true_variance(single: PairSums, double: PairSums) -> Floats:
    """Return the variance of true scores, from rows with one and with two humans."""
    ratings = single.n + double.n
    squares = single.n + 3 * double.n
    between = _squares(single, double) - _ratio((single.x + double.y) ** 2, ratings)
    return _ratio(between - (single.n - 1) * _human_error(double), ratings - _ratio(squares, ratings))


def _true_error(humans: PairSums, double: PairSums, second: PairSums, machine: PairSums) -> Floats:
    """Return the mean squared error of the machine's levels as predictions of true scores."""
    squared = _squares(machine, humans) - 2 * (machine.xy + second.xy) + machine.yy + double.yy
    return _ratio(squared - machine.n * _human_error(humans), machine.n + double.n)


def _prmse(*pairs: PairSums) -> Floats:
    """Return 1 − the error of the machine as a prediction of true scores ÷ their variance."""
    humans, *_, machine = pairs
    return 1 - _ratio(_true_error(*pairs), _true_variance(machine, humans))


def _root(squared: Formula) -> Formula:
    """Return the root of a mean square; 0 where chance makes an estimate of it less."""
    return lambda *pairs: np.sqrt(np.maximum(squared(*pairs), 0))


def _less(formula: Formula) -> Formula:
    """Return the figure of the second pair minus that of the first."""
    return lambda first, second: formula(second) - formula(first)


def _of_record(formula: Formula) -> Formula:
    """Return the figure of the score of record and an independent human's level.

    Of the rows of people only those with two readings have one that is independent: they stand for all rows of people.
    """

    def figure(record: PairSums, kept: PairSums, every: PairSums) -> Floats:
        routed = every.rows - kept.rows
        read = record.rows - kept.rows
        n = record.n - kept.n
        with undefined():
            factor = (every.n - kept.n) / np.where(read > 0, n, np.nan)
            factor = np.where(routed > 0, factor, 0.0)
            sums_of_both = zip(kept[2:], record[2:], strict=True)
            weighted = (k + factor * (r - k) for k, r in sums_of_both)
            return formula(PairSums(record.rows, kept.n + factor * n, *weighted))

    return figure


def _by_variance(machine: PairSums, _: PairSums) -> Floats:
    # One rater one level off in a share x of rows adds x to the mean squared distance, whose scale is two variances.
    return _ratio(machine.n**2, 2 * x_spread(machine))


def _by_deviation(machine: PairSums, _: PairSums) -> Floats:
    return _ratio(np.ones_like(machine.n), x_deviation(machine))


def _by_root(_: PairSums, rated: PairSums) -> Floats:
    # A share x of rows that are one level off has a root mean square of √x, for the share that may go unseen.
    return (1 - 0.025 ** (1 / np.maximum(rated.rows, 1))) ** -0.5


_EXACT = Statistic("exact", "exact agreement", _exact, "share")
_ADJACENT = Statistic("adjacent", "adjacent agreement", _adjacent, "share")
_QWK = Statistic("qwk", "QWK", _qwk, "correlation", step=_by_variance)
_R = Statistic("r", "Pearson r", _r, "correlation", step=_by_variance)
_SMD = Statistic("smd", "SMD", _smd, "difference", step=_by_deviation)
_OF_SHARES = (_EXACT, _ADJACENT, _QWK, _SMD)
_TRUE_SCORES = (Pair.HUMANS, Pair.DOUBLE, Pair.SECOND)
_NEEDS_MACHINE = (Pair.MACHINE,)
_LENGTHS = (Pair.LENGTH_OF_HUMAN, Pair.LENGTH)
STATISTICS = (
    _EXACT,
    _ADJACENT,
    _QWK,
    _R,
    _SMD,
    Statistic(
        "sd_ratio",
        "ratio of standard deviations",
        lambda p: _ratio(_y_deviation(p), x_deviation(p)),
        "ratio",
        step=_by_deviation,
    ),
    Statistic("human_mean", "mean level of people", lambda p: _ratio(p.x, p.n), "difference"),
    Statistic("machine_mean", "mean level of the machine", lambda p: _ratio(p.y, p.n), "difference"),
    Statistic("human_sd", "standard deviation of people", x_deviation, "size", step=_by_root),
    Statistic("machine_sd", "standard deviation of the machine", _y_deviation, "size", step=_by_root),
    Statistic("below", "machine below people", lambda p: _ratio(p.below, p.n), "share"),
    Statistic("above", "machine above people", lambda p: 1 - _ratio(p.same + p.below, p.n), "share"),
    Statistic("far_below", "two levels or more below", lambda p: _ratio(p.far_below, p.n), "share"),
    Statistic("far_above", "two levels or more above", lambda p: 1 - _ratio(p.near + p.far_below, p.n), "share"),
    *(measure.on(Pair.HUMANS, name="human_{}", words=" of two humans") for measure in (_EXACT, _ADJACENT, _QWK, _R)),
    _SMD.on(Pair.HUMANS, name="human_{}", words=" of two humans", formula=_pooled_smd),
    *(measure.on(Pair.DOUBLE, name="double_{}", words=" where two humans read") for measure in (_EXACT, _QWK, _R)),
    *(
        measure.on(
            Pair.HUMANS,
            Pair.DOUBLE,
            name="degradation_{}",
            words=", machine minus second human",
            formula=_less(measure.formula),
            scale="difference",
        )
        for measure in (_EXACT, _QWK, _R)
    ),
    *(
        measure.on(
            Pair.HUMANS,
            Pair.SECOND,
            name="degradation_second_{}",
            words=", machine minus first human, beside the second",
            formula=_less(measure.formula),
            scale="difference",
        )
        for measure in (_EXACT, _QWK)
    ),
    Statistic("prmse", "PRMSE of true scores", _prmse, "difference", _TRUE_SCORES, _by_variance, _NEEDS_MACHINE),
    Statistic("sem", "standard error of measurement of a human", _root(_human_error), "size", (Pair.HUMANS,), _by_root),
    Statistic(
        "machine_sem",
        "standard error of measurement of the machine",
        _root(_true_error),
        "size",
        _TRUE_SCORES,
        _by_root,
        _NEEDS_MACHINE,
    ),
    Statistic("people", "share sent to people", lambda p: _ratio(p.n - p.same, p.n), "share", (Pair.ROUTES,)),
    *(measure.on(Pair.KEPT, name="kept_{}", words=" of the machine's share") for measure in _OF_SHARES),
    *(
        measure.on(
            Pair.RECORD,
            name="record_{}",
            words=" of the score of record",
            formula=_of_record(measure.formula),
            needs=(Pair.KEPT, Pair.ROUTES),
        )
        for measure in _OF_SHARES
    ),
    _R.on(Pair.LENGTH, name="length_{}", words=" of machine and length"),
    Statistic(
        "length_gap", "correlation with length, machine minus human", _less(_r), "difference", _LENGTHS, _by_variance
    ),
)

SEVERITY = Statistic("severity", "severity", lambda p: _ratio(p.y - p.x, p.n), "difference")
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
    human_exact: float
    human_adjacent: float
    human_qwk: float
    human_smd: float
    degradation_qwk: float


def agreement(human: Levels, machine: Levels, second: Levels | None = None) -> Agreement:
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
    figures = statistics(rated(human, machine, second), np.zeros(len(human), np.int64), 1)
    names = [field.name for field in fields(Agreement) if field.name != "n"]
    return Agreement(len(human), **{name: float(figures[name][0]) for name in names})
