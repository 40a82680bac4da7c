"""What a report says about scored rows with known levels: figures, intervals, verdicts, by task and group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoremux_assess.agreement.intervals import Estimates, dsm_estimates, estimates, joined_estimates
from scoremux_assess.agreement.joining import UNKNOWN_LEVELS, Joined
from scoremux_assess.agreement.ratings import Ints, Ratings, kinds
from scoremux_assess.agreement.reliability import Confidence, Ranges, measure, measure_ranges
from scoremux_assess.agreement.routing import Routing, measure_routes, routing
from scoremux_assess.agreement.statistics import BY_NAME, STATISTICS
from scoremux_assess.agreement.verdicts import Criterion, Judged, Verdict, judge, worst
from scoremux_assess.decisions.policy import AgreementTarget
from scoremux_client.errors import InputError

MOST_GROUPS = 64
"""Values that a column of groups may have."""

Found = dict[str, Estimates]
"""Statistic → its estimates by cell."""

_EXPECTED = ("qwk_expected", "r_expected")
_OF_GROUPS = ("exact", "qwk", "smd", "sd_ratio")


@dataclass(frozen=True)
class Groups:
    """Groups of students, one a cell. task: its place in the assessment's tasks, −1 for all rows. found: with `dsm`."""

    column: tuple[str, ...]
    value: tuple[str, ...]
    task: Ints
    found: Found
    judged: dict[Criterion, Judged]


@dataclass(frozen=True)
class Assessment:
    """What is known about each task.

    tasks: those with rows, sorted. found: statistics of the tasks, and after them of all rows together. judged: by
    criterion, of the tasks. overall: the verdict on all criteria of a task and its groups. item: on those of the item.
    confusion: rows by level of the human and of the machine, int [L, L], by task. confidence: how sure the machine was.
    ranges: of levels, around the machine's. routing: where a policy stands.
    versions: the digests that scored each task's rows.
    """

    tasks: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    found: Found
    judged: dict[Criterion, Judged]
    overall: Judged
    item: Judged
    groups: Groups | None
    confusion: tuple[npt.NDArray[np.int64], ...]
    confidence: Confidence
    ranges: Ranges
    routing: Routing
    versions: tuple[tuple[str, ...], ...]


def assess(joined: Joined, criteria: Sequence[Criterion], target: AgreementTarget | None = None) -> Assessment:
    """Return figures, intervals and verdicts.

    Args:
        joined: The rows.
        criteria: What tasks must reach.
        target: What a policy wants of the rows that the machine keeps, None without a policy.

    Raises:
        InputError: A column of groups has too many values.
    """
    used = np.flatnonzero(np.bincount(joined.task.code, minlength=len(joined.task.values)))
    task, cells = np.searchsorted(used, joined.task.code), len(used)
    tasks = tuple(joined.task.values[code] for code in used)
    found = _tasks(joined.ratings, task, cells, joined.students())
    of_tasks = {name: one.take(np.arange(cells)) for name, one in found.items()}
    judged = {c: judge(c, of_tasks[c.statistic]) for c in criteria if c.of != "group"}
    groups = _groups(joined, task, [c for c in criteria if c.of == "group"])
    by_group = [] if groups is None else list(_worst_by_task(groups, cells))
    right = joined.ratings.human == joined.ratings.machine
    sure, before = (measure(column, right, task, cells) for column in (joined.confidence, joined.stated))
    return Assessment(
        tasks=tasks,
        criteria=tuple(criteria),
        found=found,
        judged=judged,
        overall=worst([*(j for c, j in judged.items() if c.of == "task"), *by_group], cells),
        item=worst((j for c, j in judged.items() if c.of == "item"), cells),
        groups=groups,
        confusion=tuple(_confusions(joined, task, used)),
        confidence=sure,
        ranges=measure_ranges(joined.low, joined.high, joined.ratings.human, task, cells),
        routing=routing(sure, before, measure_routes(joined.to_people, right, task, cells), target),
        versions=tuple(_versions(joined, task, cells)),
    )


def _tasks(ratings: Ratings, task: Ints, cells: int, student: Ints | None) -> Found:
    """Return all statistics of each task, and of all rows."""
    levels = [s for s in STATISTICS if s.name not in _EXPECTED]
    expected = [BY_NAME[name] for name in _EXPECTED]
    rows, cell = kinds(ratings, task) if student is None else (ratings, task)
    parts = estimates(levels, rows, cell, cells, student) | estimates(expected, ratings, task, cells, student)
    cell, task = np.zeros_like(cell), np.zeros_like(task)
    whole = estimates(levels, rows, cell, 1, student) | estimates(expected, ratings, task, 1, student)
    return {s.name: joined_estimates([parts[s.name], whole[s.name]]) for s in STATISTICS}


def _groups(joined: Joined, task: Ints, criteria: Sequence[Criterion]) -> Groups | None:
    """Return the statistics of each group of each task and of all rows; None without a column of groups."""
    columns: list[str] = []
    values: list[str] = []
    tasks: list[Ints] = []
    founds: list[Found] = []
    for column, codes in joined.groups.items():
        if len(codes.values) > MOST_GROUPS:
            raise InputError(f"the column {column} has {len(codes.values):,} values; groups are {MOST_GROUPS} at most")
        members = _Members.of(joined.ratings, task, codes.code, joined.students())
        for whole in (False, True):
            place, value, found = (members.of_all() if whole else members).found()
            columns += [column] * len(value)
            values += [codes.values[code] for code in value]
            tasks.append(np.full(len(value), -1) if whole else place)
            founds.append(found)
    if not founds:
        return None
    found = {name: joined_estimates([one[name] for one in founds]) for name in founds[0]}
    judged = {c: judge(c, found[c.statistic]) for c in criteria}
    return Groups(tuple(columns), tuple(values), np.concatenate(tasks), found, judged)


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

    def found(self) -> tuple[Ints, Ints, Found]:
        """Return cell, value and statistics of each group that some row is in."""
        width, inside = int(self.group.max(initial=0)) + 1, self.group >= 0
        pairs, place = np.unique(self.cell[inside] * width + self.group[inside], return_inverse=True)
        own = self.take(inside)
        chosen = [BY_NAME[name] for name in _OF_GROUPS]
        found = estimates(chosen, own.ratings, place.reshape(-1), len(pairs), own.student)
        cell, value = pairs // width, pairs % width
        parts, order = [], []
        for one in range(width):
            cells = np.flatnonzero(value == one)
            at = np.full(int(self.cell.max(initial=0)) + 1, -1)
            at[cell[cells]] = np.arange(len(cells))
            rows = self.take(at[self.cell] >= 0)
            parts.append(dsm_estimates(rows.ratings, at[rows.cell], rows.group == one, len(cells), rows.student))
            order.append(cells)
        dsm = joined_estimates(parts)
        back = np.argsort(np.concatenate(order))
        return cell, value, {**found, "dsm": dsm.take(back)}

    def take(self, rows: npt.NDArray[np.bool_]) -> _Members:
        """Return some of the rows."""
        student = None if self.student is None else self.student[rows]
        return _Members(self.ratings.take(rows), self.cell[rows], self.group[rows], student)


def _worst_by_task(groups: Groups, cells: int) -> Iterator[Judged]:
    """Yield the worst verdict of each task's groups on each criterion, with the rows of the task that would decide."""
    own, rows = groups.task >= 0, groups.found["dsm"].n
    of_task = np.bincount(groups.task[own], rows[own], cells)
    for judged in groups.judged.values():
        verdict, needed = np.full(cells, Verdict.NOT_MEASURED, np.int8), np.zeros(cells)
        np.minimum.at(verdict, groups.task[own], judged.verdict[own])
        share = rows[own] / of_task[groups.task[own]]
        undecided = judged.verdict[own] == Verdict.NOT_ENOUGH_ROWS
        with np.errstate(invalid="ignore"):
            np.maximum.at(needed, groups.task[own], np.where(undecided, np.ceil(judged.needed[own] / share), 0))
        yield Judged(verdict, needed)


def _confusions(joined: Joined, task: Ints, used: Ints) -> Iterator[npt.NDArray[np.int64]]:
    rows, cell = kinds(joined.ratings, task)
    for place, code in enumerate(used):
        own = rows.take(cell == place)
        seen = int(max(own.human.max(), own.machine.max())) + 1
        known = int(joined.levels[code])
        table = np.zeros((seen if known == UNKNOWN_LEVELS else known,) * 2, np.int64)
        np.add.at(table, (own.human.astype(np.int64), own.machine.astype(np.int64)), own.weight.astype(np.int64))
        yield table


def _versions(joined: Joined, task: Ints, cells: int) -> Iterator[tuple[str, ...]]:
    known = joined.version.code >= 0
    pairs = np.unique(np.stack([task[known], joined.version.code[known]]), axis=1)
    for place in range(cells):
        yield tuple(joined.version.values[code] for code in pairs[1][pairs[0] == place])
