"""Labelled responses from files, and what is known of their tasks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scoremux_engine.packages.task import Task
from scoremux_engine.packages.task_table import read_table
from scoremux_evidence.rows.label_table import LeftOutLine, column_hint, read_labels
from scoremux_evidence.rows.labelled_row import LABEL_COLUMNS, NO_SECOND, LabelColumns, LabelledRow
from scoremux_evidence.rows.similar_texts import related
from scoremux_evidence.rows.weights import routed_beside
from scoremux_files.rows.readers import same_text
from scoremux_files.rows.row_layout import Row
from scoremux_files.settings import check
from scoremux_train.errors import DataError

_MOST_PARTS = 0.1
"""The share of fractions among levels above which all are taken for points."""


class TrainingRows(NamedTuple):
    """The rows that a task is trained on, and the number of each row's group: near copies, and one student's rows."""

    rows: Sequence[LabelledRow]
    groups: Sequence[int]


@dataclass
class Data:
    """Labelled responses: tasks and their rows by task id, and the rows that cannot be used."""

    tasks: dict[str, Task] = field(default_factory=dict)
    rows: dict[str, list[LabelledRow]] = field(default_factory=dict)
    bad: list[LeftOutLine] = field(default_factory=list)

    @cached_property
    def training(self) -> dict[str, TrainingRows]:
        """The rows to train on, by task id."""
        return {task: training_rows(rows) for task, rows in self.rows.items()}


def read_data(
    paths: Sequence[Path],
    tasks: Mapping[str, Row],
    columns: LabelColumns = LABEL_COLUMNS,
) -> Data:
    """Read labelled responses.

    Args:
        paths: .csv, .jsonl and .parquet files.
        tasks: Fields of `task.json` by task id, from `read_tasks`; levels that are missing come from the rows.

    Raises:
        InputError: A file cannot be read, or rows contradict each other.
        DataError: No row is usable, or the fields of a task are wrong.
    """
    points = "score" if columns.level != "score" else ""
    table = read_labels(
        paths,
        replace(columns, score=columns.score or points),
        ("task", "text", "level"),
        strict=False,
    )
    table.require(columns)
    data, rows_of = Data(bad=table.left_out), table.by_task()
    for task in rows_of.keys() - tasks if tasks else ():
        data.bad += [LeftOutLine.of(row, "its task is not in the file of tasks") for row in rows_of.pop(task)]
    if not rows_of:
        first = f"the first: {data.bad[0]}{column_hint(table.names)}" if data.bad else "the files are empty"
        why = table.words_hint(columns) or first
        raise DataError(f"no usable row in {', '.join(map(str, paths))}; {why}")
    for task, rows in sorted(rows_of.items()):
        fields = {**tasks.get(task, {}), "id": task}
        if not fields.get("levels"):
            fields["levels"] = _levels(rows)
        data.tasks[task] = check(Task, fields, f"task {task}", DataError)
        _refuse_points(rows, data.tasks[task], columns)
        data.rows[task] = _weighed(list(_labelled(rows, data.tasks[task], data.bad)))
    return data


def _weighed(rows: list[LabelledRow]) -> list[LabelledRow]:
    """Leave routed rows out of all figures where the rows to train on have a sample of all responses."""
    trained = [row for row in rows if row.trained]
    chosen_by, versions = [row.chosen_by for row in trained], [row.version for row in trained]
    beside = routed_beside(chosen_by, versions)
    apart = {trained[place].key for place in np.flatnonzero(beside)}
    return [replace(row, weight=math.nan) if row.key in apart else row for row in rows]


def read_tasks(path: Path) -> dict[str, Row]:
    """Read a table of tasks (`read_table`); return fields of `task.json` by task id. Raises PackageError."""
    return {str(fields.get("id", name)): fields for name, fields in read_table(path).items()}


def training_rows(rows: Sequence[LabelledRow]) -> TrainingRows:
    """Return the rows to train on, by id: not held out, and no held-out row has the same text."""
    held_out = {same_text(row.response) for row in rows if not row.trained}
    chosen = [row for row in rows if row.trained and same_text(row.response) not in held_out]
    chosen.sort(key=lambda row: row.key)
    texts, students = [row.response for row in chosen], [row.student for row in chosen]
    return TrainingRows(chosen, related(texts, students) if chosen else [])


def _levels(rows: Sequence[LabelledRow]) -> list[float]:
    """Return the points of a task that nothing is known of: 0 … the highest level, or every score that occurs.

    Raises DataError where that would make up a level that no row has.
    """
    whole = sorted({int(row.level) for row in rows if row.level >= 0 and row.level.is_integer()})
    scores = {row.score for row in rows if not math.isnan(row.score)}
    if absent := sorted({*range(whole[-1])} - {*whole}) if whole else []:
        raise DataError(
            f"task {rows[0].task}: its levels are {', '.join(map(str, whole))}, and no row has {absent[0]}; if these "
            "are points, name the column with --column score=NAME; if the scale has that level, give its levels in "
            "--tasks"
        )
    return [float(level) for level in range(max(*whole, 1) + 1)] if whole else sorted(scores)


def _refuse_points(rows: Sequence[LabelledRow], task: Task, columns: LabelColumns) -> None:
    """Raise DataError where a column of levels holds the task's points, some of which would pass as other levels."""
    numbers = [row.level for row in rows if not math.isnan(row.level)]
    parts = [number for number in numbers if not number.is_integer()]
    points = {*numbers} <= {*task.levels} and not {*numbers} <= {*range(len(task.levels))}
    if points or len(parts) > _MOST_PARTS * len(numbers):
        number = next(iter(parts), max(numbers))
        raise DataError(
            f"task {task.id}: {columns.level} has {number:g}, so it holds points, not levels counted from 0; name it "
            "with --column score=NAME"
        )


def _labelled(
    rows: Sequence[LabelledRow],
    task: Task,
    bad: list[LeftOutLine],
) -> Iterator[LabelledRow]:
    for row in rows:
        row.take_level(task.levels)
        level = _whole_level(task, row.level)
        if level is None:
            bad.append(LeftOutLine.of(row, "its level is not one of its task's"))
            continue
        second = None if row.second is None else _whole_level(task, row.second)
        if NO_SECOND in row.remarks or (second is None and row.second is not None):
            bad.append(LeftOutLine.of(row, "its second level is not one of its task's; it counts without that"))
        yield replace(row, level=level, second=second)


def _whole_level(task: Task, number: float) -> int | None:
    return int(number) if number.is_integer() and 0 <= number < len(task.levels) else None
