"""What is said of a job when it ends."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scoremux_cli.batch.journal import Done
from scoremux_cli.batch.latency import Latencies
from scoremux_cli.batch.parts import REJECTED
from scoremux_cli.batch.repeats import Repeats

_MOST_TASKS = 40
MOST_SHOWN = 10


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
    said = f"{new_rows:,} rows in {wall_s:.1f} s ({new_rows / max(wall_s, 1e-9):,.0f} rows/s)"
    if not math.isnan(latencies.quantile_s(0.5)):
        said += f"; a request took {latencies.quantile_s(0.5):.3g} s p50, {latencies.quantile_s(0.95):.3g} s p95"
    console.print(said, soft_wrap=True, highlight=False)


def rejected_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what was rejected so far: source, line, reason."""
    for path in sorted((folder / REJECTED).glob("part-*.jsonl")):
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def say_rejected(console: Console, rows: Iterable[dict[str, Any]]) -> None:
    """Print the first of the rejected rows."""
    for row in islice(rows, MOST_SHOWN):
        place = row["source"] if row["line"] is None else f"{row['source']}, line {row['line']}"
        console.print(f"{place}: {row['reason']}", soft_wrap=True, markup=False, highlight=False)


def say_repeats(console: Console, repeats: Repeats) -> None:
    """Print how many ids are there more than once, if any."""
    if repeats.ids:
        console.print(f"{repeats.ids:,} ids are there more than once, in {repeats.rows:,} rows", highlight=False)


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
