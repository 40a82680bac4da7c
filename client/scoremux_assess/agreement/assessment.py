"""What a report says about scored rows with known levels: figures, intervals, verdicts, by task and group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from scoremux_assess.agreement.estimates import Estimates, joined_estimates, mean_of
from scoremux_assess.agreement.fairness import NAMES, Fairness, explained
from scoremux_assess.agreement.intervals import dsm_estimates, estimates
from scoremux_assess.agreement.joined_columns import JoinedColumns
from scoremux_assess.agreement.joining import UNKNOWN_LEVELS
from scoremux_assess.agreement.ratings import Floats, Ints, Mask, Ratings, kinds
from scoremux_assess.agreement.reliability import (
    RangeFigures,
    Reliability,
    Routing,
    measure_confidence,
    measure_ranges,
    measure_routing,
)
from scoremux_assess.agreement.statistics import BY_NAME, STATISTICS
from scoremux_assess.agreement.verdicts import Criterion, Judgement, Verdict, judge, worst
from scoremux_assess.decisions.policy import AgreementTarget
from scoremux_client.errors import InputError

MOST_GROUPS = 64
"""Values that a column of groups may have."""

MOST_DROPPED = 0.05
"""The greatest share of rows that may be left out of a task that passes, for what people gave them."""

Figures = dict[str, Estimates]
"""Statistic → its estimates by cell."""

_EXPECTED = ("qwk_expected", "r_expected")
_OF_GROUPS = ("exact", "qwk", "smd", "sd_ratio")


@dataclass(frozen=True)
class Groups:
    """Groups of students, one a cell.

    Attributes:
        column, value: A column of the truth and its value.
        task: The group's task, a place among those of the assessment; −1 for all rows.
        figures: With `dsm`.
        judged: By criterion.
    """

    column: tuple[str, ...]
    value: tuple[str, ...]
    task: Ints
    figures: Figures
    judged: dict[Criterion, Judgement]


@dataclass(frozen=True)
class Assessment:
    """What is known about each task.

    Attributes:
        tasks: Those with rows, sorted.
        criteria: What tasks must reach.
        figures: Of the tasks, and after them of all rows together.
        judged: The tasks, by criterion.
        overall: The verdict on all criteria of a task and its groups.
        item: The verdict on those of the item.
        dropped: The share of scored rows left out since the human's level is off the scale or not a number.
        groups: None without a column of groups.
        fairness: How much of the error each column of groups explains; None without any.
        confusion: Rows by level of the human and of the machine, int [L, L], by task.
        by_level: Exact agreement where the human gave each level, [L], by task.
        means: Means of the figures of all tasks.
        confidence: How sure the machine was.
        ranges: Of levels, around the machine's.
        routing: Where a policy stands.
        versions: The digests that scored each task's rows.
    """

    tasks: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    figures: Figures
    judged: dict[Criterion, Judgement]
    overall: Judgement
    item: Judgement
    dropped: Floats
    groups: Groups | None
    fairness: Fairness | None
    confusion: tuple[npt.NDArray[np.int64], ...]
    by_level: tuple[Estimates, ...]
    means: Figures
    confidence: Reliability
    ranges: RangeFigures
    routing: Routing
    versions: tuple[tuple[str, ...], ...]


def assess(joined: JoinedColumns, criteria: Sequence[Criterion], target: AgreementTarget | None = None) -> Assessment:
    """Return figures, intervals and verdicts.

    Args:
        joined: The rows.
        criteria: What tasks must reach.
        target: What a policy wants of the rows that the machine keeps, None without a policy.

    Raises:
        InputError: A column of groups has too many values.
    """
    scored, ratings = joined.scored, joined.ratings
    used = np.flatnonzero(np.bincount(scored.task.code, minlength=len(scored.task.values)))
    task, cells = np.searchsorted(used, scored.task.code), len(used)
    figures = _figures(ratings, task, cells, joined.students())
    of_tasks = {name: estimate.take(np.arange(cells)) for name, estimate in figures.items()}
    judged = {c: judge(c, of_tasks[c.statistic]) for c in criteria if c.of != "group"}
    groups = _groups(joined, task, [c for c in criteria if c.of == "group"])
    by_group = [] if groups is None else list(_worst_by_task(groups, cells))
    right = ratings.human == ratings.machine
    dropped = joined.dropped[used] / (joined.dropped[used] + np.bincount(task, minlength=cells))
    confidence, stated = (
        measure_confidence(c, right, ratings.weight, task, cells) for c in (scored.confidence, scored.stated)
    )
    return Assessment(
        tasks=tuple(scored.task.values[code] for code in used),
        criteria=tuple(criteria),
        figures=figures,
        judged=judged,
        overall=_unless_dropped(
            worst([*((c, j) for c, j in judged.items() if c.of == "task"), *by_group], cells), dropped
        ),
        item=worst(((c, j) for c, j in judged.items() if c.of == "item"), cells),
        dropped=dropped,
        groups=groups,
        fairness=_fairness(joined, task, cells),
        confusion=(confusion := tuple(_confusions(ratings, task, joined.levels[used]))),
        by_level=tuple(_by_level(ratings, task, [len(table) for table in confusion], joined.students())),
        means={name: mean_of(estimate) for name, estimate in of_tasks.items()},
        confidence=confidence,
        ranges=measure_ranges(scored.low, scored.high, ratings.human, ratings.weight, task, cells),
        routing=measure_routing(scored.to_people, right, ratings.weight, task, confidence, stated, target),
        versions=tuple(_versions(joined, task, cells)),
    )


def _unless_dropped(judgement: Judgement, dropped: Floats) -> Judgement:
    """Return the verdicts, but no PASS where more rows were left out than `MOST_DROPPED`."""
    verdict = np.where(dropped > MOST_DROPPED, np.minimum(judgement.verdict, Verdict.NOT_MEASURED), judgement.verdict)
    return Judgement(verdict.astype(np.int8), judgement.needed)


def _figures(ratings: Ratings, task: Ints, cells: int, student: Ints | None) -> Figures:
    """Return all statistics of each task, and of all rows."""
    levels = [s for s in STATISTICS if s.name not in _EXPECTED]
    expected = [BY_NAME[name] for name in _EXPECTED]
    rows, cell = kinds(ratings, task) if student is None else (ratings, task)
    parts = estimates(levels, rows, cell, cells, student) | estimates(expected, ratings, task, cells, student)
    cell, task = np.zeros_like(cell), np.zeros_like(task)
    whole = estimates(levels, rows, cell, 1, student) | estimates(expected, ratings, task, 1, student)
    return {s.name: joined_estimates([parts[s.name], whole[s.name]]) for s in STATISTICS}


def _groups(joined: JoinedColumns, task: Ints, criteria: Sequence[Criterion]) -> Groups | None:
    """Return the statistics of each group of each task and of all rows; None without a column of groups."""
    columns: list[str] = []
    values: list[str] = []
    tasks: list[Ints] = []
    parts: list[Figures] = []
    for column, codes in joined.known.groups.items():
        if len(codes.values) > MOST_GROUPS:
            raise InputError(f"the column {column} has {len(codes.values):,} values; groups are {MOST_GROUPS} at most")
        members = _Members.of(joined.ratings, task, codes.code, joined.students())
        for cell, group, figures in (members.figures(), members.of_all().figures(task=-1)):
            columns += [column] * len(group)
            values += [codes.values[code] for code in group]
            tasks.append(cell)
            parts.append(figures)
    if not parts:
        return None
    joined_figures = {name: joined_estimates([part[name] for part in parts]) for name in parts[0]}
    judged = {c: judge(c, joined_figures[c.statistic]) for c in criteria}
    return Groups(tuple(columns), tuple(values), np.concatenate(tasks), joined_figures, judged)


def _fairness(joined: JoinedColumns, task: Ints, cells: int) -> Fairness | None:
    """Return how much of the error each column of groups explains, in each task and in all rows."""
    columns: list[str] = []
    places: list[int] = []
    parts: list[dict[str, float]] = []
    counts: list[float] = []
    for column, codes in joined.known.groups.items():
        members = _Members.of(joined.ratings, task, codes.code, None)
        inside = members.take(members.group >= 0)
        for place in range(-1, cells):
            rows = inside if place < 0 else inside.take(inside.cell == place)
            if len(np.unique(rows.group)) > 1:
                columns.append(column)
                places.append(place)
                parts.append(explained(rows.ratings, rows.group))
                counts.append(float(rows.ratings.rows.sum()))
    if not parts:
        return None
    figures = {name: np.array([part[name] for part in parts]) for name in NAMES}
    return Fairness(tuple(columns), np.array(places), figures, np.array(counts))


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

    def figures(self, task: int | None = None) -> tuple[Ints, Ints, Figures]:
        """Return cell, value and statistics of each group that some row is in; task: in place of the cell."""
        width, inside = int(self.group.max(initial=0)) + 1, self.group >= 0
        pairs, place = np.unique(self.cell[inside] * width + self.group[inside], return_inverse=True)
        grouped = self.take(inside)
        chosen = [BY_NAME[name] for name in _OF_GROUPS]
        figures = estimates(chosen, grouped.ratings, place.reshape(-1), len(pairs), grouped.student)
        cell, value = pairs // width, pairs % width
        parts, order = [], []
        for group in range(width):
            cells = np.flatnonzero(value == group)
            at = np.full(int(self.cell.max(initial=0)) + 1, -1)
            at[cell[cells]] = np.arange(len(cells))
            rows = self.take(at[self.cell] >= 0)
            parts.append(dsm_estimates(rows.ratings, at[rows.cell], rows.group == group, len(cells), rows.student))
            order.append(cells)
        dsm = joined_estimates(parts).take(np.argsort(np.concatenate(order)))
        return cell if task is None else np.full(len(cell), task), value, {**figures, "dsm": dsm}

    def take(self, rows: Mask) -> _Members:
        """Return some of the rows."""
        student = None if self.student is None else self.student[rows]
        return _Members(self.ratings.take(rows), self.cell[rows], self.group[rows], student)


def _worst_by_task(groups: Groups, cells: int) -> Iterator[tuple[Criterion, Judgement]]:
    """Yield the worst verdict of each task's groups on each criterion, with the rows of the task that would decide."""
    of_tasks, rows = groups.task >= 0, groups.figures["dsm"].n
    task = groups.task[of_tasks]
    share = rows[of_tasks] / np.bincount(task, rows[of_tasks], cells)[task]
    for criterion, judgement in groups.judged.items():
        verdicts, needed = judgement.verdict[of_tasks], np.zeros(cells)
        measured = verdicts != Verdict.NOT_MEASURED
        verdict = np.full(cells, Verdict.PASS, np.int8)
        np.minimum.at(verdict, task[measured], verdicts[measured])
        verdict[np.bincount(task[measured], minlength=cells) == 0] = Verdict.NOT_MEASURED
        undecided = verdicts == Verdict.NOT_ENOUGH_ROWS
        with np.errstate(invalid="ignore"):
            np.maximum.at(needed, task, np.where(undecided, np.ceil(judgement.needed[of_tasks] / share), 0))
        yield criterion, Judgement(verdict, needed)


def _confusions(ratings: Ratings, task: Ints, levels: npt.NDArray[np.int32]) -> Iterator[npt.NDArray[np.int64]]:
    rows, cell = kinds(ratings, task)
    for place, known in enumerate(levels):
        of_task = rows.take(cell == place)
        most = int(np.rint(max(of_task.human.max(), of_task.machine.max()))) + 1
        table = np.zeros((most if known == UNKNOWN_LEVELS else int(known),) * 2, np.int64)
        at = np.rint(of_task.human).astype(np.int64), of_task.machine.astype(np.int64)
        np.add.at(table, at, of_task.rows.astype(np.int64))
        yield table


def _by_level(ratings: Ratings, task: Ints, levels: Sequence[int], student: Ints | None) -> Iterator[Estimates]:
    """Yield exact agreement by the human's level, of each task."""
    first: Ints = np.cumsum([0, *levels])
    cell: Ints = first[task] + np.rint(ratings.human).astype(np.int64)
    rows, cell = kinds(ratings, cell) if student is None else (ratings, cell)
    exact = estimates([BY_NAME["exact"]], rows, cell, int(first[-1]), student)["exact"]
    for start, end in pairwise(first):
        yield exact.take(np.arange(start, end))


def _versions(joined: JoinedColumns, task: Ints, cells: int) -> Iterator[tuple[str, ...]]:
    version = joined.scored.version
    known = version.code >= 0
    pairs = np.unique(np.stack([task[known], version.code[known]]), axis=1)
    for place in range(cells):
        yield tuple(version.values[code] for code in pairs[1][pairs[0] == place])
