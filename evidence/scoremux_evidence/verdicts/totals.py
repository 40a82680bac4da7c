"""Students' totals over the tasks of a form: how the machine changes them, and who passes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scoremux_evidence.figures.estimates import Estimates, Figures
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.rows.matching import Matched
from scoremux_evidence.rows.points import evenly_spaced
from scoremux_evidence.rows.table import LEAST_STUDENTS, Floats, Ints, rated
from scoremux_evidence.rows.weighing import ROUTE, chosen

FIGURES = ("smd", "qwk", "r")


CHOSEN_ROWS = (
    "Totals and pass rates need students whose every row was read. Rows of this file were chosen (routes, read-behind, "
    "a sample): of students with all rows, the machine is unsure of every answer."
)


@dataclass(frozen=True)
class Totals:
    """Totals of the students who have one row in each task, not weighted.

    Attributes:
        by: Whose totals, for each student. `as routed` and `the same people`: of students whose rows two people read.
        figures: Of the machine's totals beside those of people; and of those as routed, and of the same people, beside
            those of the second person; one cell.
        students: How many students there are, with and without a row in each task.
        cuts: Totals from which students pass: by default the least of each tenth, by people.
        same: The share of students who pass and fail at each cut as they do by the other person.
    """

    by: dict[str, Floats]
    figures: dict[str, Figures]
    cuts: Floats
    same: dict[str, Estimates]
    students: int

    def moments(self, name: str) -> tuple[float, float]:
        """Return mean and standard deviation (÷ N − 1)."""
        return float(self.by[name].mean()), float(self.by[name].std(ddof=1))

    def passing(self, name: str) -> Floats:
        """Return the share of students who have the total of each cut."""
        return np.asarray((self.by[name] >= self.cuts[:, None]).mean(axis=1))


def measure_totals(matched: Matched, task: Ints, cells: int, own_cuts: Sequence[float] = ()) -> Totals | str:
    """Return totals, in points where the output has them, else in levels; or why there are none.

    The reason is empty without students, or with one task. own_cuts: Of the programme, in place of tenths.
    """
    rows = matched.rows
    student = rows.get("student")
    if student is None or cells < 2:
        return ""
    if _is_chosen(matched):
        return CHOSEN_ROWS
    tasks_of = np.bincount(np.unique(student * cells + task) // cells)
    complete = (tasks_of == cells) & (np.bincount(student) == cells)
    if complete.sum() < LEAST_STUDENTS:
        return (
            f"Totals need {LEAST_STUDENTS} students with one row in each task, and {complete.sum()} of "
            f"{len(np.unique(student))} have it. A student with rows of several administrations has several in a task."
        )
    machine, human, second = in_points(matched)
    people = np.bincount(student, human)
    tenths = np.quantile(people[complete], np.arange(1, 10) / 10, method="higher")
    cuts = np.unique(np.array(own_cuts) if len(own_cuts) else tenths)
    compared = {"machine": (np.bincount(student, machine)[complete], people[complete])}
    twice = complete & ~np.isnan(np.bincount(student, second))
    if (rows.kept == 0).any() and twice.sum() >= LEAST_STUDENTS:
        # A person is not compared with himself: both are beside another person.
        routed, other = (np.bincount(student, of) for of in (np.where(rows.kept == 1, machine, human), second))
        of_both = {"as routed": routed, "the same people": people}
        compared |= {name: (totals[twice], other[twice]) for name, totals in of_both.items()}
    figures = {}
    same = {}
    for name, (totals, others) in compared.items():
        one = np.zeros(len(totals), np.int64)
        place = np.repeat(np.arange(len(cuts)), len(totals))
        figures[name] = estimates(FIGURES, rated(others, totals), one, 1)
        passes = rated(*((of >= cuts[:, None]).ravel() for of in (others, totals)))
        same[name] = estimates(["exact"], passes, place, len(cuts))["exact"]
    by = {"people": people[complete], **{name: totals for name, (totals, _) in compared.items()}}
    return Totals(by, figures, cuts, same, len(np.unique(student)))


def _is_chosen(matched: Matched) -> bool:
    """Whether rows were chosen with a probability below 1, or some that the machine keeps were not read."""
    rows = matched.rows
    unread = matched.routes is not None and (rows.kept == 1).sum() < matched.routes[:, 0].sum()
    return bool((rows.weight_read != 1).any() or (chosen(rows, ROUTE).any() and unread))


def in_points(matched: Matched) -> Floats:
    """Return the points of machine, people and second people, [3, B]; levels of a task with unknown points."""
    task = matched.rows.task.code
    points: Floats = np.stack([matched.rows.machine, matched.rows.human, matched.rows.second])
    for code in np.unique(task):
        rows = task == code
        of_levels = evenly_spaced(matched.points[code])
        known = np.flatnonzero(np.isfinite(of_levels))
        levels = np.maximum(points[:, rows], 0)
        given = levels[~np.isnan(levels)]
        if np.isin([np.floor(given), np.ceil(given)], known).all():
            points[:, rows] = np.interp(levels, known, of_levels[known])
    return points
