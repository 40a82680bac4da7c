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
from functools import reduce

import numpy as np

from scoremux_decide.apply import calibrated
from scoremux_decide.bounds import at_most, most_errors, upper_bound
from scoremux_evidence.promise.temperature import at_temperature
from scoremux_evidence.rows.table import Floats, Ints, Mask, Rows, own_numbers

_CUTS = 60
"""How many cuts are tried at most: each is one exact test of the sequence."""


def under_test(rows: Rows, temperature: float | Floats) -> Rows:
    """Return one task's distinct texts, as a test of its promise counts them; levels of equal texts are averaged.

    Columns, float64 [B]: confidence (the calibrated probability of the machine's level, the very bits that the scorer
    gives), severe (that it is two levels off or more), errors (the share of wrong levels: 0 or 1 but for equal texts),
    critical (the share of levels two or more off), worse (where the machine is wrong and a second human right; NaN
    without a second human), better (where a second human alone is wrong), weight (how many rows each stands for),
    student (who wrote it, int64; −1 where that is not known), and text (its number, ascending).

    Args:
        rows: With the columns of `scored.as_columns`.
        temperature: Of all rows, or of each.
    """
    each = np.broadcast_to(temperature, len(rows)).tolist()
    columns = zip(rows.probabilities.tolist(), rows.machine.tolist(), each, strict=True)
    confidence = [calibrated(probabilities, value)[level] for probabilities, level, value in columns]
    shares = at_temperature(rows, temperature)
    far = np.abs(np.arange(shares.shape[1])[None, :] - rows.machine[:, None]) > 1
    wrong = rows.machine != rows.human
    disagrees = rows.second != rows.human
    has_second = ~np.isnan(rows.second)
    table = {
        "confidence": np.array(confidence, dtype=np.float32).astype(np.float64),
        "severe": (shares * far).sum(axis=1),
        "errors": wrong,
        "critical": np.abs(rows.machine - rows.human) > 1,
        "worse": np.where(has_second, wrong & ~disagrees, np.nan),
        "better": np.where(has_second, ~wrong & disagrees, np.nan),
    }
    numbers, first, text = np.unique(own_numbers(rows.text), return_index=True, return_inverse=True)
    weight = np.bincount(text, rows.weight, len(first)).astype(np.float64)
    means = {name: np.bincount(text, rows.weight * column, len(first)) / weight for name, column in table.items()}
    return Rows.of(**means, weight=weight, student=rows.student[first], text=numbers)


def of_same_responses(traits: Sequence[Rows]) -> list[Rows]:
    """Return the rows of responses that all traits of an item have, in the same order for each trait.

    traits: from `under_test`. The new column `least` is the least confidence of a response's traits;
    weight: 1 / the probability with which people read all of them, that of the trait that is read most rarely.
    """
    common = reduce(np.intersect1d, [rows.text for rows in traits])
    same = [rows.where(np.searchsorted(rows.text, common)) for rows in traits]
    least = np.min([rows.confidence for rows in same], axis=0)
    weight = np.max([rows.weight for rows in same], axis=0)
    return [rows.plus(least=least, weight=weight) for rows in same]


def order_of(rows: Rows) -> Floats:
    """Return what decides which rows the machine keeps: their confidence, or the least of the response's traits."""
    return np.asarray(rows.least if "least" in rows else rows.confidence)


def by_confidence(rows: Rows) -> Rows:
    """Return the rows in order of their confidence, or of their responses' least, the most confident first."""
    return rows.where(np.argsort(-order_of(rows), kind="stable"))


def share_below(rows: Rows, least: float | None) -> float:
    """Return the share of rows that a threshold sends to people; None sends all."""
    if least is None or not len(rows):
        return 1.0
    return round(float(rows.weight[order_of(rows) < least].sum() / rows.weight.sum()), 6)


def _numbered_students(rows: Rows) -> Ints:
    """Return a number from 0 for each student, [B]; a row without a student has one of its own."""
    return np.unique(own_numbers(rows.student), return_inverse=True)[1]


def correlation(rows: Rows) -> float:
    """Return how alike the errors of one student's rows are, beyond their confidences; from 0 to 1.

    The intraclass correlation of e − (1 − confidence), by moments, and one standard error more.
    """
    student = _numbered_students(rows)
    residual = rows.errors - (1 - rows.confidence)
    counts = np.bincount(student)
    pairs = float((counts * (counts - 1)).sum())
    if not pairs:
        return 0.0
    totals = np.bincount(student, residual)
    products = float((totals**2).sum() - (residual**2).sum())
    estimate = products / pairs / max(float((residual**2).mean()), 1e-12)
    return float(np.clip(estimate + np.sqrt(2 / pairs), 0, 1))


def effective_rows(rows: Rows, alike: float) -> Floats:
    """Return how many independent rows of equal weight tell as much as the first k rows, float64 [B], for each k.

    (Σ w)² / ((1 − ρ) Σ w² + ρ Σ over students (Σ w)²), after Kish (1965): k where weights are equal and each row is
    another student's. alike: ρ, see `correlation`.
    """
    weight = rows.weight
    student = _numbered_students(rows)
    order = np.argsort(student, kind="stable")
    running = np.cumsum(weight[order])
    first = np.flatnonzero(np.diff(student[order], prepend=-1))
    before = np.repeat(running[first] - weight[order][first], np.diff(np.append(first, len(order))))
    earlier = np.empty_like(weight)
    earlier[order] = running - weight[order] - before
    squares = np.cumsum(weight**2)
    by_student = np.cumsum(weight**2 + 2 * earlier * weight)
    return np.asarray(np.cumsum(weight) ** 2 / ((1 - alike) * squares + alike * by_student))


@dataclass(frozen=True)
class Promise:
    """A promise about the rows that the machine keeps.

    Attributes:
        errors: Greatest share of rows with another level than the human's; None: no limit.
        critical: Greatest share of levels two or more off; None: no limit.
        within: How much more often the machine may be wrong than a second human, on the same rows; None: no limit.
        total: Greatest share of an item's totals that are too far from a person's; None: no limit.
    """

    errors: float | None
    critical: float | None
    confidence: float
    within: float | None = None
    total: float | None = None


def choose(rows: Rows, promise: Promise, *others: Rows, total: Rows | None = None) -> float | None:
    """Return the least confidence that the machine keeps, None if no cut shows that the promise is kept.

    others: Rows of the same responses, in the same order, for further traits (`of_same_responses`); total: those of the
    item's total. The promise is kept at a cut where each of them keeps it, so that none needs a look of its own.
    """
    if not len(rows):
        return None
    ranked = [by_confidence(part) for part in (rows, *others)]
    order = order_of(ranked[0])
    ends = cuts_of(order)
    parts = [_kept(part, ends, promise) for part in ranked]
    if total is not None:
        parts.append(_kept(by_confidence(total), ends, Promise(promise.total, None, promise.confidence)))
    kept = np.all([part for part, _ in parts], axis=0)
    chance = np.prod([part for _, part in parts], axis=0)
    least: float | None = None
    for place in range(int(chance.argmax()), len(ends)):
        if not kept[place]:
            break
        least = float(order[ends[place] - 1])
    return least


def _kept(ranked: Rows, ends: Ints, promise: Promise) -> tuple[Mask, Floats]:
    """Return at which cuts rows in order show the promise, and how likely that was to be seen by confidences alone."""
    alike = correlation(ranked)
    independent = np.floor(effective_rows(ranked, alike)[ends - 1] + 1e-9).astype(np.int64)
    kept = np.ones(len(ends), bool)
    chance = np.ones(len(ends))
    for most, observed, expected in (
        (promise.errors, ranked.errors, 1 - ranked.confidence),
        (promise.critical, ranked.critical, ranked.severe),
    ):
        if most is not None:
            allowed = np.array([most_errors(count, most, promise.confidence) for count in independent], np.int64)
            kept &= np.ceil(shares_up_to(ranked.weight, observed, ends) * independent - 1e-9) <= allowed
            chance *= at_most(allowed, independent, shares_up_to(ranked.weight, expected, ends))
    if promise.within is not None:
        kept &= _within(ranked, ends, promise.within, promise.confidence, alike)
        chance *= _prospects(ranked, ends, promise.within)
    return kept, chance


def _within(ranked: Rows, ends: Ints, most: float, confidence: float, alike: float) -> Mask:
    """Return at which cuts the machine is more often wrong by `most` at most than a second human, on the same rows.

    Upper bound of the share where the machine alone is wrong, minus the lower bound of that where the second human
    alone is, each with half of the chance of an error.
    """
    half = (1 + confidence) / 2
    double = np.flatnonzero(~np.isnan(ranked.worse))
    both = ranked.where(double)
    effective = effective_rows(both, alike) if len(both) else np.zeros(0)
    kept = []
    for count in np.searchsorted(double, ends):
        rows = int(effective[count - 1] + 1e-9) if count else 0
        worse = int(np.ceil(_share(both.weight[:count], both.worse[:count]) * rows - 1e-9))
        equal_or_worse = rows - int(np.floor(_share(both.weight[:count], both.better[:count]) * rows + 1e-9))
        bounds = (upper_bound(errors, rows, half) if rows else 1.0 for errors in (worse, equal_or_worse))
        kept.append(next(bounds) - (1 - next(bounds)) <= most)
    return np.array(kept)


def _prospects(ranked: Rows, ends: Ints, most: float) -> Floats:
    """Return how promising each cut is for `_within`, if the machine's confidences are right, from 0 on.

    How many standard errors the expected difference is below the greatest: a second human is taken to be wrong as often
    as two humans differ, whatever the machine says.
    """
    double = ~np.isnan(ranked.worse)
    disagreement = float((ranked.better + np.where(ranked.errors > 0, 1 - ranked.worse, 0.0))[double].mean())
    wrong = shares_up_to(ranked.weight, 1 - ranked.confidence, ends)
    worse = wrong * (1 - disagreement)
    better = (1 - wrong) * disagreement
    scores = (most - worse + better) * np.sqrt(ends / np.maximum(worse + better, 1e-6))
    return np.asarray(scores - scores.min() + 1e-12)


def cuts_of(ranked: Floats) -> Ints:
    """Return how many of the first rows each cut keeps, int64: rows of one confidence are on one side."""
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1
    step = max(1, len(last) // _CUTS)
    return last[::-1][::step][::-1]


def shares_up_to(weight: Floats, column: Floats, ends: Ints) -> Floats:
    """Return the weighted mean of a column over the first rows up to each end."""
    return np.asarray((np.cumsum(weight * column) / np.cumsum(weight))[ends - 1])


def _share(weight: Floats, column: Floats) -> float:
    return float((weight * column).sum() / weight.sum()) if len(weight) else 0.0
