"""Figures by level: confusion tables, agreement, and the standard error of measurement.

A human's error at a level is Thorndike's (1951): half the mean squared difference of two humans, where their mean is
that level; a mean between two levels counts half at each. The machine's is its mean squared distance from true scores
where it gives that level: that from one human, less the error of a human there (Loukina et al. 2020, as in PRMSE).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scoremux_evidence.figures.estimates import Estimates
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.rows.table import Floats, Ints, Rows


@dataclass(frozen=True)
class LevelFigures:
    """Figures of each level of a task, L of them.

    Attributes:
        levels: The levels: from 0, or from the lowest that a human gave.
        confusion: Rows by level of the human and of the machine, as they are: not weighted, [L, L].
        humans: Rows by level of the first and of the second human, [L, L].
        exact: Exact agreement of machine and human where the human gave each level.
        sem: The standard error of measurement of a human at each level.
        machine_sem: That of the machine where it gives each level.
    """

    levels: range
    confusion: Ints
    humans: Ints
    exact: Estimates
    sem: Estimates
    machine_sem: Estimates


def measure_levels(ratings: Rows, task: Ints, most: Sequence[int | None]) -> list[LevelFigures]:
    """Return the figures of each task.

    Args:
        most: How many levels each task has; None where that is not known.
    """
    parts = [ratings.where(task == place) for place in range(len(most))]
    scales = [_scale(part, count) for part, count in zip(parts, most, strict=True)]
    first = np.cumsum([0, *map(len, scales)])
    # The place of level 0 of each task among the levels of all.
    zero = first[:-1] - np.array([scale.start for scale in scales])
    double = ~np.isnan(ratings.second)
    mean = (ratings.human + np.where(double, ratings.second, 0.0)) / 2
    floor = np.floor(mean)
    ceiling = np.ceil(mean)
    ends = np.concatenate([floor, ceiling])
    shares = np.concatenate([1.0 - (mean - floor), mean - floor])
    twice = np.tile(np.arange(len(ratings)), 2)
    counted = np.tile(double, 2) & (shares > 0)
    both = twice[counted]
    again = ratings.where(twice[counted])
    again = again.plus(weight=again.weight * shares[counted])

    def by_level(name: str, part: Rows, level: Floats, place: Ints) -> Estimates:
        at = zero[place] + np.rint(level).astype(np.int64)
        return estimates([name], part, at, int(first[-1]))[name]

    of_exact = by_level("exact", ratings, ratings.human, task)
    of_human = by_level("sem", again, ends[counted], task[both])
    of_machine = by_level("machine_sem", ratings, ratings.machine, task)
    return [
        LevelFigures(
            scale,
            _table(part, part.machine, scale),
            _table(part, part.second, scale),
            *(of.take(np.arange(start, end)) for of in (of_exact, of_human, of_machine)),
        )
        for part, scale, (start, end) in zip(parts, scales, pairwise(first.tolist()), strict=True)
    ]


def _scale(rows: Rows, count: int | None) -> range:
    """Return the levels of a task, of which a human may have given lower ones."""
    levels = np.concatenate([rows.human, rows.second[~np.isnan(rows.second)]])
    highest = max(float(levels.max(initial=0)), float(rows.machine.max(initial=0)))
    return range(int(np.rint(levels.min(initial=0))), int(np.rint(highest)) + 1 if count is None else count)


def _table(ratings: Rows, other: Floats, scale: range) -> Ints:
    """Return rows by level of the human and of another rater, [L, L]; those without the other's level are left out."""
    both = ~np.isnan(other)
    levels = len(scale)
    human = np.rint(ratings.human[both]) - scale.start
    at = human * levels + np.rint(other[both]) - scale.start
    return np.bincount(at.astype(np.int64), minlength=levels**2).reshape(levels, levels)
