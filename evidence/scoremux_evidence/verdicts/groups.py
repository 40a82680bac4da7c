"""Groups of students: the figures of each, its gaps to the other students, and verdicts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from scoremux_client.errors import InputError
from scoremux_evidence.figures.estimates import Figures, difference, joined_figures, means_of, taken
from scoremux_evidence.figures.intervals import dsm_estimates, estimates
from scoremux_evidence.rows.matching import Matched
from scoremux_evidence.rows.table import LEAST_STUDENTS, Ints, Rows, students_in, undefined
from scoremux_evidence.verdicts.verdicts import GAPS, OF_GROUPS, Criterion, Judged, Judgement, Verdict, judge

MOST_GROUPS = 64
"""Values that a column of groups may have."""


@dataclass(frozen=True)
class Groups:
    """Groups of students, one a cell.

    Attributes:
        column, value: A column of the truth and its value.
        task: The group's task, a place among those of the assessment; −1 for all rows.
        figures: With `dsm` and those of `GAPS`.
        means: Means over tasks of the groups of all rows, in their order.
        students: How many students, or rows of which this is not known, each has.
    """

    column: tuple[str, ...]
    value: tuple[str, ...]
    task: Ints
    figures: Figures
    means: Figures
    judged: Judged
    students: Ints

    def of_all(self) -> Ints:
        """Return the cells of the groups of all rows."""
        return np.flatnonzero(self.task < 0)

    def worst_by_task(self, cells: int) -> Iterator[tuple[Criterion, Judgement]]:
        """Yield the worst verdict of each task's groups by criterion, with the rows of the task that would decide."""
        if not self.judged:
            return
        of_tasks = self.task >= 0
        rows = self.figures["dsm"].n
        of_task = np.bincount(self.task[of_tasks], rows[of_tasks], cells)
        for criterion, judgement in self.judged.items():
            measured = of_tasks & (judgement.verdict != Verdict.NOT_MEASURED)
            task = self.task[measured]
            part = judgement.take(measured)
            verdict = np.full(cells, Verdict.PASS, np.int8)
            np.minimum.at(verdict, task, part.verdict)
            verdict[np.bincount(task, minlength=cells) == 0] = Verdict.NOT_MEASURED
            needed = np.zeros(cells)
            with undefined():
                share = rows[measured] / of_task[task]
                rows_of_task = np.ceil(part.needed / share)
            np.maximum.at(needed, task, np.where(part.verdict == Verdict.NOT_ENOUGH_ROWS, rows_of_task, 0))
            p_pass = np.zeros(cells)
            p_fail = np.ones(cells)
            np.maximum.at(p_pass, task, part.p_pass)
            np.minimum.at(p_fail, task, part.p_fail)
            yield criterion, Judgement(verdict, needed, p_pass, p_fail)


_NOBODY = np.zeros(0, np.int64)
NO_GROUPS = Groups((), (), _NOBODY, {}, {}, {}, _NOBODY)


def measure_groups(matched: Matched, task: Ints, criteria: Sequence[Criterion]) -> Groups:
    """Return the statistics of each group of each task and of all rows."""
    names: list[tuple[str, str]] = []
    tasks = []
    students = []
    parts = []
    for column, codes in matched.groups.items():
        if len(codes.values) > MOST_GROUPS:
            raise InputError(f"the column {column} has {len(codes.values):,} values; groups are {MOST_GROUPS} at most")
        rows = matched.rated.plus(cell=task, group=codes.code)
        for members, first in ((rows, 0), (rows.plus(cell=np.zeros_like(task)), -1)):
            cell, group, count, figures = _figures(members)
            names += [(column, codes.values[code]) for code in group]
            tasks.append(cell + first)
            students.append(count)
            parts.append(figures)
    if not names:  # columns may have no value
        return NO_GROUPS
    columns, values = zip(*names, strict=True)
    figures = joined_figures(parts)
    of_task = np.concatenate(tasks)
    means = []
    for place in np.flatnonzero(of_task < 0):
        is_same = np.array([name == names[place] for name in names])
        means.append(means_of(taken(figures, np.flatnonzero(is_same & (of_task >= 0)))))
    return Groups(
        column=columns,
        value=values,
        task=of_task,
        figures=figures,
        means=joined_figures(means),
        judged={c: judge(c, figures[c.statistic]) for c in criteria if c.of == "group"},
        students=np.concatenate(students),
    )


def _figures(rows: Rows) -> tuple[Ints, Ints, Ints, Figures]:
    """Return cell, value, students and statistics of each group that some row is in.

    rows: with the columns cell and group (−1: in no group).
    """
    width = int(rows.group.max(initial=0)) + 1
    grouped = rows.where(rows.group >= 0)
    pairs, place = np.unique(grouped.cell * width + grouped.group, return_inverse=True)
    figures = estimates(OF_GROUPS, grouped, place, len(pairs))
    cell, value = np.divmod(pairs, width)
    parts = []
    order = []
    for group in range(width):
        cells = np.flatnonzero(value == group)
        at = np.full(int(rows.cell.max(initial=0)) + 1, -1)
        at[cell[cells]] = np.arange(len(cells))
        beside = rows.where(at[rows.cell] >= 0)
        dsm = dsm_estimates(beside, at[beside.cell], beside.group == group, len(cells))
        others = beside.where((beside.group >= 0) & (beside.group != group))
        rest = estimates(GAPS.values(), others, at[others.cell], len(cells))
        # A group's figure less its gap is the figure of the others.
        few = students_in(at[others.cell], len(cells), others.get("student")) < LEAST_STUDENTS
        gaps = {gap: difference(figures[name].take(cells), rest[name]).without(few) for gap, name in GAPS.items()}
        parts.append({"dsm": dsm, **gaps})
        order.append(cells)
    every = figures | taken(joined_figures(parts), np.argsort(np.concatenate(order)))
    count = students_in(place, len(pairs), grouped.get("student"))
    return cell, value, count, {name: estimate.without(count < LEAST_STUDENTS) for name, estimate in every.items()}
