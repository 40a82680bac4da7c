"""Groups of students: the figures of each, its gaps to the other students, and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from scoremux_assess.conclusions.fairness import NAMES, Fairness, explained
from scoremux_assess.conclusions.level_gaps import LevelGaps, joined_gaps
from scoremux_assess.conclusions.verdicts import GAPS, OF_GROUPS, Criterion, Judgement, Verdict, judge
from scoremux_assess.labels.joined_columns import JoinedColumns
from scoremux_assess.labels.ratings import Ints, Mask, Ratings, kinds
from scoremux_assess.statistics.agreement import BY_NAME
from scoremux_assess.statistics.estimates import Figures, difference, joined_estimates, mean_of
from scoremux_assess.statistics.intervals import dsm_estimates, estimates
from scoremux_client.errors import InputError

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
        levels: Those of the groups of tasks.
        students: How many students, or rows of which this is not known, each has.
    """

    column: tuple[str, ...]
    value: tuple[str, ...]
    task: Ints
    figures: Figures
    means: Figures
    judged: dict[Criterion, Judgement]
    levels: LevelGaps
    students: Ints

    def of_all(self) -> Ints:
        """Return the cells of the groups of all rows."""
        return np.flatnonzero(self.task < 0)

    def worst_by_task(self, cells: int) -> Iterator[tuple[Criterion, Judgement]]:
        """Yield the worst verdict of each task's groups by criterion, with the rows of the task that would decide."""
        of_tasks, rows = self.task >= 0, self.figures["dsm"].n
        task = self.task[of_tasks]
        share = rows[of_tasks] / np.bincount(task, rows[of_tasks], cells)[task]
        for criterion, judgement in self.judged.items():
            verdicts, needed = judgement.verdict[of_tasks], np.zeros(cells)
            measured = verdicts != Verdict.NOT_MEASURED
            verdict = np.full(cells, Verdict.PASS, np.int8)
            np.minimum.at(verdict, task[measured], verdicts[measured])
            verdict[np.bincount(task[measured], minlength=cells) == 0] = Verdict.NOT_MEASURED
            undecided = verdicts == Verdict.NOT_ENOUGH_ROWS
            with np.errstate(invalid="ignore"):
                np.maximum.at(needed, task, np.where(undecided, np.ceil(judgement.needed[of_tasks] / share), 0))
            p_pass, p_fail = np.zeros(cells), np.ones(cells)
            np.maximum.at(p_pass, task[measured], judgement.p_pass[of_tasks][measured])
            np.minimum.at(p_fail, task[measured], judgement.p_fail[of_tasks][measured])
            yield criterion, Judgement(verdict, needed, p_pass, p_fail)

    def with_verdicts(self, judged: Mapping[Criterion, Judgement]) -> Groups:
        """Return the same groups with other verdicts on their criteria."""
        return replace(self, judged={c: judged[c] for c in self.judged})


def measure_groups(joined: JoinedColumns, task: Ints, criteria: Sequence[Criterion]) -> Groups | None:
    """Return the statistics of each group of each task and of all rows; None without a column of groups."""
    names: list[tuple[str, str]] = []
    tasks: list[Ints] = []
    students: list[Ints] = []
    parts: list[Figures] = []
    gaps: list[LevelGaps] = []
    firsts: list[int] = []
    for column, codes in joined.truth.groups.items():
        if len(codes.values) > MOST_GROUPS:
            raise InputError(f"the column {column} has {len(codes.values):,} values; groups are {MOST_GROUPS} at most")
        members = _Members.of(joined.ratings, task, codes.code, joined.students())
        gaps.append(LevelGaps.of(members.ratings, members.cell, members.group, members.student))
        firsts.append(len(names))
        for cell, group, count, figures in (members.figures(), members.of_all().figures(task=-1)):
            names += [(column, codes.values[code]) for code in group]
            tasks.append(cell)
            students.append(count)
            parts.append(figures)
    if not names:  # columns may have no value
        return None
    joined_figures = {name: joined_estimates([part[name] for part in parts]) for name in parts[0]}
    judged = {c: judge(c, joined_figures[c.statistic]) for c in criteria if c.of == "group"}
    levels = joined_gaps(gaps, firsts)
    all_tasks = np.concatenate(tasks)
    columns, values = zip(*names, strict=True)
    cells = [
        np.flatnonzero([name == names[place] for name in names] & (all_tasks >= 0))
        for place in np.flatnonzero(all_tasks < 0)
    ]
    means = {
        n: joined_estimates([mean_of(figure.take(part)) for part in cells]) for n, figure in joined_figures.items()
    }
    return Groups(columns, values, all_tasks, joined_figures, means, judged, levels, np.concatenate(students))


def fairness_by_column(joined: JoinedColumns, task: Ints, cells: int) -> Fairness | None:
    """Return how much of the error each column of groups explains, in each task and in all rows."""
    parts: list[tuple[str, int, dict[str, float], float]] = []
    for column, codes in joined.truth.groups.items():
        members = _Members.of(joined.ratings, task, codes.code, None)
        inside = members.take(members.group >= 0)
        for place in range(-1, cells):
            rows = inside if place < 0 else inside.take(inside.cell == place)
            if len(np.unique(rows.group)) > 1:
                figures = explained(rows.ratings, rows.group)
                parts.append((column, place, figures, float(rows.ratings.rows.sum())))
    if not parts:
        return None
    columns, places, values, counts = zip(*parts, strict=True)
    by_name = {name: np.array([figures[name] for figures in values]) for name in NAMES}
    return Fairness(columns, np.array(places), by_name, np.array(counts))


@dataclass(frozen=True)
class _Members:
    """Rows, or kinds of rows, with the cell and the group that each is in (−1: none)."""

    ratings: Ratings
    cell: Ints
    group: Ints
    student: Ints | None

    @classmethod
    def of(cls, ratings: Ratings, cell: Ints, group: npt.NDArray[np.int32], student: Ints | None) -> _Members:
        if student is not None:
            return cls(ratings, cell, group.astype(np.int64), student)
        groups = int(group.max(initial=-1)) + 2
        rows, pair = kinds(ratings, cell * groups + group + 1)
        return cls(rows, pair // groups, pair % groups - 1, None)

    def of_all(self) -> _Members:
        """Return the same rows in one cell."""
        return _Members(self.ratings, np.zeros_like(self.cell), self.group, self.student)

    def figures(self, task: int | None = None) -> tuple[Ints, Ints, Ints, Figures]:
        """Return cell, value, students and statistics of each group that some row is in; task: in place of the cell."""
        width, inside = int(self.group.max(initial=0)) + 1, self.group >= 0
        pairs, place = np.unique(self.cell[inside] * width + self.group[inside], return_inverse=True)
        grouped = self.take(inside)
        chosen, of_gaps = ([BY_NAME[name] for name in names] for names in (OF_GROUPS, GAPS.values()))
        figures = estimates(chosen, grouped.ratings, place.reshape(-1), len(pairs), grouped.student)
        cell, value = pairs // width, pairs % width
        parts, order = [], []
        for group in range(width):
            cells = np.flatnonzero(value == group)
            at = np.full(int(self.cell.max(initial=0)) + 1, -1)
            at[cell[cells]] = np.arange(len(cells))
            rows = self.take(at[self.cell] >= 0)
            dsm = dsm_estimates(rows.ratings, at[rows.cell], rows.group == group, len(cells), rows.student)
            others = rows.take((rows.group >= 0) & (rows.group != group))
            rest = estimates(of_gaps, others.ratings, at[others.cell], len(cells), others.student)
            gaps = {gap: difference(figures[name].take(cells), rest[name]) for gap, name in GAPS.items()}
            parts.append({"dsm": dsm, **gaps})
            order.append(cells)
        sorted_cells = np.argsort(np.concatenate(order))
        compared = {name: joined_estimates([part[name] for part in parts]).take(sorted_cells) for name in parts[0]}
        who = np.stack([place.reshape(-1), np.arange(len(place)) if grouped.student is None else grouped.student])
        once, first = np.unique(who, axis=1, return_index=True)
        rows_of = grouped.ratings.rows[first] if grouped.student is None else np.ones(len(first))
        count = np.bincount(once[0], rows_of, len(pairs)).astype(np.int64)
        return cell if task is None else np.full(len(cell), task), value, count, {**figures, **compared}

    def take(self, rows: Mask) -> _Members:
        student = None if self.student is None else self.student[rows]
        return _Members(self.ratings.take(rows), self.cell[rows], self.group[rows], student)
