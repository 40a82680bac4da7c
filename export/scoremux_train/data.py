"""Labelled responses from files, and what is known of their tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scoremux_engine.packages.describing import read_table
from scoremux_engine.packages.task import Task
from scoremux_files.rows.readers import read_records
from scoremux_files.rows.records import Row, RowLayout
from scoremux_files.settings import validate
from scoremux_train.errors import DataError

TRAINING = ("", "train", "training")
"""Values of the column `split` whose rows are trained on; all others are held out."""

_CLOSE = 1e-6


@dataclass(frozen=True)
class Columns:
    """Names of the columns. second: a second human's level or score; groups: kept in the predictions."""

    id: str = "id"
    task: str = "task"
    text: str = "text"
    level: str = "level"
    score: str = "score"
    second: str = ""
    split: str = "split"
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labelled:
    """A response with the level that a human gave it; file and line say where it is from."""

    id: str
    text: str
    level: int
    second: int | None
    split: str
    groups: Mapping[str, str]
    file: str
    line: int

    @property
    def trained(self) -> bool:
        return self.split.lower() in TRAINING


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    file: str
    line: int | None
    reason: str


@dataclass
class Data:
    """What was read: tasks and rows by task id, in the order of their ids, and the rows that cannot be used."""

    tasks: dict[str, Task]
    rows: dict[str, list[Labelled]]
    bad: list[BadRow] = field(default_factory=list)


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
    bad: list[BadRow] = []
    found: dict[str, list[tuple[str, int, Row]]] = {}
    for path in paths:
        for line, row in _records(path, bad):
            reason = _unusable(row, columns, tasks)
            if reason:
                bad.append(BadRow(path.name, line, reason))
            else:
                found.setdefault(str(row[columns.task]), []).append((path.name, line, row))
    if not found:
        raise DataError(f"no usable row in {', '.join(map(str, paths))}; {_first(bad)}")
    data = Data({}, {}, bad)
    numbers = {name: number for number, name in enumerate(sorted(found))}
    for task in numbers:
        described = {**tasks.get(task, {}), "id": task}
        if not described.get("levels"):
            described["levels"] = _levels(found[task], columns)
        try:
            data.tasks[task] = validate(Task.model_validate, described)
        except ValueError as error:
            raise DataError(f"task {task}: {error}") from error
        data.rows[task] = list(_labelled(found[task], data.tasks[task], columns, bad))
    return data


def read_tasks(path: Path) -> dict[str, Row]:
    """Read a table of tasks (`read_table`); return fields of `task.json` by task id. Raises PackageError."""
    return {str(fields.get("id", name)): fields for name, fields in read_table(path).items()}


def _records(path: Path, bad: list[BadRow]) -> Iterator[tuple[int, Row]]:
    for record in read_records(path, RowLayout(every_column=True)):
        if record.reason:
            bad.append(BadRow(path.name, record.line, record.reason))
        else:
            yield record.line or 0, record.values


def _unusable(row: Row, columns: Columns, tasks: Mapping[str, Row]) -> str:
    for name in (columns.task, columns.text):
        if not isinstance(row.get(name), str):
            return f"no {name}"
    if not row[columns.task]:
        return f"no {columns.task}"
    if _number(row.get(columns.level)) is None and _number(row.get(columns.score)) is None:
        return f"no number in {columns.level} or {columns.score}"
    if tasks and row[columns.task] not in tasks:
        return "its task is not in the file of tasks"
    return ""


def _levels(rows: Sequence[tuple[str, int, Row]], columns: Columns) -> list[float]:
    """Return the points of a task that nothing is known of: 0 … the highest level, or every score that occurs."""
    levels = [_number(row.get(columns.level)) for _, _, row in rows]
    known = [level for level in levels if level is not None and level >= 0 and level.is_integer()]
    if known:
        return [float(level) for level in range(int(max(max(known), 1)) + 1)]
    return sorted({score for _, _, row in rows if (score := _number(row.get(columns.score))) is not None})


def _labelled(
    rows: Sequence[tuple[str, int, Row]], task: Task, columns: Columns, bad: list[BadRow]
) -> Iterator[Labelled]:
    seen: set[str] = set()
    for file, line, row in rows:
        level = _level(row.get(columns.level), row.get(columns.score), task)
        id_ = str(row[columns.id]) if row.get(columns.id) not in (None, "") else f"{file}:{line}"
        if level is None or id_ in seen:
            bad.append(
                BadRow(file, line, "its id is there twice" if id_ in seen else "its level is none of its task's")
            )
            continue
        seen.add(id_)
        second = row.get(columns.second) if columns.second else None
        groups = {name: str(row.get(name) or "") for name in columns.groups}
        split = str(row.get(columns.split) or "")
        by_level = _number(row.get(columns.level)) is not None
        other = _level(second, None, task) if by_level else _level(None, second, task)
        yield Labelled(id_, row[columns.text], level, other, split, groups, file, line)


def _level(level: Any, score: Any, task: Task) -> int | None:
    """Return the index of the level, None where it is none of the task's."""
    given = _number(level)
    if given is not None:
        return int(given) if given.is_integer() and 0 <= given < len(task.levels) else None
    points = _number(score)
    near = [i for i, value in enumerate(task.levels) if points is not None and abs(value - points) < _CLOSE]
    return near[0] if near else None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < 1e9 else None


def _first(bad: Sequence[BadRow]) -> str:
    return f"the first: {bad[0].file}, line {bad[0].line}: {bad[0].reason}" if bad else "the files are empty"
