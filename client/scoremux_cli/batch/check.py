"""A dry run: everything is read and counted, nothing is sent."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from scoremux_cli.batch.job import read_slices
from scoremux_cli.batch.journal import Job
from scoremux_cli.batch.summary import MOST_REJECTED, say_rejected
from scoremux_client.contract import TASK_PATTERN


def check(console: Console, job: Job) -> int:
    """Print rows by file and task, and what would be rejected; return how many rows those are."""
    rows: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []
    rejected = 0
    for index, part in read_slices(job):
        path = job.sources[index].path
        rows[path] += len(part)
        tasks.update(part.tasks)
        rejected += len(part.rejected)
        room = MOST_REJECTED - len(bad)
        bad += [{"source": path, "line": r.line, "reason": r.reason} for r in part.rejected[:room]]
    for name, counts in (("file", rows), ("task", tasks)):
        table = Table(name, "rows")
        table.columns[1].justify = "right"
        for key, count in sorted(counts.items()):
            table.add_row(key, f"{count:,}")
        console.print(table)
    for task in sorted(tasks):
        if not TASK_PATTERN.fullmatch(task):
            console.print(f"{task[:60]!r} is no task id; its rows get INVALID_TASK", markup=False, soft_wrap=True)
    console.print(f"{rows.total():,} rows in {len(job.sources):,} files, {rejected:,} rejected", highlight=False)
    if rejected:
        say_rejected(console, bad)
    return rejected
