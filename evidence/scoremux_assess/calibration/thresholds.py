"""Thresholds that keep a promise: fixed-sequence Learn-then-Test (Angelopoulos et al. 2021) on exact binomial tests.

Rows are put in order of their confidence. Cuts are tested one after the other, from a strict one to looser ones, and
the last before the first failure is taken. Which cut is first depends on confidences alone, never on labels, so the
chance that the cut taken breaks the promise is at most 1 − confidence. The promise is about the rate among all
responses to come: the share in a single batch of n rows that are kept varies around it by √(p (1 − p) / n).

Rows of unequal weight, or of one student, count as the number of independent ones that tell as much
(`effective_rows`), as in the intervals of Korn and Graubard (1998) for surveys.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scoremux_assess.calibration.tested_rows import RowsUnderTest, effective_rows
from scoremux_assess.labels.ratings import Floats, Ints, Mask
from scoremux_decide.bounds import at_most, most_errors, upper_bound

_CUTS = 60
"""How many cuts are tried at most: each is one exact test of the sequence."""
_LIKELY, _TIMES = 0.8, tuple(1.15**step for step in range(1, 25))
"""How many times the rows are tried until some cut shows a promise with a chance of 80 %."""

_LEAST_ROWS = 5
"""Rows of its own, of those that the machine would keep, without which a task has no part in a shared threshold."""

_RATES = (np.arange(500) + 0.5) / 500
_PRECISIONS = np.geomspace(2, 20, 9)
"""How many rows of its own the other tasks' rates may be worth to a task. Tasks in which the machine is seldom sure are
harder than the mean: with more, 30 % of tasks missed their target in simulation."""


@dataclass(frozen=True)
class Promise:
    """A promise about the rows that the machine keeps.

    Attributes:
        errors: Greatest share of rows with another level than the human's; None: no limit.
        critical: Greatest share of levels two or more off; None: no limit.
        within: How much more often the machine may be wrong than a second human, on the same rows; None: no limit.
    """

    errors: float | None
    critical: float | None
    confidence: float
    within: float | None = None


def choose(rows: RowsUnderTest, promise: Promise) -> float | None:
    """Return the least confidence that the machine keeps, None if no cut shows that the promise is kept."""
    if not len(rows):
        return None
    correlation = rows.correlation()
    ranked = rows.ranked()
    ends = _cuts(ranked.confidence)
    independent = np.floor(effective_rows(ranked, correlation)[ends - 1] + 1e-9).astype(np.int64)
    kept = np.ones(len(ends), bool)
    chance = np.ones(len(ends))
    for most, observed, expected in (
        (promise.errors, ranked.errors, 1 - ranked.confidence),
        (promise.critical, ranked.critical, ranked.severe),
    ):
        if most is not None:
            allowed = _allowed(independent, most, promise.confidence)
            kept &= np.ceil(_shares(ranked.weight, observed, ends) * independent - 1e-9) <= allowed
            chance *= at_most(allowed, independent, _shares(ranked.weight, expected, ends))
    if promise.within is not None:
        kept &= _within(ranked, ends, promise.within, promise.confidence, correlation)
        chance *= _prospects(ranked, ends, promise.within)
    least: float | None = None
    for place in range(int(chance.argmax()), len(ends)):
        if not kept[place]:
            break
        least = float(ranked.confidence[ends[place] - 1])
    return least


@dataclass(frozen=True)
class NearMiss:
    """The cut that most likely shows a promise, where it did not.

    Attributes:
        least: The confidence at the cut.
        kept, errors: The share of rows above it, and the share of errors among these.
        needed: With how many labelled rows some cut would most likely show the promise; None: with none in reach.
    """

    least: float
    kept: float
    errors: float
    needed: int | None


def nearest(rows: RowsUnderTest, promise: Promise) -> NearMiss | None:
    """Return the nearest cut; None without a limit of errors. Cuts are judged by confidences, not by lucky labels."""
    most = promise.errors
    if most is None or not len(rows):
        return None
    ranked = rows.ranked()
    ends = _cuts(ranked.confidence)
    independent = effective_rows(ranked, rows.correlation())[ends - 1]
    expected = _shares(ranked.weight, 1 - ranked.confidence, ends)

    def chances(times: float) -> Floats:
        counts = np.floor(independent * times + 1e-9).astype(np.int64)
        return at_most(_allowed(counts, most, promise.confidence), counts, expected)

    place = int(chances(1.0).argmax())
    least = float(ranked.confidence[ends[place] - 1])
    errors = float(_shares(ranked.weight, ranked.errors, ends)[place])
    enough = (int(np.ceil(times * len(rows))) for times in _TIMES if chances(times).max() >= _LIKELY)
    return NearMiss(
        least,
        1 - rows.share_below(least),
        errors,
        next(enough, None),
    )


def choose_by_task(
    tasks: Sequence[RowsUnderTest],
    least: float,
    promise: Promise,
) -> list[float | None]:
    """Return for each of the tasks that share a threshold the least confidence that its own rows do not contradict.

    The error rates of tasks are shrunk to their mean: Beta-distributed around it, with a precision that their counts
    make likely. A task is left the first confidence from `least` on at which the probability that its rate is above
    the promise is 1 − confidence at most; None without one. `within` is asked of the rows with a second human.
    """
    ranked = [rows.ranked() for rows in tasks]
    everything = np.sort(np.concatenate([rows.confidence for rows in ranked]))[::-1]
    cuts = [float(everything[end - 1]) for end in _cuts(everything) if everything[end - 1] >= least][::-1]
    limits = ((promise.errors, ("errors",)), (promise.critical, ("critical",)), (promise.within, ("worse", "better")))
    tests = [(most, *_by_cut(ranked, cuts, names)) for most, names in limits if most is not None]
    chosen: list[float | None] = [None] * len(tasks)
    for place, cut in reversed(list(enumerate(cuts))):
        kept = np.ones(len(tasks), bool)
        for most, independent, counts in tests:
            rates = [_rates(count, independent[place]) for count in counts[:, place]]
            kept &= (independent[place] >= _LEAST_ROWS) & (_doubt(rates, most) <= 1 - promise.confidence)
        for task in np.flatnonzero(kept):
            chosen[task] = cut
    return chosen


def share_threshold(confidence: Floats, weight: Floats, share: float) -> float:
    """Return the confidence below which this share of the rows lies."""
    if share <= 0:
        return 0.0
    if not len(confidence):
        return 1.0
    order = np.argsort(confidence, kind="stable")
    below = np.cumsum(weight[order]) - weight[order]
    place = np.searchsorted(below, np.floor(share * len(order) + 0.5) / len(order) * weight.sum() * (1 - 1e-12))
    return float(confidence[order][min(place, len(order) - 1)])


def _by_cut(
    ranked: Sequence[RowsUnderTest],
    cuts: Sequence[float],
    names: Sequence[str],
) -> tuple[Floats, Floats]:
    """Return how many independent rows of each task each cut keeps, [C, T], and their sums of columns, [N, C, T].

    Rows without a value in these columns are left out. ranked: rows of each task, in order of their confidence.
    """
    independent = np.zeros((len(cuts), len(ranked)))
    counts = np.zeros((len(names), len(cuts), len(ranked)))
    for task, rows in enumerate(ranked):
        usable = rows.take(np.flatnonzero(~np.isnan(getattr(rows, names[0]))))
        ends = np.searchsorted(-usable.confidence, -np.array(cuts), side="right")
        some = ends > 0
        independent[some, task] = effective_rows(usable, usable.correlation())[ends[some] - 1]
        for place, name in enumerate(names):
            counts[place, some, task] = _shares(usable.weight, getattr(usable, name), ends[some])
    return independent, counts * independent


def _doubt(rates: Sequence[Floats], most: float) -> Floats:
    """Return the probability that each task's rate, or the first less the second, is above `most`, [T].

    rates: See `_rates`.
    """
    if len(rates) == 1:
        return np.asarray(rates[0][:, most < _RATES].sum(axis=1))
    return np.asarray(((rates[0] @ (_RATES[:, None] - _RATES > most)) * rates[1]).sum(axis=1))


def _rates(errors: Floats, rows: Floats) -> Floats:
    """Return how probable each of `_RATES` is as that of each task, from the rates of all, [T, R]."""
    some = rows > 0
    mean = float(((errors + 0.5) / (rows + 1))[some].mean()) if some.any() else 0.5
    of_error = np.log(_RATES)
    of_none = np.log1p(-_RATES)
    logs = errors[:, None] * of_error + (rows - errors)[:, None] * of_none
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
    marginal = np.zeros(len(_PRECISIONS))
    shares = np.zeros((len(_PRECISIONS), len(rows), len(_RATES)))
    for place, precision in enumerate(_PRECISIONS):
        alpha = mean * precision
        beta = (1 - mean) * precision
        log_prior = (alpha - 1) * of_error + (beta - 1) * of_none
        prior = np.exp(log_prior - log_prior.max())
        joint = likelihood * (prior / prior.sum())
        marginal[place] = np.log(joint.sum(axis=1)).sum()
        shares[place] = joint / joint.sum(axis=1, keepdims=True)
    weights = np.exp(marginal - marginal.max())
    return np.tensordot(weights / weights.sum(), shares, axes=1)


def _within(
    ranked: RowsUnderTest,
    ends: Ints,
    most: float,
    confidence: float,
    correlation: float,
) -> Mask:
    """Return at which cuts the machine is more often wrong by `most` at most than a second human, on the same rows.

    Upper bound of the share where the machine alone is wrong, minus the lower bound of that where the second human
    alone is, each with half of the chance of an error.
    """
    half = (1 + confidence) / 2
    double = np.flatnonzero(~np.isnan(ranked.worse))
    both = ranked.take(double)
    effective = effective_rows(both, correlation) if len(both) else np.zeros(0)
    kept = []
    for count in np.searchsorted(double, ends):
        rows = int(effective[count - 1] + 1e-9) if count else 0
        worse = int(np.ceil(_share(both.weight[:count], both.worse[:count]) * rows - 1e-9))
        equal_or_worse = rows - int(np.floor(_share(both.weight[:count], both.better[:count]) * rows + 1e-9))
        bounds = (upper_bound(errors, rows, half) if rows else 1.0 for errors in (worse, equal_or_worse))
        kept.append(next(bounds) - (1 - next(bounds)) <= most)
    return np.array(kept)


def _prospects(ranked: RowsUnderTest, ends: Ints, most: float) -> Floats:
    """Return how promising each cut is for `_within`, if the machine's confidences are right, from 0 on.

    How many standard errors the expected difference is below the greatest: a second human is taken to be wrong as often
    as two humans differ, whatever the machine says.
    """
    double = ~np.isnan(ranked.worse)
    disagreement = float((ranked.better + np.where(ranked.errors > 0, 1 - ranked.worse, 0.0))[double].mean())
    wrong = _shares(ranked.weight, 1 - ranked.confidence, ends)
    worse = wrong * (1 - disagreement)
    better = (1 - wrong) * disagreement
    scores = (most - worse + better) * np.sqrt(ends / np.maximum(worse + better, 1e-6))
    return np.asarray(scores - scores.min() + 1e-12)


def _allowed(rows: Ints, most: float, confidence: float) -> Ints:
    """Return with how many errors among each number of rows a rate of `most` is shown, at most."""
    return np.array(
        [most_errors(count, most, confidence) for count in rows],
        dtype=np.int64,
    )


def _cuts(ranked: Floats) -> Ints:
    """Return how many of the first rows each cut keeps, int64: rows of one confidence are on one side."""
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1
    step = max(1, len(last) // _CUTS)
    return last[::-1][::step][::-1]


def _shares(weight: Floats, column: Floats, ends: Ints) -> Floats:
    """Return the weighted mean of a column over the first rows up to each end."""
    return np.asarray((np.cumsum(weight * column) / np.cumsum(weight))[ends - 1])


def _share(weight: Floats, column: Floats) -> float:
    return float((weight * column).sum() / weight.sum()) if len(weight) else 0.0
