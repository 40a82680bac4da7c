"""What is seen of a job while it runs: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from scoremux_cli.batch.journal import Done, Job
from scoremux_cli.batch.sources import Source

_EVERY_S = 10.0


class Shown:
    """A context manager; call it as a job's `Progress`. Progress is in bytes of the sources, which need no counting."""

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

    def __enter__(self) -> Shown:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def _bytes(self, done: Done) -> int:
        if done.source >= len(self._job.sources):
            return self._before[-1]
        source = self._job.sources[done.source]
        return self._before[done.source] + int(done.place.offset * self._unit(source))

    def _unit(self, source: Source) -> float:
        """Return the bytes that one step of a place's offset stands for."""
        if source.kind != ".parquet":
            return 1.0
        if source.path not in self._lengths:
            try:
                self._lengths[source.path] = pq.read_metadata(Path(source.path)).num_rows
            except (pa.ArrowException, OSError):
                self._lengths[source.path] = 0
        return source.size / max(1, self._lengths[source.path])
