"""Detectors of a broken promise that may be read every day, and intervals that hold on all days together.

A Shiryaev–Roberts e-detector M (Shin, Ramdas & Rinaldo 2023) is updated with each observation x:
M ← Σ weight · (M + 1) · likelihood ratio of x. While the promise holds, E[M] is at most the number of observations at
any day at which one may stop. So M ≥ n happens once in n observations at most on average, and M / n is an e-value after
n observations or fewer. E-values of tasks are judged together by e-BH (Wang & Ramdas 2022): the share of false alarms
among all is bounded, and so is the chance of any where no promise is broken.

Confidence sequences (Waudby-Smith & Ramdas 2024) are such intervals.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Name = TypeVar("Name", bound=Hashable)

WORSE_BY = np.array([0.02, 0.04, 0.07, 0.10, 0.15, 0.25, 0.40])
_WEIGHT = np.array([1, 1, 2, 2, 2, 2, 1]) / 11
"""How much greater than promised the error may have become. Most weight is on what a term's reads can find."""

_BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7])
"""Shares of what could be lost that are bet on a mean having moved."""

_OF_BETS = np.full(2 * len(_BETS), 0.5 / len(_BETS))
"""The weight of each bet, up and down."""

_CLUSTER_BETS = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
"""As `_BETS`, for errors of clusters above what is promised: `tests/slow/test_clusters_and_readers.py`."""

LEAST_CLUSTERS = 20
"""Clusters in a term with fewer of which nothing can be told: then an error of 0.25 where 0.15 is promised stays unseen
in one term of five."""

_USUAL_SPREAD, _SPREAD_DAYS = 0.08, 7
"""A day's rows come from a few schools, so its share varies more than its number of rows says: by so much, and this
counts as much as so many days."""


def error_detector(errors: Floats, promised: float) -> Floats:
    """Return M after each observation, [B, …]: high where the share of errors is above the promised one.

    Args:
        errors: 1 for an error, else 0, in order, [B, …]; further dimensions are series of their own.
        promised: The greatest promised share of errors.
    """
    bets, weight = _alternatives(promised)
    return _betting(errors, promised, bets, weight) if len(weight) else np.zeros(errors.shape)


def mean_detector(values: Floats, least: float, most: float) -> Floats:
    """Return M after each of the values from 0 to 1, [B]: high where their mean is outside least … most."""
    above = (values - most) / max(most, 1e-3)
    below = (least - values) / max(1 - least, 1e-3)
    gains = np.stack([above, below], axis=1)
    bets = 1 + gains[:, :, None] * _BETS
    return _shiryaev_roberts(bets.reshape(len(values), len(_OF_BETS)), _OF_BETS)


def cluster_detector(means: Floats, promised: float) -> Floats:
    """Return M after each cluster's mean share of errors, [U]: high where their mean is above the promised share."""
    return _betting(means, promised, _CLUSTER_BETS, np.full(len(_CLUSTER_BETS), 1 / len(_CLUSTER_BETS)))


def _betting(values: Floats, promised: float, bets: Floats, weight: Floats) -> Floats:
    """Return M after each value, [B, …], of bets that their mean is above the promised share; weight: of each bet."""
    promised = _inside(promised)
    return _shiryaev_roberts((1 + (value[..., None] - promised) / promised * bets for value in values), weight)


def spread_between_days(counts: Floats) -> float:
    """Return the variance of daily shares beyond that of their numbers of rows; counts: as for `share_detector`."""
    rows = np.maximum(counts[:, 1], 1)
    mean = counts[:, 0].sum() / rows.sum()
    squares = (counts[:, 0] / rows - mean) ** 2
    by_chance = mean * (1 - mean) / rows
    beyond = float((squares - by_chance).sum())
    return (max(beyond, 0.0) + _SPREAD_DAYS * _USUAL_SPREAD**2) / (len(counts) + _SPREAD_DAYS)


def share_detector(counts: Floats, least: float, most: float, spread: float) -> Floats:
    """Return M after each day, [D]: high where the share of rows that have something is outside least … most.

    The rows of a day are one observation, whose likelihood ratio is the product of the rows'. They count as the number
    of independent rows whose share varies as much: n / (1 + n · spread / (p (1 − p))).

    Args:
        counts: How many rows of each day have it, and how many rows there are, [D, 2].
        spread: The variance of shares between days.
    """
    middle = _inside((least + most) / 2)
    weighed = counts / (1 + counts[:, 1:] * spread / (middle * (1 - middle)))
    has = weighed[:, :1]
    rows = weighed[:, 1:]
    above = _inside(most)
    below = _inside(least)
    gain = has * np.log1p(_BETS * (1 - above) / above) + (rows - has) * np.log1p(-_BETS)
    loss = (rows - has) * np.log1p(_BETS * below / (1 - below)) + has * np.log1p(-_BETS)
    return _shiryaev_roberts(np.exp(np.concatenate([gain, loss], axis=1)), _OF_BETS)


def _alternatives(promised: float) -> tuple[Floats, Floats]:
    """Return the bets whose gains are the likelihood ratios of each worse share of errors, and their weights."""
    promised = _inside(promised)
    is_share = promised + WORSE_BY < 1
    return WORSE_BY[is_share] / (1 - promised), _WEIGHT[is_share] / _WEIGHT[is_share].sum()


def _inside(share: float) -> float:
    """Return a share that is neither 0 nor 1, where likelihood ratios are not defined."""
    return min(max(share, 1e-3), 1 - 1e-3)


def _shiryaev_roberts(ratios: Iterable[Floats], weight: Floats) -> Floats:
    """Return M after each observation from the likelihood ratios of each, [B, …]; weight: of each ratio, [R]."""
    reached = []
    now = np.zeros(1)
    for ratio in ratios:
        now = np.minimum((now + 1) * ratio, 1e100)
        reached.append(now @ weight)
    return np.array(reached)


def alarms(e_values: Mapping[Name, float], rate: float) -> set[Name]:
    """Return which e-values are alarms.

    A rate below 1 bounds the share of false ones on average (e-BH), another one their number.
    """
    if rate >= 1:
        least = max(len(e_values) / rate, 1)
        return {name for name, value in e_values.items() if value >= least}
    ranked = sorted(e_values, key=lambda name: -e_values[name])
    enough = [k for k, name in enumerate(ranked, 1) if e_values[name] >= len(ranked) / (rate * k)]
    return set(ranked[: max(enough, default=0)])


def confidence_sequence(errors: float, rows: float) -> tuple[float, float]:
    """Return a 95 % interval of a share that holds at all numbers of rows together, by a uniform mixture of bets.

    >>> [round(bound, 3) for bound in confidence_sequence(12, 100)]
    [0.04, 0.254]
    """
    if not rows:
        return 0.0, 1.0
    mixture = math.lgamma(errors + 1) + math.lgamma(rows - errors + 1) - math.lgamma(rows + 2)

    def is_left_open(share: float) -> bool:
        losses = (errors * math.log(share) if errors else 0.0) + (
            (rows - errors) * math.log1p(-share) if rows > errors else 0.0
        )
        return mixture - losses < -math.log(0.05)

    likeliest = errors / rows
    return _bound(is_left_open, likeliest, 0.0), _bound(is_left_open, likeliest, 1.0)


def _bound(is_left_open: Callable[[float], bool], likeliest: float, end: float) -> float:
    """Return where the interval ends between its middle and an end of 0 … 1."""
    if likeliest == end:
        return end
    inside = likeliest
    outside = end
    for _ in range(50):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if is_left_open(middle) else (inside, middle)
    return inside


def recovery(values: Floats, promised: float, are_clusters: bool = False) -> float:
    """Return the e-value that the share of errors is below the promised one, after all of these values.

    It is a mixture over bets: of single reads, those whose gains are the likelihood ratios of shares from 0 to
    `promised`. 20 or more says so with 95 % confidence, on whichever day.

    Args:
        values: Errors of reads, 0 or 1, or means of clusters.
    """
    promised = _inside(promised)
    bets = _CLUSTER_BETS if are_clusters else (np.arange(20) + 0.5) / 20
    logs = np.log1p((promised - values)[:, None] / (1 - promised) * bets).sum(axis=0)
    return float(np.exp(np.minimum(logs, 690)).mean())


def reads_needed(promised: float, now: float, worse_by: float, rows_until_false: float) -> int:
    """Return after how many reads half of the detectors find that the error rose by `worse_by`, by simulation.

    Args:
        now: The share of errors before it rose.
        rows_until_false: Reads in which one false alarm is accepted.
    """
    random = np.random.default_rng(1)
    most = 5000
    runs = 101
    bets, weight = _alternatives(promised)
    if not len(weight):
        return most
    promised = _inside(promised)
    state = np.zeros((runs, len(weight)))
    needed = np.full(runs, most)
    for read in range(-200, most):
        wrong = random.random((runs, 1)) < (now if read < 0 else min(now + worse_by, 1.0))
        state = (state + 1) * (1 + (wrong - promised) / promised * bets)
        if read >= 0:
            needed = np.minimum(needed, np.where(state @ weight >= rows_until_false, read + 1, most))
            if np.median(needed) <= read:
                break
    return int(np.median(needed))
