"""Exact bounds of a share (Clopper & Pearson 1934), without scipy."""

from __future__ import annotations

import math
from functools import lru_cache


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
        if at_most(errors, rows, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def at_most(errors: int, rows: int, share: float) -> float:
    """Return P(X ≤ errors) for X ~ Binomial(rows, share)."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return float(errors >= rows)
    log_p, log_q = math.log(share), math.log1p(-share)
    term = rows * log_q
    total = math.exp(term)
    for k in range(errors):
        term += math.log((rows - k) / (k + 1)) + log_p - log_q
        total += math.exp(term)
    return min(1.0, total)


@lru_cache(maxsize=1 << 16)
def most_errors(rows: int, most: float, confidence: float) -> int:
    """Return the most errors that show, with this confidence, a share of at most `most`; −1 if none would."""
    errors = -1
    while errors + 1 < rows and at_most(errors + 1, rows, most) <= 1 - confidence:
        errors += 1
    return errors
