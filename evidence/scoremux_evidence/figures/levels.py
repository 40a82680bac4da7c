"""Figures by level: confusion tables and agreement."""

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
    """

    levels: range
    confusion: Ints
    humans: Ints
    exact: Estimates


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
    at = zero[task] + np.rint(ratings.human).astype(np.int64)
    exact = estimates(["exact"], ratings, at, int(first[-1]))["exact"]
    ends = pairwise(first.tolist())
    return [
        LevelFigures(scale, _table(of, of.machine, scale), _table(of, of.second, scale), exact.take(np.arange(*part)))
        for of, scale, part in zip(parts, scales, ends, strict=True)
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
