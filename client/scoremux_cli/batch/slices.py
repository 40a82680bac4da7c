"""Slices of a job's files: the rows of one part, a function of the file and of where the slice begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scoremux_cli.batch.journal import Job
from scoremux_files.rows.readers import read_records
from scoremux_files.rows.records import FILE_START, ReadPosition, Record, RowLayout


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be sent, and why. line: from 1; for Parquet the row; None: the file as a whole."""

    line: int | None
    reason: str


@dataclass
class Slice:
    """Rows in order as columns, what was rejected among them, and where the next slice begins.

    Attributes:
        ids: Ids of the rows.
        tasks: Their task ids.
        texts: Their texts, until they are sent.
        lines: Their lines in the file.
        rejected: Rows that cannot be sent.
        text_bytes: Length of the texts.
        after: Where the next slice begins.
        done: Whether the file ends here.
    """

    ids: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    texts: list[str | bytes] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    text_bytes: int = 0
    after: ReadPosition = FILE_START
    done: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, record: Record, layout: RowLayout) -> None:
        """Add a record as a row, or to what is rejected. A row without an id gets its number in the whole job."""
        self.after = record.after
        reason = record.reason or _refusal(record, layout)
        if reason or record.line is None:
            self.rejected.append(Rejected(record.line, reason))
            return
        row_id, text = record.values.get(layout.id), record.values[layout.text]
        self.ids.append(str(record.after.row) if row_id is None or row_id == "" else str(row_id))
        self.tasks.append(record.values[layout.task])
        self.texts.append(text)
        self.lines.append(record.line)
        self.text_bytes += len(text)

    def full(self, layout: RowLayout) -> bool:
        """Whether the next slice begins."""
        return len(self.ids) + len(self.rejected) >= layout.part_rows or self.text_bytes >= layout.part_bytes


def slices_of(path: Path, layout: RowLayout, start: ReadPosition) -> Iterator[Slice]:
    """Yield the slices of one file from `start` on. Raises InputError."""
    part = Slice(after=start)
    for record in read_records(path, layout, start):
        part.add(record, layout)
        if part.full(layout):
            yield part
            part = Slice(after=record.after)
    part.done = True
    yield part


def read_source(job: Job, index: int, start: ReadPosition) -> Iterator[Slice]:
    """Yield the slices of one source from `start` on. Raises InputError if it has changed."""
    source = job.sources[index]
    source.check()
    for part in slices_of(Path(source.path), job.layout, start):
        if part.done:
            source.check()
        yield part


def read_slices(job: Job, source: int = 0, start: ReadPosition = FILE_START) -> Iterator[tuple[int, Slice]]:
    """Yield the slices of all sources with the source's index. Raises InputError if a source has changed."""
    for index in range(source, len(job.sources)):
        for part in read_source(job, index, start):
            yield index, part
            start = part.after
        start = ReadPosition(row=start.row)


def _refusal(record: Record, layout: RowLayout) -> str:
    for name, kinds in ((layout.task, (str,)), (layout.text, (str, bytes))):
        value = record.values.get(name)
        if not isinstance(value, kinds):
            return f"no {name}" if value is None else f"{name} is not text"
    row_id = record.values.get(layout.id)
    fits = row_id is None or isinstance(row_id, (str, int, float))
    return "" if fits else f"{layout.id} is neither text nor a number"
