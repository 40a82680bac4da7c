"""Prints the progress of a job and its result."""

import time
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from scoremux_batch.job import Job
from scoremux_batch.journal import JobState
from scoremux_batch.sources import SourceFile
from scoremux_client.contract import MACHINE
from scoremux_files.rows.readers import read_records
from scoremux_files.terminal import counted, print_table

_EVERY_S = 10.0
_FIRST_ROWS = 100
_MOST_TASKS, _MOST_SHOWN = 40, 10


class ProgressReport:
    """Shows a bar on a terminal and prints a line now and then elsewhere. A context manager; call it as a `Progress`.

    Progress is in bytes of the sources, which need no counting.
    """

    def __init__(self, console: Console, job: Job, state: JobState) -> None:
        self._console, self._job = console, job
        self._starts = [0, *accumulate(source.size for source in job.sources)]
        self._total = self._starts[-1] or 1
        self._started = self._printed_at = time.monotonic()
        self._rows_before, self._bytes_before = state.rows, self._bytes(state)
        self._first_bytes = self._bytes_of_first_rows()
        columns = (TextColumn("scoring"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("scoring", total=self._total, note="")

    def __call__(self, state: JobState, ahead: int) -> None:
        """Show that `ahead` rows more than the state says have an outcome."""
        now, rows = time.monotonic(), state.rows + ahead
        if not self._console.is_terminal and now - self._printed_at < _EVERY_S:
            return
        self._printed_at = now
        read_bytes = self._bytes(state)
        a_row_bytes = read_bytes / state.rows if state.rows else self._first_bytes
        read_bytes += int(ahead * a_row_bytes)  # an estimate, until the part is written
        rate = (rows - self._rows_before) / max(now - self._started, 1e-9)
        note = f"{rows:,} rows, {rate:,.0f} rows/s"
        self._bar.update(self._task, completed=read_bytes, note=note)
        if not self._console.is_terminal:
            gained = read_bytes - self._bytes_before
            left_s = (now - self._started) * (self._total - read_bytes) / gained if gained > 0 else 0.0
            left = f", about {left_s:,.0f} s left" if left_s > 0 else ""
            self._console.print(f"{read_bytes / self._total:.0%}, {note}{left}")

    def __enter__(self) -> "ProgressReport":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _bytes(self, state: JobState) -> int:
        if state.source >= len(self._job.sources):
            return self._starts[-1]
        source = self._job.sources[state.source]
        return self._starts[state.source] + int(state.position.offset * _bytes_of_step(source))

    def _bytes_of_first_rows(self) -> float:
        """Return how many bytes a row has, by the first rows of the first file; 0 where it has none."""
        records = list(islice(read_records(Path(self._job.sources[0].path), self._job.layout), _FIRST_ROWS))
        read = records[-1].after.offset * _bytes_of_step(self._job.sources[0]) if records else 0.0
        return read / max(1, len(records))


@cache
def _bytes_of_step(source: SourceFile) -> float:
    """Return how many bytes one step of a position's offset is."""
    if not source.path.lower().endswith(".parquet"):
        return 1.0
    try:
        rows = pq.read_metadata(Path(source.path)).num_rows
    except (pa.ArrowException, OSError):
        rows = 0
    return float(source.size / max(1, rows))


def summarise(console: Console, state: JobState, new_rows: int, wall_s: float) -> None:
    """Print the rows by outcome, and how fast this run was."""
    statuses = state.statuses
    _print_table(console, ("status", "rows"), ((status, f"{rows:,}") for status, rows in sorted(statuses.items())))
    _print_tasks(console, state, sorted(statuses))
    _print_people(console, state)
    speed = f"{counted(new_rows, 'row')} in {wall_s:.1f} s ({new_rows / max(wall_s, 1e-9):,.0f} rows/s)"
    console.print(speed, soft_wrap=True)


def print_rejected(console: Console, rows: Iterable[dict[str, Any]]) -> None:
    for row in islice(rows, _MOST_SHOWN):
        place = row["source"] if row["line"] is None else f"{row['source']}, line {row['line']}"
        console.print(f"{place}: {row['reason']}", soft_wrap=True, markup=False)


def _print_tasks(console: Console, state: JobState, statuses: list[str]) -> None:
    largest = sorted(state.counts, key=lambda task: (-state.counts[task].total(), task))
    rows = [(task, *(f"{state.counts[task][status]:,}" for status in statuses)) for task in largest[:_MOST_TASKS]]
    if rows:
        _print_table(console, ("task", *statuses), sorted(rows))
    if len(largest) > _MOST_TASKS:
        console.print(f"and {len(largest) - _MOST_TASKS:,} tasks more")


def _print_people(console: Console, state: JobState) -> None:
    """Print who goes where and why: routes, conditions, what people score too, and whose text was cut."""
    if set(state.people.get("route", {})) <= {MACHINE} and not (
        state.people.get("read behind") or state.people.get("text")
    ):
        return
    rows = [
        (name if kind == "route" else f"{kind} {name}", f"{count:,}", f"{count / max(1, state.statuses.total()):.1%}")
        for kind, counts in state.people.items()
        for name, count in sorted(counts.items())
    ]
    _print_table(console, ("goes to", "rows", "share"), rows)


def _print_table(console: Console, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table whose first column is text and whose other columns are numbers."""
    print_table(console, names, rows, numbers=names[1:])
