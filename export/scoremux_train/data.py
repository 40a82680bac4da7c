"""Labelled responses from files, and what is known of their tasks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from scoremux_assess.labels.weights import routed_beside, sample_of
from scoremux_client.contract import TASK_PATTERN
from scoremux_engine.packages.task import Task
from scoremux_engine.packages.task_table import read_table
from scoremux_files.rows.readers import (
    decision_of,
    desk_row,
    read_records,
    refuse_machine_levels,
    repeated_ids_remedy,
    same_text,
    student_of,
)
from scoremux_files.rows.row_layout import Row, RowLayout, list_columns
from scoremux_files.settings import validate
from scoremux_train.errors import DataError

TRAINING = ("", "train", "training")
"""Values of the column `split` whose rows are trained on; all others are held out."""

_CLOSE = 1e-6
_COMMA = re.compile(r"[+-]?\d+,\d{1,2}")
_MOST_PARTS = 0.1
"""Share of levels that are no whole numbers above which they are taken for points."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns.

    Attributes:
        id: Of the rows' ids; a row without one is named FILE:LINE.
        task: Of task ids.
        text: Of the responses' texts.
        level: Of a human's level; a row without one has a score.
        score: Of a human's points.
        second: Of a second human's level or score.
        split: Of what a row is for; see `TRAINING`.
        groups: Kept in the predictions.
        student: Of who wrote the response.
        chosen_by, probability: Of how the row was chosen to be read, see `scoremux_assess.labels.weights`.
        version: Of the task version that scored the row before it was read.
    """

    id: str = "id"
    task: str = "task"
    text: str = "text"
    level: str = "level"
    score: str = "score"
    second: str = ""
    split: str = "split"
    groups: tuple[str, ...] = ()
    student: str = ""
    chosen_by: str = "chosen_by"
    probability: str = "probability"
    version: str = "version"


@dataclass(frozen=True)
class LabelledResponse:
    """A response with the level that a human gave it.

    Attributes:
        id: Unique in its task.
        text: What the student wrote.
        level: A human's.
        second: A second human's level, if there is one.
        split: What the row is for; see `TRAINING`.
        groups: Further columns by name.
        student: Who wrote it, None where that is not known.
        chosen_by: How it was chosen to be read, None where that is not known.
        probability: With which it was chosen; None: it was certain to be.
        version: The task version that scored it before it was read, None where that is not known.
        weight: How many rows it stands for in figures; NaN: it is no part of any. It changes no loss.
    """

    id: str
    text: str
    level: int
    second: int | None
    split: str
    groups: Mapping[str, str] = field(default_factory=dict)
    student: str | None = None
    chosen_by: str | None = None
    probability: float | None = None
    version: str | None = None
    weight: float = 1.0

    @property
    def trained(self) -> bool:
        return self.split.lower() in TRAINING


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    file: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f', line {self.line}'}: {self.reason}"


@dataclass
class Data:
    """What was read: tasks and their rows by task id, and the rows that cannot be used."""

    tasks: dict[str, Task] = field(default_factory=dict)
    rows: dict[str, list[LabelledResponse]] = field(default_factory=dict)
    bad: list[BadRow] = field(default_factory=list)


_Place = tuple[Path, int, Row]
"""File, line and columns of a row."""


def read_data(paths: Sequence[Path], tasks: Mapping[str, Row], columns: Columns) -> Data:
    """Read labelled responses.

    Args:
        paths: .csv, .jsonl and .parquet files.
        tasks: Fields of `task.json` by task id, from `read_tasks`; levels that are missing come from the rows.
        columns: Names of the columns.

    Raises:
        InputError: A file cannot be read.
        DataError: There is no row, or the fields of a task are wrong.
    """
    data = Data()
    rows_of: dict[str, list[_Place]] = {}
    absent = {columns.second: "second", columns.student: "student", **dict.fromkeys(columns.groups, "group")}
    absent.pop("", None)
    columns_seen = ""
    names = {name: getattr(columns, name) for name in ("id", "task", "text", "level", "second", "student")}
    for path in paths:
        for record in read_records(path, RowLayout(columns.id, text=columns.text, every_column=True)):
            refuse_machine_levels(path, record.values, columns.level)
            values = desk_row(record.values, names)
            reason = record.reason or _unusable(values, columns, tasks)
            columns_seen = columns_seen or (f" (its columns: {list_columns(list(values))})" if values else "")
            for name in [name for name in absent if name in values]:
                del absent[name]
            if reason:
                data.bad.append(BadRow(path.name, record.line, reason))
            else:
                place = path, record.line or 0, values
                rows_of.setdefault(str(values[columns.task]), []).append(place)
    if not rows_of:
        first = data.bad[0] if data.bad else None
        why = f"the first: {first}{columns_seen}" if first else "the files are empty"
        raise DataError(f"no usable row in {', '.join(map(str, paths))}; {why}")
    if absent:
        name, option = next(iter(absent.items()))
        raise DataError(f"no row has the column {name}, which --{option}-column names{columns_seen}")
    for task, rows in sorted(rows_of.items()):
        fields = {**tasks.get(task, {}), "id": task}
        if not fields.get("levels"):
            fields["levels"] = _levels(rows, columns)
        try:
            data.tasks[task] = validate(Task.model_validate, fields)
        except ValueError as error:
            raise DataError(f"task {task}: {error}") from error
        _refuse_points(rows, data.tasks[task], columns)
        data.rows[task] = _weighed(list(_labelled(rows, data.tasks[task], columns, data.bad)))
    return data


def _weighed(rows: list[LabelledResponse]) -> list[LabelledResponse]:
    """Leave routed rows out of all figures where the rows to train on have a sample of all responses."""
    trained = [row for row in rows if row.trained]
    routed = routed_beside([row.chosen_by for row in trained], [row.version for row in trained])
    beside = zip(trained, routed, strict=True)
    apart = {row.id for row, routed in beside if routed}
    return [replace(row, weight=math.nan) if row.id in apart else row for row in rows]


def read_tasks(path: Path) -> dict[str, Row]:
    """Read a table of tasks (`read_table`); return fields of `task.json` by task id. Raises PackageError."""
    return {str(fields.get("id", name)): fields for name, fields in read_table(path).items()}


def training_rows(rows: Sequence[LabelledResponse]) -> list[LabelledResponse]:
    """Return the rows to train on, by id: not held out, and no held-out row has the same text."""
    held = {same_text(row.text) for row in rows if not row.trained}
    return sorted((row for row in rows if row.trained and same_text(row.text) not in held), key=lambda row: row.id)


def _unusable(row: Row, columns: Columns, tasks: Mapping[str, Row]) -> str:
    for name in (columns.task, columns.text):
        if not isinstance(row.get(name), str):
            return f"no {name}"
    if not row[columns.task]:
        return f"no {columns.task}"
    if not TASK_PATTERN.fullmatch(row[columns.task]):  # and may be a text, which must not be shown
        return f"{columns.task} is no task's id (letters, digits, . _ -); name another column with --column task=NAME"
    if _number(row.get(columns.level)) is None and _number(row.get(columns.score)) is None:
        return f"no number in {columns.level} or {columns.score}"
    if row.get(columns.probability) not in (None, "") and not 0 < (_number(row[columns.probability]) or 0) <= 1:
        return f"{columns.probability} is not a number above 0 and at most 1"
    if tasks and row[columns.task] not in tasks:
        return "its task is not in the file of tasks"
    return ""


def _levels(rows: Sequence[_Place], columns: Columns) -> list[float]:
    """Return the points of a task that nothing is known of: 0 … the highest level, or every score that occurs."""
    levels, scores = (
        [number for _, _, row in rows if (number := _number(row.get(name))) is not None]
        for name in (columns.level, columns.score)
    )
    whole = [level for level in levels if level >= 0 and level.is_integer()]
    return [float(level) for level in range(int(max(*whole, 1)) + 1)] if whole else sorted(set(scores))


def _refuse_points(rows: Sequence[_Place], task: Task, columns: Columns) -> None:
    """Raise DataError where a column of levels holds the task's points, some of which would pass as other levels."""
    numbers = [number for _, _, row in rows if (number := _number(row.get(columns.level))) is not None]
    parts = [number for number in numbers if not number.is_integer()]
    points = {*numbers} <= {*task.levels} and not {*numbers} <= {*range(len(task.levels))}
    if points or len(parts) > _MOST_PARTS * len(numbers):
        number = next(iter(parts), max(numbers))
        raise DataError(
            f"task {task.id}: {columns.level} has {number:g}, so it holds points, not levels counted from 0; name it "
            "with --column score=NAME"
        )


def _labelled(rows: Sequence[_Place], task: Task, columns: Columns, bad: list[BadRow]) -> Iterator[LabelledResponse]:
    ids: dict[str, tuple[Path, str]] = {}
    decided: dict[tuple[str, str], str] = {}
    for file, line, row in rows:
        level = _level(row.get(columns.level), row.get(columns.score), task)
        id_ = str(row[columns.id]) if row.get(columns.id) not in (None, "") else f"{file.name}:{line}"
        if level is None or id_ in ids:
            reason = "its level is not one of its task's" if level is None else _twice(id_, file, row, columns, ids)
            bad.append(BadRow(file.name, line, reason))
            continue
        ids[id_] = file, same_text(row[columns.text])
        if decision := decision_of(row):
            first = decided.setdefault((decision, ids[id_][1]), id_)
            if first != id_:
                bad.append(BadRow(file.name, line, f"{id_[:80]!r} is another id of {first[:80]!r}, which counts"))
                continue
        second = row.get(columns.second) if columns.second else None
        by_level = _number(row.get(columns.level)) is not None
        second_level = _level(second, None, task) if by_level else _level(None, second, task)
        if second_level is None and second not in (None, "") and second == second:
            bad.append(BadRow(file.name, line, "its second level is not one of its task's; it counts without that"))
        chosen_by, probability = row.get(columns.chosen_by) or None, _number(row.get(columns.probability))
        chance = np.array([np.nan if probability is None else probability])
        yield LabelledResponse(
            id=id_,
            text=row[columns.text],
            level=level,
            second=second_level,
            split=str(row.get(columns.split) or ""),
            groups={name: student_of(row.get(name)) or "" for name in columns.groups},
            student=student_of(row.get(columns.student) if columns.student else None),
            chosen_by=None if chosen_by is None else str(chosen_by),
            probability=probability,
            version=str(row.get(columns.version) or "") or None,
            weight=float(sample_of([chosen_by], chance).weight[0]),
        )


def _twice(id_: str, file: Path, row: Row, columns: Columns, ids: Mapping[str, tuple[Path, str]]) -> str:
    """Return what is wrong with a row whose id another has. Raises DataError if the other is in another file."""
    first, text = ids[id_]
    if first != file and text != same_text(row[columns.text]):
        remedy = "; give the files different names" if first.name == file.name else repeated_ids_remedy(2)
        raise DataError(f"id {id_[:80]!r} of {row[columns.task]} is in {first} and in {file}{remedy}")
    return "its id is given twice"


def _level(level: Any, score: Any, task: Task) -> int | None:
    """Return the index of the level, None where it is not one of the task's."""
    index = _number(level)
    if index is not None:
        return int(index) if index.is_integer() and 0 <= index < len(task.levels) else None
    points = _number(score)
    near = (i for i, value in enumerate(task.levels) if points is not None and abs(value - points) < _CLOSE)
    return next(near, None)


def _number(value: Any) -> float | None:
    if isinstance(value, str) and _COMMA.fullmatch(value.strip()):
        value = value.replace(",", ".")
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < 1e9 else None
