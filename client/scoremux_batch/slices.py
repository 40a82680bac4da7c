"""Slices of a job's files: the rows of one part, a function of the file and of where the slice begins."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scoremux_batch.job import Job
from scoremux_batch.journal import JobState
from scoremux_batch.sources import SourceFile
from scoremux_files.rows.readers import cell_text, read_records
from scoremux_files.rows.row_layout import FILE_START, Json, ReadPosition, Record, RowLayout


@dataclass
class Slice:
    """The rows of one part in order, as columns, and the rejected ones.

    Attributes:
        index: Place of the source among the job's sources.
        after: Where the next slice begins.
        texts: Texts of the rows, until they are sent.
        lines: Lines of the rows in the file.
        rejected: Rows that cannot be sent: source, line (None for the file as a whole) and reason, never the text.
        students: Who wrote each row; None where no column says it.
        kept: Cells of the columns that the output gets, by name.
    """

    source: SourceFile
    index: int
    number: int
    start: ReadPosition
    after: ReadPosition
    ends_file: bool = False
    ids: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    texts: list[str | bytes] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    rejected: list[Json] = field(default_factory=list)
    text_bytes: int = 0
    students: list[str | None] = field(default_factory=list)
    kept: dict[str, list[str | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def filled(self) -> bool:
        """Whether it becomes a part."""
        return bool(self.ids or self.rejected)

    def add(self, record: Record, layout: RowLayout) -> None:
        """Add a record to the rows or to the rejected ones. A row without an id gets its number in the whole job."""
        self.after = record.after
        reason = record.reason or _refusal(record, layout)
        if reason or record.line is None:
            self.rejected.append({"source": self.source.path, "line": record.line, "reason": reason})
            return
        row_id, text = record.values.get(layout.id), record.values[layout.text]
        self.ids.append(str(record.after.row) if row_id is None or row_id == "" else str(row_id))
        self.tasks.append(record.values[layout.task])
        self.texts.append(text)
        self.lines.append(record.line)
        self.students.append(cell_text(record.values.get(layout.student)) if layout.student else None)
        for name in layout.keep or ():
            self.kept.setdefault(name, []).append(cell_text(record.values.get(name)))
        self.text_bytes += len(text)

    def take(self, places: Sequence[int], rejected: list[Json]) -> "Slice":
        """Return some of its rows, with other rejected ones."""
        columns: dict[str, Any] = {"kept": {}}
        for name in ("ids", "tasks", "texts", "lines", "students"):
            column = getattr(self, name)
            columns[name] = [column[place] for place in places] if column else []  # texts, once they are sent
        for name, cells in self.kept.items():
            columns["kept"][name] = [cells[place] for place in places]
        return replace(self, **columns, rejected=rejected)

    def full(self, layout: RowLayout) -> bool:
        """Whether the next slice begins."""
        return len(self.ids) + len(self.rejected) >= layout.part_rows or self.text_bytes >= layout.part_bytes

    def name_of(self, row: int) -> Json:
        """Return the key of a row: source, line, id, task, and the administration where there is one."""
        of = {"administration": self.kept["administration"][row]} if "administration" in self.kept else {}
        return {"source": self.source.path, "line": self.lines[row], "id": self.ids[row], "task": self.tasks[row], **of}

    def resume(self) -> Json:
        """Return where a job resumes after it, for the journal."""
        position = ReadPosition(row=self.after.row) if self.ends_file else self.after
        return {"source": self.index + self.ends_file, "position": position._asdict()}


def read_slices(job: Job, state: JobState) -> Iterator[Slice]:
    """Yield the slices that are not done, in the order of the sources. Raises InputError if a source has changed."""
    number, start = state.parts, state.position
    for index in range(state.source, len(job.sources)):
        for part in read_source(job, index, start, number):
            number, start = number + part.filled, part.after
            yield part
        start = ReadPosition(row=start.row)


def read_source(job: Job, index: int, start: ReadPosition = FILE_START, number: int = 0) -> Iterator[Slice]:
    """Yield the slices of one source.

    Args:
        index: Place of the source among the job's sources.
        number: The number of the first part.

    Raises:
        InputError: the source cannot be read, or has changed since the job began.
    """
    source, layout = job.sources[index], job.layout
    source.check()
    part = Slice(source, index, number, start, start)
    for record in read_records(Path(source.path), layout, start):
        part.add(record, layout)
        if part.full(layout):
            yield part
            number, start = number + part.filled, record.after
            part = Slice(source, index, number, start, start)
    source.check()
    part.ends_file = True
    yield part


def _refusal(record: Record, layout: RowLayout) -> str:
    for name, kinds in ((layout.task, (str,)), (layout.text, (str, bytes))):
        value = record.values.get(name)
        if name not in record.values or not isinstance(value, kinds):
            return f"no {name}" if value is None else f"{name} is not text"
    for column in (layout.id, layout.student, *(layout.keep or ())):
        if column and not isinstance(record.values.get(column), (str, int, float, type(None))):
            return f"{column} is neither text nor a number"
    return ""
