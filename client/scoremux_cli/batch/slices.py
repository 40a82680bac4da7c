"""Slices of a job's files: the rows of one part, a function of the file and of where the slice begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scoremux_cli.batch.journal import Job
from scoremux_client.errors import InputError
from scoremux_files.rows.readers import READERS
from scoremux_files.rows.row_layout import Layout, Place, Record


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be sent, and why. line: from 1; for Parquet the row; None: the file as a whole."""

    line: int | None
    reason: str


@dataclass
class Slice:
    """Rows in order as columns, what was rejected among them, and where the next slice begins. done: the file ends."""

    ids: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    texts: list[str | bytes] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    text_bytes: int = 0
    after: Place = field(default_factory=Place)
    done: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, record: Record, layout: Layout, number: int) -> None:
        """Add a record as a row, or to what is rejected. number: its place in the whole job, its id if it has none."""
        reason = record.reason or _unfit(record, layout)
        if reason or record.line is None:
            self.rejected.append(Rejected(record.line, reason))
            return
        given, text = record.values.get(layout.id), record.values[layout.text]
        self.ids.append(str(number) if given is None or given == "" else str(given))
        self.tasks.append(record.values[layout.task])
        self.texts.append(text)
        self.lines.append(record.line)
        self.text_bytes += len(text)

    def full(self, layout: Layout) -> bool:
        """Whether the next slice begins."""
        return len(self.ids) + len(self.rejected) >= layout.part_rows or self.text_bytes >= layout.part_bytes


def slices_of(path: Path, layout: Layout, place: Place) -> Iterator[Slice]:
    """Yield the slices of one file from `place` on. Raises OSError."""
    part, after = Slice(), place
    for record in READERS[path.suffix.lower()](path, layout, place):
        rows = after.row + (record.rows if record.line is not None else 0)
        part.take(record, layout, rows)
        after = Place(record.next_offset, record.next_line, rows)
        if part.full(layout):
            part.after = after
            yield part
            part = Slice()
    part.after, part.done = after, True
    yield part


def read_source(job: Job, index: int, place: Place) -> Iterator[Slice]:
    """Yield the slices of one source from `place` on. Raises InputError if it has changed."""
    source = job.sources[index]
    source.check()
    try:
        for part in slices_of(Path(source.path), job.layout, place):
            if part.done:
                source.check()
            yield part
    except OSError as error:
        raise InputError(f"{source.path} cannot be read: {error.strerror or error}") from error


def read_slices(job: Job, source: int = 0, place: Place | None = None) -> Iterator[tuple[int, Slice]]:
    """Yield the slices of all sources with the source's index. Raises InputError if a source has changed."""
    place = place or Place()
    for index in range(source, len(job.sources)):
        for part in read_source(job, index, place):
            yield index, part
            place = part.after
        place = Place(row=place.row)


def _unfit(record: Record, layout: Layout) -> str:
    for name, kinds in ((layout.task, (str,)), (layout.text, (str, bytes))):
        value = record.values.get(name)
        if not isinstance(value, kinds):
            return f"no {name}" if value is None else f"{name} is not text"
    given = record.values.get(layout.id)
    return "" if given is None or isinstance(given, (str, int, float)) else f"{layout.id} is neither text nor a number"
