"""One task's responses → those that people label next, each with the probability with which it was chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoremux_assess.sampling.pivotal import Floats, draw_spread, inclusion_probabilities

INTEREST = 0.5
"""Share of the probabilities that follows interest; the rest is equal for all responses.

A response therefore stands for at most 1 / (1 − INTEREST) times as many others as in a simple random sample.
"""

MOST = 10_000
"""Responses of a task that are compared with each other."""

_NEIGHBOURS = 5
_DIRECTIONS = 32
"""Directions of most variance in which distances are measured."""


@dataclass(frozen=True)
class Candidates:
    """B responses to a task.

    Attributes:
        related: A number for each, equal for those of which one at most is chosen (`similar_texts.related`).
        vectors: Float32 [B, H], what the task's head reads, or the backbone's own; NaN in rows without.
        probabilities: Of the levels, float64 [B, L] with NaN in rows without; None without an adapter.
    """

    related: Sequence[int] | npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    probabilities: Floats | None = None


@dataclass(frozen=True)
class SampledRows:
    """What was chosen of B responses.

    Attributes:
        rows: Places of the chosen responses, in the order of the file.
        probability: Of each to be chosen.
        units: How many responses could have been chosen together: near copies, and a student's, count once.
        left_out: How many responses are near copies of labelled ones, or of the same student.
    """

    rows: npt.NDArray[np.int64]
    probability: Floats
    units: int
    left_out: int


def thin(count: int, seed: int, task: str, most: int = MOST) -> list[int]:
    """Return the places of all responses of a task or, of more than `most`, of so many at random.

    Each is among them with probability most / count, by which that of `draw` is multiplied (two-phase sampling).
    """
    if count <= most:
        return list(range(count))
    return sorted(map(int, _random(seed, task, "thin").choice(count, most, replace=False)))


def draw(candidates: Candidates, count: int, seed: int, task: str, labelled: npt.NDArray[np.bool_]) -> SampledRows:
    """Choose responses of a task: one at most of near copies, and of one student's.

    The probability of each unit of such responses is proportional to a mix of its number of responses and of interest
    (`interest_of`); the sample is spread over the vectors; of a chosen unit one response is drawn, all alike.

    Args:
        candidates: The responses.
        count: How many to choose; fewer if there are not as many units.
        seed: What is drawn depends on it and on `task`.
        task: Its id.
        labelled: Bool [B], responses that have a label already: their units are left out.
    """
    random = _random(seed, task, "draw")
    _, unit = np.unique(candidates.related, return_inverse=True)
    taken = np.zeros(unit.max(initial=-1) + 1, bool)
    taken[unit[labelled]] = True
    open_rows = np.flatnonzero(~taken[unit])
    if not len(open_rows):
        return SampledRows(open_rows, np.empty(0), 0, len(unit) - int(labelled.sum()))
    _, unit = np.unique(unit[open_rows], return_inverse=True)
    rows = np.bincount(unit)
    vectors = _means(unit, rows, np.nan_to_num(candidates.vectors[open_rows].astype(np.float64)))
    uncertain = None
    if candidates.probabilities is not None:
        uncertain = _means(unit, rows, uncertainty(candidates.probabilities[open_rows])[:, None])[:, 0]
    places = _main_directions(vectors)
    interest = interest_of(places, uncertain)
    size = (1 - INTEREST) * rows / rows.sum() + INTEREST * interest / interest.sum()
    chance = inclusion_probabilities(size, count)
    chosen = np.flatnonzero(draw_spread(chance, places, random))
    order = random.permutation(len(unit))
    first = order[np.unique(unit[order], return_index=True)[1]]  # of each unit, a response at random
    picked = np.sort(first[chosen])
    left_out = len(candidates.related) - len(open_rows) - int(labelled.sum())
    return SampledRows(open_rows[picked], chance[unit[picked]] / rows[unit[picked]], len(rows), left_out)


def uncertainty(probabilities: Floats) -> Floats:
    """Return the entropy of each row's probabilities over that of equal ones, 0 to 1; the mean in rows without."""
    p = np.clip(probabilities, 1e-12, 1)
    entropy = -(p * np.log(p)).sum(axis=1) / np.log(max(2, p.shape[1]))
    has_probabilities = ~np.isnan(entropy)
    return np.where(has_probabilities, entropy, entropy[has_probabilities].mean() if has_probabilities.any() else 1.0)


def interest_of(places: Floats, uncertain: Floats | None) -> Floats:
    """Return how interesting units are, float64 [N], above 0: far from others, and uncertain.

    interest = distance to the nearest neighbours · uncertainty, each over its mean

    Args:
        places: Float64 [N, D].
        uncertain: Float64 [N]; None where nothing predicts levels.
    """
    apart = _distance_to_neighbours(places)
    interest = apart / apart.mean() if apart.mean() > 0 else np.ones(len(apart))
    if uncertain is not None and uncertain.mean() > 0:
        interest = interest * uncertain / uncertain.mean()
    return np.maximum(interest, 1e-6)


def _distance_to_neighbours(places: Floats) -> Floats:
    """Return the mean distance of each unit to its nearest neighbours, in blocks of rows."""
    count = min(_NEIGHBOURS, len(places) - 1)
    if count < 1:
        return np.ones(len(places))
    squares, out = (places**2).sum(axis=1), np.empty(len(places))
    for start in range(0, len(places), 1024):
        block = slice(start, start + 1024)
        apart = np.maximum(squares[block, None] + squares - 2 * places[block] @ places.T, 0)
        out[block] = np.sqrt(np.partition(apart, count, axis=1)[:, 1 : count + 1]).mean(axis=1)
    return out


def _main_directions(vectors: Floats) -> Floats:
    """Return the vectors in their directions of most variance, float64 [N, D]."""
    centred = vectors - vectors.mean(axis=0)
    if len(centred) > centred.shape[1]:
        _, directions = np.linalg.eigh(centred.T @ centred)
        return np.asarray(centred @ directions[:, -_DIRECTIONS:])
    squares, units = np.linalg.eigh(centred @ centred.T)
    return np.asarray(units * np.sqrt(np.maximum(squares, 0)))[:, -_DIRECTIONS:]


def _means(unit: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], values: Floats) -> Floats:
    """Return the means of values over the rows of each unit: float64 [N, …] of [B, …]."""
    total = np.zeros((len(rows), *values.shape[1:]))
    np.add.at(total, unit, values)
    return total / rows[:, None]


def _random(*parts: object) -> np.random.Generator:
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "replace"), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "big")))
