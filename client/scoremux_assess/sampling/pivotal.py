"""Samples of fixed size with given probabilities: the local pivotal method (Grafström, Lundström & Schelin 2012).

Two units that are near each other compete for their joint probability until it is 0 or 1 for one of them. So each is
chosen with exactly its probability, and units that are alike are seldom chosen together: the sample is spread.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_ROUNDING = 1e-9


def inclusion_probabilities(size: Floats, count: int) -> Floats:
    """Return probabilities proportional to sizes, 1 at most, that sum to `count`: float64 [N].

    π = min(1, c · size), with c such that Σ π = count

    Args:
        size: Float64 [N], above 0.
        count: How many units are chosen; with as many units or fewer, all are.
    """
    if count >= len(size):
        return np.ones(len(size))
    certain = np.zeros(len(size), bool)
    while True:
        share = np.where(certain, 0.0, size)
        chance = np.where(certain, 1.0, (count - certain.sum()) * share / share.sum())
        if not (chance > 1).any():
            return chance
        certain |= chance >= 1


def draw_spread(probability: Floats, places: Floats, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return which units are chosen, bool [N]: each with its probability, neighbours seldom together.

    Args:
        probability: Float64 [N], 0 to 1; the sample has their sum as its size, rounded up or down.
        places: Float64 [N, D], where each unit lies; the nearest is the neighbour.
        random: What the choice is drawn from.
    """
    chance = probability.copy()
    # The undecided units are the first `left` entries of these; a unit that is decided changes places with the last.
    unit = np.flatnonzero((chance > _ROUNDING) & (chance < 1 - _ROUNDING))
    where = places[unit]
    squares = (where**2).sum(axis=1)
    left = len(unit)
    while left > 1:
        first = int(random.integers(left))
        apart = squares[:left] - 2 * (where[:left] @ where[first])
        apart[first] = np.inf
        second = int(apart.argmin())
        i, j = unit[first], unit[second]
        chance[i], chance[j] = _compete(chance[i], chance[j], random.random())
        for decided in sorted((first, second), reverse=True):
            if not _ROUNDING < chance[unit[decided]] < 1 - _ROUNDING:
                left -= 1
                for array in (unit, where, squares):
                    array[decided] = array[left]
    # Probabilities that do not sum to a whole number leave one unit undecided.
    return np.asarray(random.random() < chance)


def _compete(one: float, other: float, draw: float) -> tuple[float, float]:
    """Return two probabilities of the same expectations and sum, of which at least one is 0 or 1."""
    both = one + other
    if both < 1:
        return (0.0, both) if draw * both < other else (both, 0.0)
    return (1.0, both - 1) if draw * (2 - both) < 1 - other else (both - 1, 1.0)
