"""The rows of a job in the order of their tasks, for jobs over many tasks: a server reads each task's package once.

SQLite sorts them on disk, in a file of the job's folder, and keeps outcomes there until the parts are written in the
order of the sources. The file has texts of students; it is removed when the job is done.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from scoremux_batch.job import Job
from scoremux_batch.journal import JobState
from scoremux_batch.slices import Slice, read_slices
from scoremux_client.contract import Status
from scoremux_client.frames import columns_of
from scoremux_client.rows import Scored, to_bytes
from scoremux_files.errors import InputError
from scoremux_files.rows.row_layout import FILE_START, Json
from scoremux_files.rows.writers import beside_parts

_FILE = "by_task.sqlite"
_MANY_TASKS = 1000
"""With more tasks in as many rows as a part has, a job is sorted. So many fit into the memory of any server."""

_ROWS_ARE_SORTED = "PRAGMA user_version = 1"
_TABLES = """
    CREATE TABLE rows (n INTEGER PRIMARY KEY, task BLOB, size INTEGER, source INTEGER, line INTEGER, cells, text);
    CREATE TABLE outcomes (n INTEGER PRIMARY KEY, arithmetic, cells);
"""
_IN_ORDER = "SELECT n, source, line, cells, text FROM rows ORDER BY task, size, n LIMIT -1 OFFSET ?"


@dataclass
class TaskSlice(Slice):
    """Rows of any sources, in the order of tasks.

    Attributes:
        rows: The number of each row in the whole job, from 0, rejected rows left out.
        sources: Paths of their files.
    """

    rows: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def name_of(self, row: int) -> Json:
        """Return the key of a row, as `Slice.name_of` does."""
        return super().name_of(row) | {"source": self.sources[row]}


class TaskOrder:
    """The sorted rows of one job, in its folder of parts. Open it as a context manager.

    Attributes:
        done: How many rows have an outcome: the first ones of the order.
        arithmetic: Names of the arithmetics that these outcomes were computed in.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self._path, self._job = beside_parts(folder, _FILE), job
        self.done = 0
        self.arithmetic: set[str] = set()

    @property
    def is_begun(self) -> bool:
        """Whether an earlier run began to sort."""
        return self._path.exists()

    def pays(self) -> bool:
        """Whether the job has several parts, and many tasks in as many rows as a part has."""
        tasks, parts, rows = set[str](), 0, 0
        for part in read_slices(self._job, JobState()):
            tasks.update(part.tasks)
            parts, rows = parts + 1, rows + len(part)
            if parts > 1 and rows > self._job.layout.part_rows:
                break
        return parts > 1 and len(tasks) > _MANY_TASKS

    def __enter__(self) -> "TaskOrder":
        """Sort the rows, unless an earlier run has. Raises InputError."""
        with self._using():
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._database = sqlite3.connect(self._path)
            if not self._database.execute("PRAGMA user_version").fetchone()[0]:
                self._sort()
            (self.done,) = self._database.execute("SELECT count(*) FROM outcomes").fetchone()
            names = self._database.execute("SELECT DISTINCT arithmetic FROM outcomes WHERE arithmetic != ''")
            self.arithmetic = {name for (name,) in names}
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def slices(self) -> Iterator[TaskSlice]:
        """Yield the rows without an outcome, in order. The slices have numbers of their own."""
        most, begin = self._job.layout.part_rows, self.done
        with self._using():
            cursor = self._database.execute(_IN_ORDER, (begin,))
            while rows := cursor.fetchmany(most):
                yield self._slice(rows, begin // most)
                begin += len(rows)

    def save(self, part: TaskSlice, scored: Sequence[Scored]) -> None:
        """Keep the outcomes of a slice durably. Raises InputError."""
        cells = [json.dumps(_saved([outcome])) for outcome in scored]
        names = [outcome.arithmetic for outcome in scored]
        with self._using(), self._database:
            self._database.executemany(
                "INSERT INTO outcomes VALUES (?, ?, ?)", zip(part.rows, names, cells, strict=True)
            )
        self.done += len(part)

    def outcomes(self, part: Slice, first: int) -> list[Scored]:
        """Return the outcomes of a slice of a source; first: the number of its first row in the job, from 0."""
        with self._using():
            found = self._database.execute(
                "SELECT cells FROM outcomes WHERE n >= ? AND n < ? ORDER BY n", (first, first + len(part))
            ).fetchall()
        return [outcome for (cells,) in found for outcome in _loaded(json.loads(cells))]

    def remove(self) -> None:
        """Remove the file: all parts are written."""
        with self._using():
            self._path.unlink()

    def _sort(self) -> None:
        self._database.executescript("DROP TABLE IF EXISTS rows; DROP TABLE IF EXISTS outcomes;" + _TABLES)
        first = 0
        with self._database:
            for part in read_slices(self._job, JobState()):
                rows = (self._row(part, place, first + place) for place in range(len(part)))
                self._database.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
                first += len(part)
            self._database.execute("CREATE INDEX in_order ON rows (task, size)")
            self._database.execute(_ROWS_ARE_SORTED)

    def _row(self, part: Slice, place: int, n: int) -> tuple[Any, ...]:
        """Return a row of the table; a text that is not bytes is among the cells, since JSON takes any letters."""
        task, text = part.tasks[place], part.texts[place]
        is_raw = isinstance(text, bytes)
        administration = part.kept["administration"][place] if "administration" in part.kept else None
        cells = json.dumps([task, part.ids[place], administration, None if is_raw else text])
        return n, to_bytes(task), len(text), part.index, part.lines[place], cells, text if is_raw else None

    def _slice(self, rows: Sequence[tuple[Any, ...]], number: int) -> TaskSlice:
        part = TaskSlice(self._job.sources[0], 0, number, FILE_START, FILE_START)
        administrations = []
        for n, source, line, cells, raw in rows:
            task, row_id, administration, text = json.loads(cells)
            part.rows.append(n)
            part.sources.append(self._job.sources[source].path)
            part.lines.append(line)
            part.tasks.append(task)
            part.ids.append(row_id)
            part.texts.append(text if raw is None else raw)
            administrations.append(administration)
        if "administration" in (self._job.layout.keep or ()):
            part.kept["administration"] = administrations
        return part

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"{self._path} cannot be used: {error}; make room and re-run the command, or remove the file's "
                "folder and score again"
            ) from error


def _saved(scored: Sequence[Scored]) -> dict[str, list[Any]]:
    """Return outcomes as columns for JSON, with those of an item's traits and total."""
    named = {"task": [row.task for row in scored], "arithmetic": [row.arithmetic for row in scored]}
    parts = [_saved(row.parts) if row.parts else None for row in scored]
    return {**named, **columns_of(scored), "parts": parts}


def _loaded(columns: Mapping[str, Sequence[Any]]) -> list[Scored]:
    """Return the outcomes that `_saved` gave columns of."""
    outcomes = []
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        low, high, parts = row["level_low"], row["level_high"], _loaded(row["parts"] or {})
        known = {field.name: row[field.name] for field in fields(Scored) if field.name in row}
        known["status"], known["probabilities"] = Status(row["status"]), tuple(row["probabilities"])
        outcome = Scored(**known, level_range=None if low is None else (low, high))
        outcomes.append(outcome.with_parts(parts) if parts else outcome)
    return outcomes
