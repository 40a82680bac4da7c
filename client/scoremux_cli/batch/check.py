"""A dry run: everything is read and counted, nothing is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice, repeat
from typing import Any

from rich.console import Console
from rich.table import Table

from scoremux_cli.batch.job import read_slices
from scoremux_cli.batch.journal import Job
from scoremux_cli.batch.repeats import Repeats
from scoremux_cli.batch.summary import MOST_SHOWN, say_rejected, say_repeats
from scoremux_cli.batch.tally import NO_TASK, tally_name


def check(console: Console, job: Job) -> int:
    """Print rows by file and task, what would be rejected and which ids repeat; return how many rows are rejected."""
    with Repeats() as repeats:
        rejected = _count(console, job, repeats)
        repeats.close()
        say_repeats(console, repeats)
        for row in islice(_repeated(job, repeats), MOST_SHOWN):
            console.print(f"{row['source']}, line {row['line']}: id {row['id']!r}", markup=False, soft_wrap=True)
    return rejected


def _repeated(job: Job, repeats: Repeats) -> Iterator[dict[str, Any]]:
    if repeats.ids:
        for index, part in read_slices(job):
            yield from repeats.among(part.ids, repeat(job.sources[index].path, len(part)), part.lines)


def _count(console: Console, job: Job, repeats: Repeats) -> int:
    rows: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []
    rejected = 0
    for index, part in read_slices(job):
        path = job.sources[index].path
        rows[path] += len(part)
        for task, count in Counter(part.tasks).items():
            tasks[tally_name(task, tasks)] += count
        repeats.add(part.ids)
        rejected += len(part.rejected)
        room = MOST_SHOWN - len(bad)
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
        say_rejected(console, bad)
    return rejected
