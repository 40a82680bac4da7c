"""Non-uniform DIF: whether a machine favours a group at some levels and disfavours it at others.

The gap at a level is the mean of machine − human over a group's rows that have this human level, minus that over the
other students' rows that have it, in standard deviations of the task's human levels. DSM judges a group's mean; here,
the distance of the gap at a level from the mean of the group's gaps is judged. Gaps of few rows on either side weigh
less: else their chance errors would be in the mean. Errors of people alone give a group with lower levels a lower gap,
at all levels nearly alike on an item of middling difficulty: the mean has that too, and the distance from it does not.
On a hard item the gaps of a fair machine differ by level, so no verdict rests on them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from scoremux_evidence.figures.agreement import SEVERITY, x_deviation
from scoremux_evidence.figures.estimates import Estimates, difference, joined_estimates
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.rows.ratings import Floats, Ints, Mask, Pair, Ratings, sums, undefined


@dataclass(frozen=True)
class LevelGaps:
    """Levels of groups of tasks, one a cell.

    Attributes:
        group: A place among the groups of all tasks, which are in the order of tasks and within them of groups.
        gap: The gap at the level.
        beyond: Its distance from the mean of the group's gaps; n: rows of the group or, if fewer, of the others.
    """

    group: Ints
    level: Ints
    gap: Floats
    beyond: Estimates

    @classmethod
    def of(cls, ratings: Ratings, task: Ints, group: Ints) -> "LevelGaps":
        """Measure the gaps of each level that a group and other students of a task have.

        Args:
            group: The group of each row, −1 for none, [B].
        """
        rated = replace(ratings, human=np.rint(ratings.human))
        cells = int(task.max(initial=0)) + 1
        deviation = x_deviation(sums(rated, task, cells, [Pair.MACHINE]).of(Pair.MACHINE))
        with undefined():
            return joined_gaps([*_by_group(rated, task, group, deviation)])


def joined_gaps(parts: list[LevelGaps]) -> LevelGaps:
    """Return the cells of all parts."""
    group, level, gap = (np.concatenate([getattr(part, name) for part in parts]) for name in ("group", "level", "gap"))
    return LevelGaps(
        group,
        level,
        gap,
        joined_estimates([part.beyond for part in parts]),
    )


def _by_group(
    ratings: Ratings,
    task: Ints,
    group: Ints,
    deviation: Floats,
) -> Iterator[LevelGaps]:
    """Yield the gaps of one group in all tasks after the other. deviation: of each task's human levels."""
    width = int(group.max(initial=0)) + 1
    lowest = int(ratings.human.min(initial=0))
    levels = int(ratings.human.max(initial=0)) + 1 - lowest
    key = task * levels + ratings.human.astype(np.int64) - lowest
    pairs = np.unique((task * width + group)[group >= 0])
    for number in range(width):
        in_group = group == number
        in_others = (group >= 0) & ~in_group
        used = np.intersect1d(key[in_group], key[in_others])
        one = _severity(ratings, key, used, in_group)
        rest = _severity(ratings, key, used, in_others)
        gap = difference(one, rest)
        of_task = used // levels
        scale = deviation[of_task]
        beyond = _beyond(gap, one.n * rest.n / (one.n + rest.n), of_task)
        yield LevelGaps(
            group=np.searchsorted(pairs, of_task * width + number),
            level=used % levels + lowest,
            gap=gap.value / scale,
            beyond=replace(
                beyond,
                value=beyond.value / scale,
                low=beyond.low / scale,
                high=beyond.high / scale,
                n=np.minimum(one.n, rest.n),
            ),
        )


def _severity(ratings: Ratings, key: Ints, used: Ints, side: Mask) -> Estimates:
    """Return the mean of machine − human at each used level of each task. side: a group, or the others."""
    rows = side & np.isin(key, used)
    cell = np.searchsorted(used, key[rows])
    return estimates([SEVERITY], ratings.take(rows), cell, len(used))["severity"]


def _beyond(gap: Estimates, weight: Floats, task: Ints) -> Estimates:
    """Return how far gaps are from their weighted mean in each task, with intervals; NaN for a task's only gap."""
    weight = np.where(np.isnan(gap.low), 0, weight)
    share = weight / np.bincount(task, weight)[task]
    value = gap.value - np.bincount(task, share * gap.value)[task]
    value[share == 1] = np.nan

    def half(side: Floats, other_side: Floats) -> Floats:
        of_others = np.nan_to_num(share * other_side) ** 2
        return np.asarray(np.sqrt(((1 - share) * side) ** 2 + np.bincount(task, of_others)[task] - of_others))

    below = gap.value - gap.low
    above = gap.high - gap.value
    return replace(
        gap,
        value=value,
        low=value - half(below, above),
        high=value + half(above, below),
    )
