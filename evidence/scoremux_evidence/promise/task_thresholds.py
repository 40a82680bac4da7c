"""The threshold of each task: its own, one that tasks with few rows share, or none, so that people get everything."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from scoremux_client.contract import Reason
from scoremux_client.errors import InputError
from scoremux_decide.decision import NONE, OWN, POOLED, Threshold
from scoremux_decide.policy import AgreementTarget, ScoringPolicy
from scoremux_evidence.promise.thresholds import (
    Promise,
    by_confidence,
    choose,
    correlation,
    cuts_of,
    effective_rows,
    order_of,
    share_below,
    shares_up_to,
)
from scoremux_evidence.rows.table import Floats, Rows

_LOW = Reason.LOW_CONFIDENCE.value

_LEAST_ROWS = 5
"""Rows of its own, of those that the machine would keep, without which a task has no part in a shared threshold."""

_RATES = (np.arange(500) + 0.5) / 500
_PRECISIONS = np.geomspace(2, 20, 9)
"""How many rows of its own the other tasks' rates may be worth to a task. Tasks in which the machine is seldom sure are
harder than the mean: with more, 30 % of tasks missed their target in simulation."""


def thresholds_of(
    policy: ScoringPolicy,
    target: AgreementTarget,
    tasks: Mapping[str, Rows],
    tested: Mapping[str, Rows],
    looks: Mapping[str, int],
    groups: Sequence[Sequence[str]],
    totals: Mapping[str, Rows],
) -> dict[str, Threshold]:
    """Return the threshold of each tested task: its own, one that tasks with fewer rows share, or all to people.

    A shared one may be wrong as often as its tasks' looks allow on average, weighted by their rows. groups: each task
    alone, or the traits of an item, whose rows are of the same responses (`of_same_responses`): these have one
    threshold, or people get all responses. totals: those of items, by their first trait, if they are promised.

    Raises:
        InputError: Totals alone are promised, and a task has none; or the policy compares with two humans, and the rows
            have one.
    """
    total_alone = target.total and target.exact is target.critical is target.within_of_humans is None
    thresholds = dict[str, Threshold]()
    shared = list[str]()
    for names in groups:
        parts = [tested[name] for name in names]
        is_item = "least" in parts[0]  # an item may have a single trait that is tested
        if total_alone and names[0] not in totals:
            raise InputError(
                f"{names[0]} has no total, and [target] promises totals alone; give exact or critical, too"
            )
        count = len(parts[0] if is_item else tasks[names[0]])
        if count < policy.rows.new or (is_item and count < policy.rows.own):
            threshold = everyone(Reason.NEW_TASK, NONE, count)
        elif count < policy.rows.own:
            shared += names
            continue
        else:
            wrong = _wrong(target, max(looks.get(name, 1) for name in names))
            empty = Threshold(_LOW, OWN, count, 1.0)
            threshold = _threshold(target, parts[0], empty, wrong, parts[1:], totals.get(names[0]))
        thresholds |= dict.fromkeys(names, threshold)
    if shared:
        counts = [len(tasks[name]) for name in shared]
        parts = [tested[name] for name in shared]
        empty = Threshold(_LOW, POOLED, sum(counts), 1.0, tasks=len(shared))
        chances = [_wrong(target, looks.get(name, 1)) for name in shared]
        level = float(np.average(chances, weights=np.maximum(counts, 1)))
        together = _threshold(target, Rows.joined(parts), empty, level)
        leasts = [together.least] * len(shared)
        if together.least is not None and target.human_share is None:
            leasts = choose_by_task(parts, together.least, promise_of(target))
        for name, rows, least in zip(shared, parts, leasts, strict=True):
            thresholds[name] = replace(together, least=least, share=share_below(rows, least))
    return thresholds


def _threshold(
    target: AgreementTarget,
    rows: Rows,
    empty: Threshold,
    wrong: float,
    others: Sequence[Rows] = (),
    total: Rows | None = None,
) -> Threshold:
    """Return the threshold of rows that share one. empty: without a cut; others: traits; the rest as for `choose`."""
    if target.human_share is not None:
        share = target.human_share
        least = _share_threshold(order_of(rows), rows.weight, share) if share < 1 else None
        return replace(empty, least=least, share=share_below(rows, least))
    if target.within_of_humans is not None and np.isnan(rows.worse).all():
        raise InputError(
            "within_of_humans needs rows with the levels of two humans (column `second`), and there are none"
        )
    least = choose(rows, promise_of(target, wrong), *others, total=total)
    promised = target.model_dump(include={"exact", "critical", "within_of_humans", "confidence"})
    if target.total and total is not None:
        promised |= {"total_share": target.total.share, "total_within": target.total.within}
    return replace(empty, least=least, share=share_below(rows, least), **promised)


def _wrong(target: AgreementTarget, look: int) -> float:
    """Return the chance that the k-th look may be wrong, (1 − confidence) · 6 / (π² k²): 1 − confidence for all k."""
    return (1 - target.confidence) * 6 / (math.pi * look) ** 2


def promise_of(target: AgreementTarget, wrong: float | None = None) -> Promise:
    """Return the promise to test. wrong: the chance that it finds a broken promise; by default that of a first look."""
    wrong = _wrong(target, 1) if wrong is None else wrong
    errors = None if target.exact is None else 1 - target.exact
    total = 1 - target.total.share if target.total else None
    return Promise(errors, target.critical, 1 - wrong, target.within_of_humans, total)


def _share_threshold(confidence: Floats, weight: Floats, share: float) -> float:
    """Return the confidence below which this share of the rows lies."""
    if share <= 0:
        return 0.0
    if not len(confidence):
        return 1.0
    order = np.argsort(confidence, kind="stable")
    below = np.cumsum(weight[order]) - weight[order]
    place = np.searchsorted(below, np.floor(share * len(order) + 0.5) / len(order) * weight.sum() * (1 - 1e-12))
    return float(confidence[order][min(place, len(order) - 1)])


def everyone(reason: Reason, source: str, rows: int) -> Threshold:
    return Threshold(reason.value, source, rows, 1.0)


def choose_by_task(tasks: Sequence[Rows], least: float, promise: Promise) -> list[float | None]:
    """Return for each of the tasks that share a threshold the least confidence that its own rows do not contradict.

    The error rates of tasks are shrunk to their mean: Beta-distributed around it, with a precision that their counts
    make likely. A task is left the first confidence from `least` on at which the probability that its rate is above
    the promise is 1 − confidence at most; None without one. `within` is asked of the rows with a second human.
    """
    ranked = [by_confidence(rows) for rows in tasks]
    everything = np.sort(np.concatenate([rows.confidence for rows in ranked]))[::-1]
    cuts = [float(everything[end - 1]) for end in cuts_of(everything) if everything[end - 1] >= least][::-1]
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


def _by_cut(ranked: Sequence[Rows], cuts: Sequence[float], names: Sequence[str]) -> tuple[Floats, Floats]:
    """Return how many independent rows of each task each cut keeps, [C, T], and their sums of columns, [N, C, T].

    Rows without a value in these columns are left out. ranked: rows of each task, in order of their confidence.
    """
    independent = np.zeros((len(cuts), len(ranked)))
    counts = np.zeros((len(names), len(cuts), len(ranked)))
    for task, rows in enumerate(ranked):
        usable = rows.where(~np.isnan(rows[names[0]]))
        ends = np.searchsorted(-usable.confidence, -np.array(cuts), side="right")
        some = ends > 0
        independent[some, task] = effective_rows(usable, correlation(usable))[ends[some] - 1]
        for place, name in enumerate(names):
            counts[place, some, task] = shares_up_to(usable.weight, usable[name], ends[some])
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
