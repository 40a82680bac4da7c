"""Points that levels stand for, as far as scored rows show them, and the levels that points stand for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_assess.labels.ratings import Floats, Mask
from scoremux_files.errors import InputError

_MOST_LEVELS = 0.05
"""Share of numbers that can only be levels, above which the others are no points."""

_DIGITS = 4


def points_of(level: Floats, score: Floats, levels: int) -> Floats:
    """Return the points of a task's levels that its scored rows show; where they are evenly spaced, those of all.

    Args:
        level, score: Of the task's rows, NaN without a score, [B].
        levels: How many levels the task has, 0 where that is not known.
    """
    complete = ~np.isnan(level) & ~np.isnan(score)
    distinct, places = np.unique(level[complete], return_index=True)
    points = np.asarray(score[complete][places], np.float64)
    if len(distinct) < 2:
        return points
    step = (points[-1] - points[0]) / (distinct[-1] - distinct[0])
    if not np.allclose(points, points[0] + step * (distinct - distinct[0]), atol=10.0**-_DIGITS):
        return points
    return np.asarray(points[0] + step * (np.arange(max(levels, int(distinct[-1]) + 1)) - distinct[0]), np.float64)


def shown_points(task: npt.NDArray[Any], level: Floats, score: Floats, levels: npt.NDArray[Any]) -> Floats:
    """Return the points of each task's levels as scored rows show them, NaN where they are not known, [T, L].

    levels: How many each task has. Raises InputError where a level has different points.
    """
    shown = (level >= 0) & (level < np.append(levels, 0)[task]) & ~np.isnan(score)
    places, worth = (task[shown], level[shown].astype(int)), np.round(score[shown], _DIGITS)
    points = np.full((len(levels), levels.max(initial=0)), np.nan)
    points[places] = worth
    if (points[places] != worth).any():
        raise InputError("versions of a task in the output have levels of different points: give levels, not points")
    return points


def filled(points: Floats, human_points: Floats) -> Floats:
    """Return the points of a task's levels with those that people gave where they are not known, [L].

    Points that people gave twice fill a gap between known levels if they are as many, and people gave known ones too.
    """
    others, times = np.unique(np.round(human_points[~np.isnan(human_points)], _DIGITS), return_counts=True)
    points, others, ends = points.copy(), others[times > 1], [-np.inf, *points, np.inf]
    for low, high in pairwise(np.flatnonzero(~np.isnan(ends)).tolist()):
        between = others[(others > ends[low]) & (others < ends[high])]
        if len(between) == high - low - 1 and np.isin(others, points).any():
            points[low : high - 1] = between
    return points


def level_worth(points: Iterable[float], number: float) -> float:
    """Return the level that has some points, NaN where none has. points: of level 0, 1, …"""
    return next((float(n) for n, value in enumerate(points) if abs(value - number) < 10.0**-_DIGITS), math.nan)


def holds_points(numbers: Floats, points: Floats, levels: int) -> bool:
    """Return whether what humans gave a task are its points: some can be nothing else, and few are levels alone.

    Args:
        numbers: The numbers that people gave, [B].
        points: The points of the task's levels that are known.
        levels: How many levels the task has.
    """
    is_point: Mask = np.isin(np.round(numbers, _DIGITS), np.round(points, _DIGITS))
    in_scale = (numbers >= 0) & (numbers <= levels - 1)
    only_points = int((is_point & ~(in_scale & (numbers == np.floor(numbers)))).sum())
    only_levels = int((in_scale & ~is_point).sum())
    return only_points > only_levels and only_levels <= _MOST_LEVELS * len(numbers)


def tasks_beyond_levels(task: npt.NDArray[Any], numbers: Floats, levels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the tasks of which humans gave some number that is not a level. levels: how many each task has."""
    return np.asarray(np.unique(task[(numbers != np.floor(numbers)) | (numbers < 0) | (numbers >= levels[task])]))
