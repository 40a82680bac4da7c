"""The content of a report about scored rows with known levels: figures, intervals, verdicts, by task and group."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scoremux_evidence.figures.agreement import STATISTICS
from scoremux_evidence.figures.estimates import Estimates, Figures, joined_figures, means_of, taken
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.figures.levels import LevelFigures, measure_levels
from scoremux_evidence.figures.reliability import (
    RangeFigures,
    Reliability,
    Routing,
    measure_confidence,
    measure_ranges,
    measure_routing,
)
from scoremux_evidence.rows.matching import Matched
from scoremux_evidence.rows.scored_output import UNKNOWN_LEVELS, versions_of
from scoremux_evidence.rows.table import Floats, Ints, Rows, by_cell, students_in, units_of
from scoremux_evidence.verdicts.groups import Groups, measure_groups
from scoremux_evidence.verdicts.items import ItemFigures, measure_items
from scoremux_evidence.verdicts.totals import Totals, measure_totals
from scoremux_evidence.verdicts.verdicts import (
    Criterion,
    Judged,
    Judgement,
    Verdict,
    fewer_fails,
    fewer_passes,
    judge,
    worst,
)

MOST_DROPPED = 0.05
"""The greatest share of rows that may be left out of a task that passes, for what people gave them."""


@dataclass(frozen=True)
class Assessment:
    """Figures and verdicts of each task.

    Attributes:
        figures: Of the tasks, and after them of all rows together.
        overall: The verdict on all criteria of a task and its groups, whatever other tasks there are.
        of_file: The same, corrected for the number of all tasks.
        item: The verdict on those of the item.
        dropped: The share of scored rows left out since the human's level is off the scale or not a number.
        students: How many students each task has, and all tasks together; None where no column says it.
        totals: Of students over all tasks, or why there are none.
        items: Of items with traits, about responses.
        versions: The digests that scored each task's rows.
    """

    tasks: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    figures: Figures
    judged: Judged
    overall: Judgement
    of_file: Judgement
    item: Judgement
    dropped: Floats
    groups: Groups
    by_level: list[LevelFigures]
    students: Ints | None
    means: Figures
    confidence: Reliability
    ranges: RangeFigures
    routing: Routing
    totals: Totals | str
    items: list[ItemFigures]
    versions: tuple[tuple[str, ...], ...]


def assess(matched: Matched, criteria: Sequence[Criterion], cuts: Sequence[float] = ()) -> Assessment:
    """Return figures, intervals, and verdicts: of each task by itself, and of the file (Holm 1979).

    Raises InputError where a column of groups has too many values.
    """
    rows = matched.rows
    ratings = matched.rated
    used = np.flatnonzero(np.bincount(rows.task.code, minlength=len(rows.task.values)))
    task = np.searchsorted(used, rows.task.code)
    cells = len(used)
    figures = _figures(ratings, task, matched.sizes[used])
    if matched.routes is not None:
        figures["people"] = _known_share(figures["people"], matched.routes[used])
    of_tasks = taken(figures, np.arange(cells))
    judged = {c: judge(c, of_tasks[c.statistic]) for c in criteria if c.of in ("task", "item")}
    tasks = tuple(rows.task.values[code] for code in used)
    groups = measure_groups(matched, task, [c for c in criteria if c not in judged])
    every = {c: j for c, j in {**judged, **groups.judged}.items() if c.of != "item"}
    of_file = fewer_passes(_overall(fewer_fails(every), groups, cells))
    # A task's own verdict does not depend on which other tasks are in the file.
    fewer = fewer_fails(every, {c: groups.task if c in groups.judged else np.arange(cells) for c in every})
    overall = _overall(fewer, groups, cells)
    judged = {c: fewer.get(c, j) for c, j in judged.items()}
    groups = replace(groups, judged={c: fewer[c] for c in groups.judged})
    versions = [*versions_of(rows)]
    right = ratings.human == ratings.machine
    level_counts = [None if count == UNKNOWN_LEVELS else int(count) for count in matched.levels[used]]
    dropped = matched.dropped[used] / (matched.dropped[used] + np.bincount(task, minlength=cells))
    return Assessment(
        tasks=tasks,
        criteria=tuple(criteria),
        figures=figures,
        judged=judged,
        overall=_unless_dropped(overall, dropped),
        of_file=_unless_dropped(of_file, dropped),
        item=worst(((c, j) for c, j in judged.items() if c.of == "item"), cells),
        dropped=dropped,
        groups=groups,
        by_level=measure_levels(ratings, task, level_counts),
        students=_students(rows.get("student"), task, cells),
        means=means_of(of_tasks),
        confidence=measure_confidence(rows.confidence, right, rows.weight, task, cells, units_of(rows)),
        ranges=measure_ranges(rows.low, rows.high, rows.human, rows.weight, task, cells),
        routing=measure_routing(figures["people"].value, rows.weight * rows.kept, right, task),
        totals=measure_totals(matched, task, cells, cuts),
        items=measure_items(matched),
        versions=tuple(tuple(version for of, version in versions if of == name and version) for name in tasks),
    )


def _overall(judged: Judged, groups: Groups, cells: int) -> Judgement:
    """Return the verdict on all criteria of each task and of its groups."""
    of_task = [(criterion, judgement) for criterion, judgement in judged.items() if criterion.of == "task"]
    of_groups = replace(groups, judged={criterion: judged[criterion] for criterion in groups.judged})
    return worst([*of_task, *of_groups.worst_by_task(cells)], cells)


def _unless_dropped(judgement: Judgement, dropped: Floats) -> Judgement:
    """Return the verdicts, but no PASS where more rows were left out than `MOST_DROPPED`."""
    verdict = np.where(dropped > MOST_DROPPED, np.minimum(judgement.verdict, Verdict.NOT_MEASURED), judgement.verdict)
    return replace(judgement, verdict=verdict.astype(np.int8))


def _figures(ratings: Rows, task: Ints, sizes: Ints) -> Figures:
    """Return all statistics of each task, and of all rows, where a task counts with its size in the output."""
    cells = len(sizes)
    of_tasks = estimates(STATISTICS, ratings, task, cells)
    weights = sizes / np.maximum(by_cell(task, ratings.weight, cells), 1e-300)
    together = ratings.plus(weight=ratings.weight * weights[task])
    return joined_figures([of_tasks, estimates(STATISTICS, together, np.zeros_like(task), 1)])


def _known_share(people: Estimates, routes: Floats) -> Estimates:
    """Return the share of rows sent to people as the output has it: it is known, and has no error."""
    kept, sent = np.append(routes, routes.sum(axis=0, keepdims=True), axis=0).T
    share = np.where(people.n > 0, sent / (kept + sent), np.nan)
    return replace(people, value=share, low=share, high=share)


def _students(student: Ints | None, task: Ints, cells: int) -> Ints | None:
    if student is None:
        return None
    return np.append(students_in(task, cells, student), len(np.unique(student)))
