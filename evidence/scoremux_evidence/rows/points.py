"""Points that levels stand for, as far as scored rows show them, and the levels that points stand for."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from scoremux_decide.total import Total
from scoremux_evidence.rows.table import Floats, Ints, Rows
from scoremux_evidence.rows.trained_rows import packages_of
from scoremux_files.rows.codes import Ints32
from scoremux_files.settings import read_json

_MOST_LEVELS = 0.05
"""Share of numbers that can only be levels, above which the others are not points."""

DIGITS = 4
"""Decimals of points that count."""


def shown_points(task: Ints32, level: Floats, score: Floats, levels: Ints32) -> Floats:
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


def published_points(store: Path | None, versions: Iterable[tuple[str, str]]) -> dict[str, Sequence[float]]:
    """Return the points of the levels of tasks whose versions are in a store and agree about them, by task.

    Args:
        store: REPO/store; None: nothing is known.
        versions: Tasks and the digests of their packages, such as ("essay-1.grammar", "9f…").

    Raises InputError where it is not a store, or a file there cannot be read.
    """
    found = dict[str, set[tuple[float, ...]]]()
    for task, described in _published(store, versions):
        traits = described.get("traits") or {}
        levels = traits.get(task.rpartition(".")[2], described).get("levels")
        found.setdefault(task, set()).add(tuple(levels or ()))
    return {task: scale for task, (scale, *others) in found.items() if scale and not others}


def published_totals(store: Path | None, versions: Iterable[tuple[str, str]]) -> dict[str, Total]:
    """Return the rule of each item's total, where its versions in a store agree about it. Raises as `published_points`.

    Args:
        versions: Traits and the digests of their packages.
    """
    found = dict[str, list[Total | None]]()
    for task, described in _published(store, versions):
        rule = described.get("total")
        found.setdefault(task.rpartition(".")[0], []).append(rule and Total.model_validate(rule))
    return {item: rule for item, (rule, *others) in found.items() if rule and all(one == rule for one in others)}


def _published(store: Path | None, versions: Iterable[tuple[str, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each task with the `task.json` of each of its versions that is in the store."""
    packages = packages_of(store) if store else Path()
    for task, version in versions if store else ():
        file = packages / version / "task.json"
        if version and file.exists():
            yield task, read_json(file)


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


def take_levels(rows: Rows, task: Ints, points: Sequence[Sequence[float]]) -> Rows:
    """Return rows that have points and no level with the levels of these points.

    Args:
        task: The place of each row's task in `points`, −1 where it has none there, [B].
        points: The points of level 0, 1, … of each task, NaN where they are not known.
    """
    level, second, score = rows.level.copy(), rows.second.copy(), rows.score.copy()
    no_level, no_second = rows.no_level.copy(), rows.no_second.copy()
    with_points = np.isnan(level) & ~np.isnan(score) & (task >= 0)
    for place in np.unique(task[with_points]):
        part = np.flatnonzero(with_points & (task == place))
        level[part] = _levels_worth(score[part], points[place])
        doubly = part[~np.isnan(second[part])]
        second[doubly] = _levels_worth(second[doubly], points[place])
        no_level[part] = np.isnan(level[part])
        no_second[doubly] |= np.isnan(second[doubly])
    score[with_points] = np.nan
    return rows.plus(level=level, second=second, score=score, no_level=no_level, no_second=no_second)


def _levels_worth(numbers: Floats, points: Sequence[float]) -> Floats:
    """Return the first level that has each number of points, NaN where no level has."""
    levels = np.full(len(numbers), np.nan)
    for level, value in reversed(list(enumerate(points))):
        levels[np.abs(numbers - value) < 10.0**-DIGITS] = level
    return levels
