"""Students' totals over the tasks of a form: what the machine changes in them, and in who passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoremux_assess.labels.joined_columns import JoinedColumns
from scoremux_assess.labels.points import evenly_spaced
from scoremux_assess.labels.ratings import Floats, Ints, Ratings
from scoremux_assess.statistics.agreement import BY_NAME
from scoremux_assess.statistics.estimates import Estimates, Figures
from scoremux_assess.statistics.intervals import estimates

FIGURES = ("smd", "qwk", "r")
_FEWEST = 10


@dataclass(frozen=True)
class Totals:
    """Totals of the students who have one row in each task, not weighted.

    Attributes:
        by: `people`, `machine`, and `as routed` where the machine keeps some rows only → a total for each student.
        figures: Of the machine's totals, and of those as routed, beside those of people; one cell.
        cuts: What a student of each tenth has at least, by people.
        same: The share of students who pass and fail at each cut as they do by people.
    """

    by: dict[str, Floats]
    figures: dict[str, Figures]
    cuts: Floats
    same: dict[str, Estimates]

    def moments(self, name: str) -> tuple[float, float]:
        """Return mean and standard deviation (÷ N − 1)."""
        return float(self.by[name].mean()), float(self.by[name].std(ddof=1))

    def passing(self, name: str) -> Floats:
        """Return the share of students who have the total of each cut."""
        return np.asarray((self.by[name] >= self.cuts[:, None]).mean(axis=1))


def measure_totals(joined: JoinedColumns, task: Ints, cells: int) -> Totals | None:
    """Return the totals, in points where the output has them, else in levels; None for fewer than 10 students."""
    student, ratings = joined.students(), joined.ratings
    if student is None or cells < 2:
        return None
    tasks_of = np.bincount(np.unique(student * cells + task) // cells)
    complete = (tasks_of == cells) & (np.bincount(student) == cells)
    if complete.sum() < _FEWEST:
        return None
    machine, human = _in_points(joined)
    scores = {"people": human, "machine": machine}
    if (ratings.kept == 0).any():
        scores["as routed"] = np.where(ratings.kept == 1, machine, human)
    by = {name: np.bincount(student, score)[complete] for name, score in scores.items()}
    cuts = np.unique(np.quantile(by["people"], np.arange(1, 10) / 10, method="higher"))
    one, place = np.zeros(int(complete.sum()), np.int64), np.repeat(np.arange(len(cuts)), complete.sum())
    figures, same = {}, {}
    for name in list(by)[1:]:
        figures[name] = estimates([BY_NAME[f] for f in FIGURES], Ratings.of(by["people"], by[name]), one, 1)
        passes = Ratings.of(*((by[who] >= cuts[:, None]).ravel() for who in ("people", name)))
        same[name] = estimates([BY_NAME["exact"]], passes, place, len(cuts))["exact"]
    return Totals(by, figures, cuts, same)


def _in_points(joined: JoinedColumns) -> tuple[Floats, Floats]:
    """Return the points of machine and people; of a task with a level whose points are unknown, the levels of both."""
    points = np.stack([joined.ratings.machine, joined.ratings.human])
    for code in np.unique(joined.scored.task.code):
        rows, of_levels = joined.scored.task.code == code, evenly_spaced(joined.points[code])
        known, levels = np.flatnonzero(np.isfinite(of_levels)), np.maximum(points[:, rows], 0)
        if np.isin([np.floor(levels), np.ceil(levels)], known).all():
            points[:, rows] = np.interp(levels, known, of_levels[known])
    return points[0], points[1]
