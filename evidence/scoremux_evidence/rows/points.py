"""Points that levels stand for, as far as scored rows show them, and the levels that points stand for."""

from itertools import pairwise

import numpy as np

from scoremux_evidence.rows.ratings import Floats
from scoremux_files.rows.columns import Ints32

_MOST_LEVELS = 0.05
"""Share of numbers that can only be levels, above which the others are not points."""

DIGITS = 4
"""Decimals of points that count."""


def shown_points(
    task: Ints32,
    level: Floats,
    score: Floats,
    levels: Ints32,
) -> Floats:
    """Return the points of each task's levels as scored rows show them, NaN where they are not known, [T, L].

    levels: How many each task has. A level that has other points in another version of its task has inf.
    """
    shown = (level >= 0) & (level < np.append(levels, 0)[task]) & ~np.isnan(score)
    task = task[shown]
    place = level[shown].astype(int)
    worth = np.round(score[shown], DIGITS)
    points = np.full((len(levels), levels.max(initial=0)), np.nan)
    points[task, place] = worth
    other = points[task, place] != worth
    points[task[other], place[other]] = np.inf
    return points


def evenly_spaced(points: Floats) -> Floats:
    """Return the points of all of a task's levels if the known ones are evenly spaced, else those that are known."""
    level = np.flatnonzero(np.isfinite(points))
    if len(level) < 2 or np.isinf(points).any():
        return points
    first, *_, last = level
    step = (points[last] - points[first]) / (last - first)
    even = points[first] + step * (np.arange(len(points)) - first)
    return even if np.allclose(points[level], even[level], atol=10.0**-DIGITS) else points


def filled(points: Floats, human_points: Floats) -> Floats:
    """Return the points of a task's levels with those that people gave where they are not known, [L].

    Points that people gave twice fill a gap between known levels if they are as many, and people gave known ones too.
    """
    given = human_points[~np.isnan(human_points)]
    others, times = np.unique(np.round(given, DIGITS), return_counts=True)
    points, others, ends = points.copy(), others[times > 1], [-np.inf, *points, np.inf]
    for low, high in pairwise(np.flatnonzero(~np.isnan(ends)).tolist()):
        between = others[(others > ends[low]) & (others < ends[high])]
        if len(between) == high - low - 1 and np.isin(others, points).any():
            points[low : high - 1] = between
    return points


def holds_points(numbers: Floats, points: Floats, levels: int) -> bool:
    """Return whether people's numbers for a task are its points: some can be nothing else, and few are levels alone.

    Args:
        numbers: The numbers that people gave, [B].
        points: The points of the task's levels that are known.
        levels: How many levels the task has.
    """
    is_point = np.isin(np.round(numbers, DIGITS), np.round(points[:levels], DIGITS))
    in_scale = (numbers >= 0) & (numbers <= levels - 1)
    is_level = in_scale & (numbers == np.floor(numbers))
    only_points = int((is_point & ~is_level).sum())
    only_levels = int((in_scale & ~is_point).sum())
    return only_points > only_levels and only_levels <= _MOST_LEVELS * len(numbers)
