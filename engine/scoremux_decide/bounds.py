"""Exact bounds of a share (Clopper & Pearson 1934), without scipy."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def upper_bound(errors: int, rows: int, confidence: float) -> float:
    """Return the largest share p for which seeing so few errors has a probability above 1 − confidence.

    It is the quantile `confidence` of Beta(errors + 1, rows − errors).

    >>> round(upper_bound(0, 22, 0.9), 4)
    0.0994
    """
    if errors >= rows:
        return 1.0
    low, high = errors / rows, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _cumulated(errors, np.array([rows]), np.array([middle]))[0, errors] > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def at_most(errors: Ints, rows: Ints, share: Floats) -> Floats:
    """Return P(X ≤ errors) for X ~ Binomial(rows, share), of many at once; 0 where errors are below 0."""
    cumulated = _cumulated(int(errors.max(initial=0)), rows, share)
    return np.where(errors < 0, 0.0, cumulated[np.arange(len(errors)), errors.clip(min=0)])


@lru_cache(maxsize=1 << 16)
def most_errors(rows: int, largest_share: float, confidence: float) -> int:
    """Return the largest number of errors that still shows a share of at most `largest_share`; −1 if none does.

    confidence: with which it shows it.
    """
    above_median = min(rows - 1, int(rows * largest_share) + 1)
    cumulated = _cumulated(above_median, np.array([rows]), np.array([largest_share]))[0]
    return int(np.searchsorted(cumulated, 1 - confidence, side="right")) - 1


def _cumulated(most: int, rows: Ints, share: Floats) -> Floats:
    """Return P(X ≤ k) for k from 0 to `most` and X ~ Binomial(rows, share), float64 [B, most + 1]."""
    share = share.clip(1e-300, 1 - 1e-16)[:, None]
    logs = _log_factorials(1 << int(rows.max(initial=0)).bit_length())
    k = np.arange(most + 1)
    rest = rows[:, None] - k
    ways = logs[rows][:, None]
    ways = ways - logs[k.clip(max=len(logs) - 1)]
    ways = ways - logs[rest.clip(min=0)]
    hits = k * np.log(share)
    misses = rest * np.log1p(-share)
    terms = np.exp(ways + hits + misses)
    possible = np.where(rest < 0, 0.0, terms)
    return np.asarray(np.minimum(np.cumsum(possible, axis=1), 1.0))


@lru_cache(maxsize=32)
def _log_factorials(most: int) -> Floats:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
