"""What a job prints: its progress, its result, and what a dry run finds."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from scoremux_cli.batch.job_client import Latencies
from scoremux_cli.batch.journal import NO_TASK, Done, Job, tally_name
from scoremux_cli.batch.parts import REJECTED
from scoremux_cli.batch.slices import read_slices
from scoremux_cli.batch.sources import Source
from scoremux_client.contract import MACHINE

_EVERY_S = 10.0
_MOST_TASKS, _MOST_SHOWN = 40, 10


class ProgressReport:
    """Shows a bar on a terminal and prints a line now and then elsewhere. A context manager; call it as a `Progress`.

    Progress is in bytes of the sources, which need no counting.
    """

    def __init__(self, console: Console, job: Job, done: Done) -> None:
        self._console, self._job = console, job
        self._before = [0]
        for source in job.sources:
            self._before.append(self._before[-1] + source.size)
        self._lengths: dict[str, int] = {}
        self._started = self._said_at = time.monotonic()
        self._rows_before, self._bytes_before = done.rows, self._bytes(done)
        columns = (TextColumn("scoring"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("scoring", total=self._before[-1] or 1, note="")

    def __call__(self, done: Done, ahead: int) -> None:
        """Show that `ahead` rows have an outcome beyond what is done."""
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said_at < _EVERY_S:
            return
        self._said_at = now
        rows, seen = done.rows + ahead - self._rows_before, self._bytes(done)
        if done.rows:
            seen += ahead * (seen // done.rows)  # a guess, until the part is written
        rate = rows / max(now - self._started, 1e-9)
        note = f"{done.rows + ahead:,} rows, {rate:,.0f} rows/s"
        self._bar.update(self._task, completed=seen, note=note)
        if not self._console.is_terminal:
            gained, total = seen - self._bytes_before, self._before[-1] or 1
            left_s = (now - self._started) * (total - seen) / gained if gained > 0 else 0.0
            left = f", about {left_s:,.0f} s left" if left_s > 0 else ""
            self._console.print(f"{seen / total:.0%}, {note}{left}", highlight=False)

    def __enter__(self) -> ProgressReport:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _bytes(self, done: Done) -> int:
        if done.source >= len(self._job.sources):
            return self._before[-1]
        source = self._job.sources[done.source]
        return self._before[done.source] + int(done.place.offset * self._unit(source))

    def _unit(self, source: Source) -> float:
        """Return how many bytes one step of a place's offset is."""
        if source.kind != ".parquet":
            return 1.0
        if source.path not in self._lengths:
            try:
                self._lengths[source.path] = pq.read_metadata(Path(source.path)).num_rows
            except (pa.ArrowException, OSError):
                self._lengths[source.path] = 0
        return source.size / max(1, self._lengths[source.path])


def summarise(console: Console, done: Done, new_rows: int, wall_s: float, latencies: Latencies) -> None:
    """Print rows by status and task, and how fast this run was."""
    statuses: Counter[str] = Counter()
    for counts in done.counts.values():
        statuses.update(counts)
    table = Table("status", "rows")
    table.columns[1].justify = "right"
    for status, rows in sorted(statuses.items()):
        table.add_row(status, f"{rows:,}")
    console.print(table)
    _tasks(console, done, sorted(statuses))
    _people(console, done)
    said = f"{new_rows:,} rows in {wall_s:.1f} s ({new_rows / max(wall_s, 1e-9):,.0f} rows/s)"
    if not math.isnan(latencies.quantile_s(0.5)):
        said += f"; a request took {latencies.quantile_s(0.5):.3g} s p50, {latencies.quantile_s(0.95):.3g} s p95"
    console.print(said, soft_wrap=True, highlight=False)


def rejected_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what was rejected so far: source, line, reason."""
    for path in sorted((folder / REJECTED).glob("part-*.jsonl")):
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def print_rejected(console: Console, rows: Iterable[dict[str, Any]]) -> None:
    """Print the first of the rejected rows."""
    for row in islice(rows, _MOST_SHOWN):
        place = row["source"] if row["line"] is None else f"{row['source']}, line {row['line']}"
        console.print(f"{place}: {row['reason']}", soft_wrap=True, markup=False, highlight=False)


def _tasks(console: Console, done: Done, statuses: list[str]) -> None:
    table = Table("task", *statuses)
    for column in table.columns[1:]:
        column.justify = "right"
    largest = sorted(done.counts, key=lambda task: (-sum(done.counts[task].values()), task))
    for task in sorted(largest[:_MOST_TASKS]):
        table.add_row(task, *(f"{done.counts[task].get(status, 0):,}" for status in statuses))
    if table.row_count:
        console.print(table)
    if len(largest) > _MOST_TASKS:
        console.print(f"and {len(largest) - _MOST_TASKS:,} tasks more")


def _people(console: Console, done: Done) -> None:
    """Print who goes where and why: routes, conditions, and what people score too."""
    routes = done.people.get("route", {})
    if set(routes) <= {MACHINE}:
        return
    table = Table("goes to", "rows", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    for kind, rows_of in done.people.items():
        for name, rows in sorted(rows_of.items()):
            said = name if kind == "route" else f"{kind} {name}"
            table.add_row(said, f"{rows:,}", f"{rows / max(1, done.rows):.1%}")
        table.add_section()
    console.print(table)


def check(console: Console, job: Job) -> int:
    """Read everything, send nothing, and print rows by file and task; return how many rows are rejected."""
    rows: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []
    rejected = 0
    for index, part in read_slices(job):
        path = job.sources[index].path
        rows[path] += len(part)
        for task, count in Counter(part.tasks).items():
            tasks[tally_name(task, tasks)] += count
        rejected += len(part.rejected)
        room = _MOST_SHOWN - len(bad)
        bad += [{"source": path, "line": r.line, "reason": r.reason} for r in part.rejected[:room]]
    for name, counts in (("file", rows), ("task", tasks)):
        table = Table(name, "rows")
        table.columns[1].justify = "right"
        for key, count in sorted(counts.items()):
            table.add_row(key, f"{count:,}")
        console.print(table)
    if tasks[NO_TASK]:
        said = f"{tasks[NO_TASK]:,} rows have no task id in {job.layout.task}, and get INVALID_TASK"
        console.print(said, markup=False, soft_wrap=True, highlight=False)
    console.print(f"{rows.total():,} rows in {len(job.sources):,} files, {rejected:,} rejected", highlight=False)
    if rejected:
        print_rejected(console, bad)
    return rejected
